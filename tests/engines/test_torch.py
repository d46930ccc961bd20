"""What the engine of NVIDIA's families says beside transcripts; those are tested by the goldens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auricle import audio, checkpoints
from auricle.engines.torch import TorchEngine
from auricle.errors import ConfigError
from tests.conftest import GOLDEN

NAMES = ("syllable", "phrase", "talk")


def test_log_probs_are_those_of_the_ctc_head() -> None:
    """Also where another head decodes; a clip under a second has silence around it."""
    checkpoint = checkpoints.load(GOLDEN / "nemo" / "hybrid_rnnt_ctc.nemo")
    engine = TorchEngine(checkpoint, device="cpu", precision="fp32", head="rnnt")
    clips = [audio.read(GOLDEN / "wav" / f"{name}.wav") for name in NAMES]
    log_probs, steps, leads = engine.log_probs(clips)
    with np.load(GOLDEN / "nemo" / "hybrid_rnnt_ctc.ref.npz") as reference:
        for row, name in enumerate(NAMES[1:], start=1):
            expected = reference[f"{name}/aux_logprobs"][0]
            assert int(steps[row]) == len(expected)
            np.testing.assert_allclose(log_probs[row, : len(expected)], expected, atol=1e-3)
    assert leads == [(16000 - len(clips[0])) // 2 / 16000, 0.0, 0.0]
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))


def test_a_model_without_a_ctc_head_has_no_log_probs() -> None:
    checkpoint = checkpoints.load(GOLDEN / "nemo" / "fastconformer_rnnt.nemo")
    engine = TorchEngine(checkpoint, device="cpu")
    with pytest.raises(ConfigError, match="has no CTC head; it has rnnt"):
        engine.log_probs([np.zeros(16000, np.float32)])
