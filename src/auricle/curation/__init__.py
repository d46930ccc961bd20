"""Curating speech data: pipelines of steps over manifest rows, run exactly once."""
