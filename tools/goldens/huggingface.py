"""Tiny Transformers checkpoints (placeholder)."""

GOLDENS: dict = {}
