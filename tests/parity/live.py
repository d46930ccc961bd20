"""Both sides of a comparison: a checkpoint in NeMo and in Auricle, on the same clips.

Tolerances are those of a right implementation in fp32: features 1e-4, encodings 1e-4 of the
largest value, tokens and times equal. They are never widened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from goldens import nemo_record
from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging
from omegaconf import open_dict

from auricle import checkpoints
from auricle.decoding import Hypothesis, ctc, transducer
from auricle.models.asr import ASR, optimise

nemo_logging.setLevel(nemo_logging.ERROR)
Samples = npt.NDArray[np.float32]
FEATURES = 1e-4
ENCODINGS = 1e-4  # of the largest value
SCORES = 1e-3


@dataclass
class Pair:
    """One checkpoint on both sides; `faster` is what inference really runs."""

    path: Path
    prompt: str | None = None
    theirs: Any = field(init=False)
    ours: ASR = field(init=False)
    faster: ASR = field(init=False)
    index: int | None = None

    def __post_init__(self) -> None:
        self.theirs = ASRModel.restore_from(str(self.path), map_location="cpu").eval()
        if self.theirs.cfg.decoding.get("durations"):
            decoding = self.theirs.cfg.decoding
            with open_dict(decoding):
                decoding.tdt_include_token_duration = True
            self.theirs.change_decoding_strategy(decoding, verbose=False)
        self.ours = checkpoints.build(checkpoints.load(self.path)).eval()
        self.faster = optimise(checkpoints.build(checkpoints.load(self.path)))
        prompt = self.ours.config.prompt
        if prompt is not None:
            self.prompt = self.prompt or next(iter(prompt.languages))
            self.index = prompt.languages[self.prompt]


def compare(pair: Pair, clips: Sequence[Samples]) -> int:
    """Each clip alone, then all in one batch; gives the number of tokens that were compared."""
    total = 0
    for clip in clips:
        total += _compare(pair, [clip])
    if padding_leaks(pair.theirs):
        _batch_like_singles(pair, clips)
    else:
        total += _compare(pair, clips)
    return total


def padding_leaks(model: Any) -> bool:
    """Whether NeMo's own result for a clip depends on what is beside it in the batch."""
    encoder = model.cfg.encoder
    norm = str(encoder.get("conv_norm_type", ""))
    return (
        norm.startswith(("group_norm", "instance_norm"))
        or encoder.get("subsampling", "").startswith("stacking")
        or encoder.get("conv_mask", True) is False
        or encoder.get("normalization_mode", "batch") != "batch"
        or encoder.get("global_tokens", 0) > 1
    )


@torch.inference_mode()
def _compare(pair: Pair, clips: Sequence[Samples]) -> int:
    features, feature_lengths, encoded, lengths = nemo_record.encode(pair.theirs, clips, pair.index)
    lengths = lengths.clamp(max=encoded.shape[-1])  # conv_mask false: still counted in frames
    samples, sample_lengths = _batch(clips)
    ours, our_lengths = pair.ours.features(samples, sample_lengths)
    assert our_lengths.tolist() == feature_lengths.tolist()
    for mine, other, length in zip(ours, features, feature_lengths.tolist(), strict=True):
        assert (mine[:, :length] - other[:, :length]).abs().max() < FEATURES
    for model in (pair.ours, pair.faster):
        encodings, steps = _encode(model, clips, pair.index)
        assert steps.tolist() == lengths.tolist()
        for mine, other, length in zip(encodings, encoded.transpose(1, 2), steps, strict=True):
            gap = (mine[:length] - other[:length]).abs().max()
            assert gap < ENCODINGS * other[:length].abs().max()
    total = 0
    if pair.ours.ctc is not None:
        total += _compare_ctc(pair, encoded, lengths, encodings)
    if pair.ours.joint is not None:
        total += _compare_transducer(pair, encoded, lengths, encodings)
    return total


def _compare_ctc(pair: Pair, encoded: Tensor, lengths: Tensor, encodings: Tensor) -> int:
    total = 0
    scores = nemo_record.ctc_scores(pair.theirs, encoded)
    logits = pair.faster.ctc(encodings).float()
    hyps, _ = ctc.greedy(logits, lengths)
    for row, (hyp, length) in enumerate(zip(hyps, lengths, strict=True)):
        gap = logits[row, :length].log_softmax(-1) - scores[row, :length]
        assert gap.abs().max() < SCORES
        ids, starts = _collapsed(scores[row, :length].argmax(-1).tolist(), pair.ours.blank_id)
        assert (list(hyp.ids), list(hyp.starts)) == (ids, starts)
        total += len(ids)
    return total


def _compare_transducer(pair: Pair, encoded: Tensor, lengths: Tensor, encodings: Tensor) -> int:
    total = 0
    theirs = nemo_record.transducer_hypotheses(pair.theirs, encoded, lengths)
    ours = _transduced(pair.faster, encodings, lengths)
    for row, (hyp, other) in enumerate(zip(ours, theirs, strict=True)):
        assert list(hyp.ids) == _list(other.y_sequence)
        assert list(hyp.starts) == _list(other.timestamp)
        if hyp.durations:
            # In a batch NeMo 3.0.0 gives a token the duration of another row's later blank.
            one = slice(row, row + 1)
            alone = nemo_record.transducer_hypotheses(pair.theirs, encoded[one], lengths[one])
            assert list(hyp.durations) == _list(alone[0].token_duration)
        total += len(hyp.ids)
    return total


@torch.inference_mode()
def _batch_like_singles(pair: Pair, clips: Sequence[Samples]) -> None:
    together, steps = _encode(pair.faster, clips, pair.index)
    for row, clip in enumerate(clips):
        alone, length = _encode(pair.faster, [clip], pair.index)
        assert steps[row] == length[0]
        gap = (together[row, : length[0]] - alone[0, : length[0]]).abs().max()
        assert gap < ENCODINGS * alone.abs().max()


def _encode(model: ASR, clips: Sequence[Samples], prompt: int | None) -> tuple[Tensor, Tensor]:
    samples, lengths = _batch(clips)
    index = None if prompt is None else torch.full((len(clips),), prompt)
    return model.encode(samples, lengths, prompt=index)


def _transduced(model: ASR, encodings: Tensor, steps: Tensor) -> list[Hypothesis]:
    head = transducer.of(model)
    assert head is not None
    hyps, _ = transducer.greedy(head, encodings, steps)
    return hyps


def _batch(clips: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(clip) for clip in clips])
    samples = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return samples, lengths


def _collapsed(best: Sequence[int], blank: int) -> tuple[list[int], list[int]]:
    before = [blank, *best[:-1]]
    kept = [i for i, (a, b) in enumerate(zip(best, before, strict=True)) if a not in (blank, b)]
    return [best[i] for i in kept], kept


def _list(values: Any) -> list[int]:
    return [] if values is None else torch.as_tensor(values).tolist()
