"""Whole models against what NeMo computed with the same checkpoints, plain and optimised."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auricle.checkpoints import build, load
from auricle.models.asr import ASR, optimise
from auricle.models.conformer import ConformerEncoder
from tests.conftest import GOLDEN

FEATURES = 1e-4
ENCODINGS = 1e-4  # of the largest value
LOGPROBS = 1e-3
COMMITTED = sorted(path.stem for path in (GOLDEN / "nemo").glob("*.nemo"))
STREAMED = sorted(path.name.split(".")[0] for path in (GOLDEN / "nemo").glob("*.stream.npz"))
SHARED = [
    "citrinet_tiny",
    "conformer_ctc_tiny",
    "conformer_rnnt_tiny",
    "fastconformer_hybrid_rnnt_ctc_tiny",
    "fastconformer_tdt_tiny",
    "long_ctc_tiny_local_global1",
    "quartznet_tiny_char",
    "streaming_hybrid_tiny",
]
CITIES17 = 17 * 16000 + 123  # samples of the shared two_cities.wav that its goldens use


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@cache
def model(path: Path, *, fast: bool) -> ASR:
    built = build(load(path))
    return optimise(built) if fast else built


@cache
def samples(path: Path) -> Tensor:
    with wave.open(str(path)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return torch.from_numpy(frames.astype(np.float32) / 32768)


def committed_clips() -> dict[str, Tensor]:
    folder = GOLDEN / "wav"
    return {name: samples(folder / f"{name}.wav") for name in ("syllable", "phrase", "talk")}


def encode(asr: ASR, *clips: Tensor, language: str | None = None) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    prompt = None
    if asr.config.prompt is not None:
        assert language is not None
        prompt = torch.full_like(lengths, asr.config.prompt.languages[language])
    return asr.encode(batch, lengths, prompt=prompt)


def assert_encodings(got: Any, expected: np.ndarray[Any, Any], lengths: list[int]) -> None:
    """`expected` [B, D, T] holds where the rows have steps."""
    encodings, steps = got
    # Without masks NeMo reports frames as if they were steps.
    assert steps.tolist() == [min(n, expected.shape[2]) for n in lengths]
    for ours, theirs, n in zip(encodings, expected, steps.tolist(), strict=True):
        theirs = torch.from_numpy(theirs[:, :n]).T
        assert (ours[:n] - theirs).abs().max() <= ENCODINGS * theirs.abs().max()


def language_of(path: Path) -> str | None:
    language = json.loads(path.with_suffix(".ref.json").read_text()).get("prompt")
    return None if language is None else str(language)


def check(asr: ASR, reference: Any, clips: dict[str, Tensor], language: str | None = None) -> None:
    for name, clip in clips.items():
        got = encode(asr, clip, language=language)
        assert_encodings(got, reference[f"{name}/enc"], reference[f"{name}/enc_len"].tolist())
        if f"{name}/feat" in reference:
            features, frames = asr.features(clip[None], torch.tensor([len(clip)]))
            assert frames.tolist() == reference[f"{name}/feat_len"].tolist()
            assert np.abs(features.numpy() - reference[f"{name}/feat"]).max() <= FEATURES
        logprobs = next((k for k in reference if k.startswith(name) and "logprobs" in k), None)
        if logprobs is not None:
            assert asr.ctc is not None
            n = int(got[1][0])
            ours = asr.ctc(got[0]).log_softmax(-1)[0, :n]
            assert np.abs(ours.numpy() - reference[logprobs][0, :n]).max() <= LOGPROBS
    if "batch/enc" in reference:
        lengths = reference["batch/enc_len"].tolist()
        got = encode(asr, *clips.values(), language=language)
        assert_encodings(got, reference["batch/enc"], lengths)


def check_lookaheads(asr: ASR, reference: Any, clips: dict[str, Tensor]) -> int:
    """Offline encodings of streaming models, which are recorded without a prompt."""
    keys = [k for k in reference if "/offline/" in k and k.endswith("/enc")]
    for key in keys:
        style, _, name, _ = key.split("/")
        context = tuple(int(n) for n in style.split("_")[1:])
        expected = reference[key]
        features, frames = asr.features(clips[name][None], torch.tensor([len(clips[name])]))
        encodings, steps = asr.encoder(features, frames, context=context)
        assert_encodings((encodings, steps), expected, steps.tolist())
    return len(keys)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", COMMITTED)
def test_committed_models(name: str, fast: bool) -> None:
    path = GOLDEN / "nemo" / f"{name}.nemo"
    with np.load(path.with_suffix(".ref.npz")) as reference:
        check(model(path, fast=fast), reference, committed_clips(), language_of(path))


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", STREAMED)
def test_every_lookahead(name: str, fast: bool) -> None:
    path = GOLDEN / "nemo" / f"{name}.nemo"
    asr, clips = model(path, fast=fast), committed_clips()
    assert isinstance(asr.encoder, ConformerEncoder)
    expected = len(clips) * len(asr.encoder.config.att_context_size)
    with np.load(path.with_suffix(".ref.npz")) as reference:
        assert check_lookaheads(asr, reference, clips) == expected


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", SHARED)
def test_shared_models(shared: Any, name: str, fast: bool) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    wav = path.parents[1] / "wav"
    clips = {
        "clone": samples(wav / "clone-test.wav"),
        "beckett": samples(wav / "beckett.wav"),
        "cities17": samples(wav / "two_cities.wav")[:CITIES17],
    }
    asr = model(path, fast=fast)
    with np.load(path.with_suffix(".ref.npz")) as reference:
        check(asr, reference, clips)
        assert check_lookaheads(asr, reference, clips) == (8 if "streaming" in name else 0)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", [n for n in COMMITTED if "rnnt" in n or "tdt" in n])
def test_transducers(name: str, fast: bool) -> None:
    path = GOLDEN / "nemo" / f"{name}.nemo"
    asr = model(path, fast=fast)
    if asr.predictor is None or asr.joint is None:
        pytest.fail(f"{name} has no transducer")
    reference = {k: torch.from_numpy(v) for k, v in np.load(path.with_suffix(".ref.npz")).items()}
    tokens = torch.tensor([[asr.blank_id, 1, 5, 9, 2, 7]])
    whole, _ = asr.predictor(tokens)
    assert torch.allclose(whole, reference["syllable/pred_out"], atol=1e-5)
    state, outs = asr.predictor.initial_state(1), []
    for token in tokens[0]:
        out, state = asr.predictor.step(token[None], state)
        outs.append(out)
    assert torch.allclose(torch.stack(outs, 1), reference["syllable/pred_out"], atol=1e-5)
    for i, part in enumerate(state):
        expected = reference[f"syllable/pred_state{i}"]
        assert torch.allclose(part.reshape(expected.shape).float(), expected.float(), atol=1e-5)
    first = reference["syllable/enc"][:, :, :10].transpose(1, 2)  # [1, 10, D]
    f, g = asr.joint.project_encodings(first), asr.joint.project_predictions(whole)
    scores = asr.joint(f[:, :, None], g[:, None]).log_softmax(-1)
    assert torch.allclose(scores, reference["syllable/joint_probe"], atol=LOGPROBS)
