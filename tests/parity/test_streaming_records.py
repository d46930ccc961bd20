"""Streams say what NeMo's records say, for every committed checkpoint that streams."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamed import Streamed, until

from auricle import audio

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = sorted(p.name.split(".")[0] for p in (GOLDEN / "nemo").glob("*.stream.json"))
CLIPS = ("syllable", "phrase", "talk")
TOLERANCE = 1e-4  # of the largest value


@cache
def opened(name: str) -> tuple[Streamed, dict[str, Any]]:
    path = GOLDEN / "nemo" / f"{name}.nemo"
    records = json.loads(path.with_suffix(".stream.json").read_text(encoding="utf-8"))
    return Streamed(path), records


def clip_of(name: str) -> np.ndarray[Any, Any]:
    return audio.read(GOLDEN / "wav" / f"{name}.wav")


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_nemos_offline_forward(name: str) -> None:
    case, records = opened(name)
    seen = 0
    for context in case.config.att_context_size:
        record = records[f"s_{context[0]}_{context[1]}"]
        for clip in CLIPS:
            for head in case.model.heads:
                known = record[f"offline/{clip}"]["ctc" if head == "ctc" else "rnnt"]
                got = case.tokens(head, clip_of(clip), context, records.get("prompt"))
                assert got == case.expected(known, clip_of(clip))
                seen += len(got)
    assert seen > 50


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_nemos_stream(name: str) -> None:
    case, records = opened(name)
    for context in case.config.att_context_size:
        record = records[f"s_{context[0]}_{context[1]}"]
        for group in ("syllable", "talk+phrase"):
            for row, clip in enumerate(group.split("+")):
                frames = case.features(clip_of(clip)).shape[2]
                common = case.common_steps(frames, context)
                for head in case.model.heads if common else ():
                    found = record[f"{group}/pad0"]["ctc" if head == "ctc" else "rnnt"]
                    known = (found.get("rows") or found.get("argmax"))[row]
                    got = case.tokens(head, clip_of(clip), context, records.get("prompt"), seed=1)
                    expected = case.expected(known, clip_of(clip))
                    assert until(got, common) == until(expected, common)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_encodings_are_those_of_nemos_stream(name: str) -> None:
    case, _ = opened(name)
    compared = 0
    with np.load(GOLDEN / "nemo" / f"{name}.stream.npz") as arrays:
        for context in case.config.att_context_size:
            for group in ("syllable", "talk+phrase"):
                theirs = arrays[f"s_{context[0]}_{context[1]}/{group}/pad0/enc"]
                for row, clip in enumerate(group.split("+")):
                    frames = case.features(clip_of(clip))
                    common = case.common_steps(frames.shape[2], context)
                    got = case.encodings(frames, context)[:common].T.numpy()
                    gap = np.abs(got - theirs[row, :, :common]).max(initial=0.0)
                    assert gap <= TOLERANCE * np.abs(theirs).max()
                    compared += common
    assert compared > 0 or name == "streaming_regular"


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_encodings_are_those_of_nemos_offline_forward(name: str) -> None:
    case, _ = opened(name)
    with np.load(GOLDEN / "nemo" / f"{name}.ref.npz") as arrays:
        for context in case.config.att_context_size:
            for clip in CLIPS:
                theirs = arrays[f"s_{context[0]}_{context[1]}/offline/{clip}/enc"][0]
                got = case.encodings(case.features(clip_of(clip)), context).T.numpy()
                gap = np.abs(got - theirs[:, : got.shape[1]]).max()  # behind them it is padding
                assert gap <= TOLERANCE * np.abs(theirs).max()
