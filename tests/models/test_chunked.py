"""A stepped encoder is the offline one under the same mask, and NeMo's recorded streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auricle.checkpoints import load
from auricle.errors import ConfigError
from auricle.models.asr import ASR
from auricle.models.chunked import ChunkedEncoder, EncoderState, chunking
from auricle.models.conformer import ConformerConfig, ConformerEncoder
from tests.conftest import GOLDEN
from tests.models.test_goldens import STREAMED, committed_clips, model, samples

TOLERANCE = 1e-4
SHARED = ["streaming_rnnt_tiny", "streaming_ctc_tiny", "streaming_hybrid_tiny"]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def encoder_of(asr: ASR) -> ConformerEncoder:
    assert isinstance(asr.encoder, ConformerEncoder)
    return asr.encoder


def contexts_of(asr: ASR) -> tuple[tuple[int, ...], ...]:
    return encoder_of(asr).config.att_context_size


def walk(
    encoder: ChunkedEncoder, features: Tensor, frames: list[int], state: EncoderState
) -> Iterator[tuple[list[int], Tensor]]:
    """Step over all streams [B, M, T] to their ends; those that have ended drop out."""
    total = [encoder.steps_in(n) for n in frames]
    chunk = 0
    while True:
        done = chunk * encoder.chunking.steps - encoder.lag
        rows = [i for i, n in enumerate(total) if done < n]
        if not rows:
            return
        first = chunk * encoder.frames - encoder.lead
        window = torch.randn(len(features), features.shape[1], encoder.frames)  # must not matter
        low, high = max(first, 0), min(first + encoder.frames, features.shape[2])
        if low < high:
            window[:, :, low - first : high - first] = features[:, :, low:high]
        for row in rows:
            if first + encoder.frames > frames[row]:
                state.frames[row] = frames[row]
        yield rows, encoder.step(window[rows], state, rows)
        chunk += 1


def stepped(
    asr: ASR, features: Tensor, frames: list[int], context: tuple[int, ...]
) -> list[Tensor]:
    """The encodings [T, D] of each stream of a batch."""
    encoder = ChunkedEncoder(encoder_of(asr), context)
    outs: list[list[Tensor]] = [[] for _ in frames]
    for rows, encodings in walk(encoder, features, frames, encoder.initial_state(len(frames))):
        for row, out in zip(rows, encodings, strict=True):
            outs[row].append(out)
    return [
        torch.cat(out)[encoder.lag :][: encoder.steps_in(n)]
        for out, n in zip(outs, frames, strict=True)
    ]


def check_against_offline(asr: ASR, clips: list[Tensor], context: tuple[int, ...]) -> None:
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    features, frames = asr.features(batch, lengths)
    encodings, steps = asr.encoder(features, frames, context=context)
    outs = stepped(asr, features, frames.tolist(), context)
    for ours, theirs, n in zip(outs, encodings, steps.tolist(), strict=True):
        assert len(ours) == n
        assert (ours - theirs[:n]).abs().max() <= TOLERANCE * theirs[:n].abs().max()


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", STREAMED)
def test_committed_models_step_as_they_run_offline(name: str, fast: bool) -> None:
    asr = model(GOLDEN / "nemo" / f"{name}.nemo", fast=fast)
    talk = committed_clips()["talk"]
    clips = [*committed_clips().values(), talk[:1], talk[:200], talk[: 160 * 8], talk[: 160 * 9]]
    for context in contexts_of(asr):
        check_against_offline(asr, clips, context)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", SHARED)
def test_shared_models_step_as_they_run_offline(
    shared: Callable[[str], Path], name: str, fast: bool
) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    asr = model(path, fast=fast)
    wav = path.parents[1] / "wav"
    clips = [samples(wav / f"{clip}.wav") for clip in ("clone-test", "beckett")]
    for context in contexts_of(asr):
        check_against_offline(asr, clips, context)


@pytest.mark.parametrize("right", [13, 6, 1])
@pytest.mark.parametrize("name", SHARED)
def test_shared_models_step_as_nemo_recorded(
    shared: Callable[[str], Path], name: str, right: int
) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    asr = model(path, fast=False)
    clip = samples(path.parents[1] / "wav" / "beckett.wav")
    features, frames = asr.features(clip[None], torch.tensor([len(clip)]))
    (ours,) = stepped(asr, features, [int(frames[0]) + 1], (70, right))
    head = asr.heads[-1]
    with np.load(path.with_suffix(".ref.npz")) as reference:
        key = f"s_70_{right}/{head}/beckett/pad0"
        count = sum(k.startswith(f"{key}/") and k.endswith("/enc") for k in reference)
        assert count > 0
        theirs = torch.from_numpy(
            np.concatenate([reference[f"{key}/{i}/enc"][0].T for i in range(count)])
        )
    check_common(ours, theirs, (70, right))


@pytest.mark.parametrize("name", STREAMED)
def test_committed_models_step_as_nemo_recorded(name: str) -> None:
    asr, clips = model(GOLDEN / "nemo" / f"{name}.nemo", fast=False), committed_clips()
    config = encoder_of(asr).config
    checked = 0
    with np.load(GOLDEN / "nemo" / f"{name}.stream.npz") as reference:
        for context in contexts_of(asr):
            regular = config.att_context_style == "regular"
            if regular or (context[-1] == 0 and config.subsampling_factor == 8):
                continue  # NeMo lets zeros through biased convolutions: test_nemo_streaming_grid
            prefix = "s_" + "_".join(str(n) for n in context)
            for key in [k for k in reference if k.startswith(prefix) and k.endswith("pad0/enc")]:
                counts = reference[f"{key}_len"].sum(axis=0)
                for clip, theirs, n in zip(
                    key.split("/")[1].split("+"), reference[key], counts, strict=True
                ):
                    # NeMo's buffer counts the frame of zeros behind the last one.
                    features, frames = asr.features(
                        clips[clip][None], torch.tensor([len(clips[clip])])
                    )
                    (ours,) = stepped(asr, features, [int(frames[0]) + 1], context)
                    theirs = torch.from_numpy(theirs.T)[:n]
                    check_common(ours, theirs, context)
                    checked += 1
    assert checked >= 1 or config.att_context_style == "regular"


def check_common(ours: Tensor, theirs: Tensor, context: tuple[int, ...]) -> None:
    """NeMo leaves out up to seven last frames, and with them what their chunk sees of them."""
    assert len(ours) - 1 <= len(theirs) <= len(ours)
    chunk = context[-1] + 1
    n = len(ours) if len(theirs) == len(ours) else len(theirs) // chunk * chunk
    assert n > 0
    assert (ours[:n] - theirs[:n]).abs().max() <= TOLERANCE * theirs.abs().max()


@pytest.mark.parametrize("name", ["streaming_hybrid", "streaming_regular"])
def test_streams_join_move_and_leave_at_any_time(name: str) -> None:
    """Rows of one state at different places, some moved to other rows through saved tensors."""
    asr = model(GOLDEN / "nemo" / f"{name}.nemo", fast=True)
    generator = np.random.default_rng(0)
    talk = committed_clips()["talk"]
    for context in contexts_of(asr):
        encoder = ChunkedEncoder(encoder_of(asr), context)
        features, frames = asr.features(talk[None], torch.tensor([len(talk)]))
        (alone,) = stepped(asr, features, frames.tolist(), context)
        state = encoder.initial_state(3)
        steps: list[list[Tensor]] = [[], [], []]
        walks = [0, 0, 0]
        for _ in range(60):
            rows = [i for i in range(3) if generator.random() < 0.6]
            windows = []
            for row in rows:
                first = walks[row] * encoder.frames - encoder.lead
                window = torch.zeros(features.shape[1], encoder.frames)
                low, high = max(first, 0), min(first + encoder.frames, int(frames[0]))
                if low < high:
                    window[:, low - first : high - first] = features[0, :, low:high]
                if first + encoder.frames > int(frames[0]):
                    state.frames[row] = int(frames[0])
                windows.append(window)
                walks[row] += 1
            if rows:
                for row, out in zip(
                    rows, encoder.step(torch.stack(windows), state, rows), strict=True
                ):
                    steps[row].append(out)
            if generator.random() < 0.3:  # stream 0 and stream 2 exchange their rows
                tensors = {k: v.clone() for k, v in state.select([2, 0]).tensors().items()}
                state.put([0, 2], EncoderState.from_tensors(tensors))
                steps[0], steps[2] = steps[2], steps[0]
                walks[0], walks[2] = walks[2], walks[0]
        for out in steps:
            got = torch.cat(out)[encoder.lag :][: len(alone)]
            assert len(got) > 4
            assert (got - alone[: len(got)]).abs().max() <= 1e-5 * alone.abs().max()


def test_selecting_copies() -> None:
    asr = model(GOLDEN / "nemo" / "streaming_hybrid.nemo", fast=False)
    encoder = ChunkedEncoder(encoder_of(asr))
    state = encoder.initial_state(2)
    before = state.select([0, 1])
    encoder.step(torch.randn(2, 80, encoder.frames), state, [0, 1])
    assert all((t == 0).all() for n, t in before.tensors().items() if n.startswith("layers"))
    assert before.entered.tolist() == [0, 0]
    assert state.entered.tolist() == [encoder.chunking.steps] * 2


def test_selecting_on_another_device() -> None:
    """The counts are the host's, whatever the device of the rest; `meta` stands for a GPU."""
    encoder = ChunkedEncoder(
        encoder_of(model(GOLDEN / "nemo" / "streaming_hybrid.nemo", fast=False))
    )
    state = encoder.initial_state(3)
    state.entered[:] = [5, 6, 7]
    there = EncoderState(
        tuple(t.to("meta") for t in state.subsampling), (), state.entered, state.frames
    )
    picked = there.select([2, 0])
    assert picked.entered.tolist() == [7, 5]
    assert [t.device.type for t in picked.subsampling] == ["meta"] * len(state.subsampling)


