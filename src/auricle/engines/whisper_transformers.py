"""Whisper on transformers, for Hugging Face folders on machines without CTranslate2."""

from __future__ import annotations
