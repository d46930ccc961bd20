"""Why NeMo's streams differ from NeMo's own offline forward: its grid, stepped with our weights.

Its records are reproduced step by step; with the causes removed, the same stepping gives the
offline encodings, which is what our own streams are held to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from auricle.checkpoints import build, load
from auricle.models.asr import ASR
from tests.models.nemo_grid import Caches, NemoGrid
from tests.models.test_goldens import samples

TOLERANCE = 1e-4  # of the largest value
SHARED = {
    "streaming_rnnt_tiny": "rnnt",
    "streaming_ctc_tiny": "ctc",
    "streaming_hybrid_tiny": "rnnt",
}
LOOKAHEADS = (13, 6, 1, 0)
FILES = {"beckett": "beckett.wav", "clone": "clone-test.wav"}
Find = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@cache
def opened(path: Path) -> tuple[ASR, dict[str, Any], dict[str, Any]]:
    with np.load(path.with_suffix(".ref.npz")) as arrays:
        steps = {key: value for key, value in arrays.items() if key.startswith("s_")}
    records = json.loads(path.with_suffix(".ref.json").read_text(encoding="utf-8"))
    return build(load(path)), steps, records["streaming"]


def frames_of(asr: ASR, clips: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Features [B, M, T] as NeMo's buffer holds them: the column behind the last frame counts."""
    rows = [asr.features(clip[None], torch.tensor([len(clip)]))[0][0].T for clip in clips]
    return pad_sequence(rows, batch_first=True).transpose(1, 2), torch.tensor(
        [len(r) for r in rows]
    )


def assert_close(ours: Tensor, theirs: np.ndarray[Any, Any], largest: float) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy() - theirs).max(initial=0.0) <= TOLERANCE * largest


def assert_caches(caches: Caches, steps: dict[str, Any], step: str) -> None:
    assert caches.filled.tolist() == steps[f"{step}/cache_len"].tolist()
    for ours, name in ((caches.attention, "channel"), (caches.time, "time")):
        theirs = steps[f"{step}/cache_last_{name}"]
        assert_close(ours, theirs, np.abs(theirs).max())


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("group", ["beckett", "beckett+clone"])
@pytest.mark.parametrize("right", LOOKAHEADS)
@pytest.mark.parametrize("name", SHARED)
def test_every_recorded_step(shared: Find, name: str, right: int, group: str, pad: int) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    asr, steps, records = opened(path)
    wav = path.parents[1] / "wav"
    frames = frames_of(asr, [samples(wav / FILES[clip]) for clip in group.split("+")])
    grid = NemoGrid(asr.encoder, (70, right))
    known = records[f"[70, {right}]"][f"{SHARED[name]}/{group}/pad{pad}"]
    key = f"s_70_{right}/{SHARED[name]}/{group}/pad{pad}"
    largest = max(np.abs(steps[f"{key}/{i}/enc"]).max() for i in range(len(known)))
    caches = grid.caches(len(frames[1]))
    chunks = list(grid.chunks(*frames, pad=bool(pad)))
    assert len(chunks) == len(known)
    for i, (chunk, step) in enumerate(zip(chunks, known, strict=True)):
        assert list(chunk.frames.shape) == step["chunk"]
        assert (chunk.lengths.tolist(), chunk.drop) == (step["chunk_len"], step["drop"])
        encodings, lengths, caches = grid.step(chunk, caches)
        assert lengths.tolist() == steps[f"{key}/{i}/enc_len"].tolist()
        assert_close(encodings.transpose(1, 2), steps[f"{key}/{i}/enc"], largest)
        if f"{key}/{i}/cache_len" in steps:
            assert_caches(caches, steps, f"{key}/{i}")


def offline_gap(asr: ASR, clip: Tensor, context: tuple[int, int], *, mended: bool) -> float:
    """How far the stepped encodings are from the offline ones, in parts of the largest value."""
    frames, lengths = asr.features(clip[None], torch.tensor([len(clip)]))
    frames = frames[:, :, : int(lengths[0])]
    grid = NemoGrid(asr.encoder, context, mend=mended)
    caches, parts = grid.caches(1), []
    for chunk in grid.chunks(frames, lengths, flush=True):
        encodings, _, caches = grid.step(chunk, caches)
        parts.append(encodings)
    offline, steps = asr.encoder(frames, lengths, context=context)
    stepped = torch.cat(parts, dim=1)
    assert stepped.shape[1] == int(steps[0])
    return float((stepped - offline[:, : int(steps[0])]).abs().max() / offline.abs().max())


@pytest.mark.parametrize("right", LOOKAHEADS)
@pytest.mark.parametrize("name", SHARED)
def test_without_the_causes_it_is_offline(shared: Find, name: str, right: int) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    asr, _, _ = opened(path)
    for file in FILES.values():
        clip = samples(path.parents[1] / "wav" / file)
        assert offline_gap(asr, clip, (70, right), mended=True) <= TOLERANCE
        if right == 0:
            # Only here is the second chunk longer than what came before it.
            assert offline_gap(asr, clip, (70, right), mended=False) > 10 * TOLERANCE
        else:
            assert offline_gap(asr, clip, (70, right), mended=False) <= TOLERANCE
