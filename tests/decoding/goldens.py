"""NeMo's recorded results: the committed set, and the shared folder's where it is there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auricle import checkpoints
from auricle.decoding import Hypothesis, ctc, transducer
from auricle.decoding.confidence import Measure, max_prob
from auricle.models.asr import ASR
from auricle.tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("AURICLE_SHARED", ROOT.parent / "shared"))
FOLDERS = (ROOT / "tests" / "golden" / "nemo", SHARED / "golden" / "nemo")
# Multi-blank transducers are refused when they are loaded.
NAMES = sorted(
    str(path).removesuffix(".ref.json")
    for folder in FOLDERS
    for path in folder.glob("*.ref.json")
    if not path.name.startswith("multiblank")
)


@dataclass(frozen=True)
class Golden:
    """One checkpoint, built, with its records."""

    model: ASR
    tokenizer: Tokenizer
    records: dict[str, Any]
    arrays: dict[str, Any]

    @property
    def clips(self) -> list[str]:
        """The recorded clips in the order of the batch."""
        return [k for k, v in self.records.items() if isinstance(v, dict) and "n_samples" in v]

    def encodings(self, clip: str) -> tuple[Tensor, Tensor]:
        """NeMo's encodings [B, T, D] and lengths [B] of a clip, or of "batch"."""
        encodings = torch.from_numpy(self.arrays[f"{clip}/enc"]).transpose(1, 2)
        return encodings, torch.from_numpy(self.arrays[f"{clip}/enc_len"])

    def transducer(self, clip: str, measure: Measure = max_prob) -> list[Hypothesis]:
        """Our greedy result from NeMo's encodings."""
        head = transducer.of(self.model)
        assert head is not None
        hypotheses, _ = transducer.greedy(head, *self.encodings(clip), measure=measure)
        return hypotheses

    def ctc(self, clip: str, key: str, measure: Measure = max_prob) -> list[Hypothesis]:
        """Our greedy result from NeMo's log-probabilities."""
        name = f"{clip}/{'aux_' * (key == 'aux_ctc')}logprobs"
        log_probs = torch.from_numpy(self.arrays[name])
        lengths = torch.tensor([len(self.records[clip][key]["argmax"])])
        hypotheses, _ = ctc.greedy(log_probs, lengths, measure=measure)
        return hypotheses


@lru_cache(maxsize=4)
def golden(stem: str) -> Golden:
    """Load one of `NAMES`."""
    checkpoint = checkpoints.load(Path(f"{stem}.nemo"))
    records = json.loads(Path(f"{stem}.ref.json").read_text(encoding="utf-8"))
    with np.load(f"{stem}.ref.npz") as arrays:
        model = checkpoints.build(checkpoint)
        return Golden(model, checkpoint.tokenizer, records, dict(arrays))
