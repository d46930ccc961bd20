"""Sounds in memory: read once, the oldest forgotten, and none of them sent along."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from auricle.training import kept
from auricle.training.kept import Kept


def test_a_sound_is_read_once_until_it_is_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "BYTES", 100)
    reads: list[str] = []

    def ask(sounds: Kept, key: str) -> None:
        sound = sounds.get(key, lambda: reads.append(key) or np.zeros(10, np.float32))
        assert sound.nbytes == 40

    sounds = Kept()
    for key in ("a", "b", "a", "c", "a", "b"):
        ask(sounds, key)
    assert reads == ["a", "b", "c", "b"]


def test_one_sound_may_be_larger_than_all_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "BYTES", 100)
    sounds, large = Kept(), np.zeros(1000, np.float32)
    assert sounds.get("large", lambda: large) is large
    assert sounds.get("large", lambda: pytest.fail("read again")) is large


def test_a_copy_for_a_worker_is_empty() -> None:
    sounds = Kept()
    sounds.get("a", lambda: np.zeros(10, np.float32))
    assert len(pickle.dumps(sounds)) < 100