def config(**changes: Any) -> ConformerConfig:
    known = load(GOLDEN / "nemo" / "streaming_hybrid.nemo").config.encoder
    assert isinstance(known, ConformerConfig)
    return replace(known, **changes)


def test_what_a_chunk_sees() -> None:
    known = config(att_context_size=((70, 13),))
    assert chunking(known).steps == 14
    assert chunking(known).before == 70
    assert chunking(known).lag == 0
    assert chunking(known, (70, 4)).before == 70
    assert chunking(known, (72, 4)).before == 70  # whole chunks alone
    regular = config(att_context_style="regular", att_context_size=((6, 2),))
    assert (chunking(regular).steps, chunking(regular).lag) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"causal_downsampling": False}, "subsampling looks ahead"),
        ({"subsampling": "stacking"}, "stacking"),
        ({"self_attention_model": "abs_pos"}, "abs_pos"),
        ({"att_context_size": ((-1, -1),)}, "no limits"),
        ({"att_context_size": ((-1, -1),), "att_context_style": "regular"}, "no limits"),
        ({"conv_context_size": None}, "beyond their chunk"),
        ({"conv_norm_type": "instance_norm"}, "all time"),
        ({"conv_norm_type": "group_norm4"}, "all time"),
        (
            {
                "att_context_style": "chunked_limited_with_rc",
                "att_context_size": ((-1, -1, -1),),
            },
            "overlap",
        ),
        ({"reduction": "pooling", "reduction_position": 1, "reduction_factor": 2}, "twice"),
    ],
)
def test_encoders_that_cannot_step_say_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        chunking(config(**changes))
