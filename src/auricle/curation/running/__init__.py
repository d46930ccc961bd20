"""What runs a pipeline exactly once: shards, journals, who is to blame, workers and their tasks."""
