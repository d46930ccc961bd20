"""The committed golden checkpoints, and their recorded outputs."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auricle.checkpoints import Checkpoint, build

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NEMO = sorted((GOLDEN / "nemo").glob("*.nemo"))
HUGGINGFACE = sorted(path for path in (GOLDEN / "huggingface").iterdir() if path.is_dir())


def nemo(name: str) -> Path:
    """One of NeMo's archives."""
    return GOLDEN / "nemo" / f"{name}.nemo"


def clip(name: str) -> Tensor:
    """A clip's samples [1, S]."""
    with wave.open(str(GOLDEN / "wav" / f"{name}.wav")) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return torch.from_numpy(data.astype(np.float32) / 32768)[None]


def recorded(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the reference computed: texts and ids, and arrays."""
    base = path.with_suffix("") if path.suffix == ".nemo" else path
    results = json.loads(base.with_name(f"{base.name}.ref.json").read_text(encoding="utf-8"))
    return results, dict(np.load(base.with_name(f"{base.name}.ref.npz")))


def encoding_error(checkpoint: Checkpoint, path: Path, prompt: int | None = None) -> float:
    """The largest error of the encodings of one clip, relative to the largest value.

    Transformers' were recorded before the prompt.
    """
    _, arrays = recorded(path)
    model = build(checkpoint)
    samples = clip("phrase")
    number = None if prompt is None else torch.tensor([prompt])
    with torch.no_grad():
        features, frames = model.features(samples, torch.tensor([samples.shape[1]]))
        encodings, steps = model.encoder(features, frames)
        if number is not None:
            encodings = model.prompted(encodings, number)
    reference = torch.from_numpy(arrays["phrase/enc"])[0]
    if path.suffix == ".nemo":
        reference = reference.T  # [T, D]
    size = min(int(steps[0]), len(reference))
    difference = encodings[0, :size] - reference[:size]
    return float(difference.abs().max() / reference.abs().max())
