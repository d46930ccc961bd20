"""A clip's encodings do not depend on what is beside it in the batch, whatever the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import auricle
from auricle import audio, checkpoints
from auricle.models.asr import ASR, optimise
from auricle.models.jasper import JasperConfig
from tests.models.lively import lively

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = sorted((ROOT / "tests/golden/nemo").glob("*.nemo"))
LENGTHS = (16000, 24650, 20321)
JASPERS = ("citrinet", "jasper_dense_char", "quartznet_char")


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_batch_equals_single_clips(path: Path) -> None:
    _batch_equals_single_clips(checkpoints.build(checkpoints.load(path)))


@pytest.mark.parametrize("mode", ["layer", "group", "instance"])
@pytest.mark.parametrize("name", JASPERS)
def test_norms_over_time_do_not_hear_the_neighbours(name: str, mode: str) -> None:
    config = checkpoints.load(ROOT / f"tests/golden/nemo/{name}.nemo").config
    assert isinstance(config.encoder, JasperConfig)
    encoder = replace(config.encoder, normalization_mode=mode, norm_groups=4)
    _batch_equals_single_clips(lively(ASR(replace(config, encoder=encoder))))


def test_the_case_gives_nemos_text_alone_and_in_a_batch(shared: Callable[[str], Path]) -> None:
    """Layer norm and the residual mode max; the texts are NeMo 3.0.0's of each clip alone."""
    asr = auricle.load(str(shared("cases/b04_jasper_layer_max.nemo")))
    clips = [
        audio.read(shared(f"golden/wav/{name}.wav"))[:48123] for name in ("two_cities", "beckett")
    ]
    alone = [asr.transcribe(clip, sample_rate=16000).text for clip in clips]
    assert [t.text for t in asr.transcribe(clips, sample_rate=16000)] == alone
    assert alone[1].startswith("megatronhun followqun audiog audioo willf name multi will name f")
    assert alone[1].endswith("follow checkpoint speaker language parameter speaker thatableg you")


def _batch_equals_single_clips(model: ASR) -> None:
    model = optimise(model)
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(len(LENGTHS), max(LENGTHS), generator=generator)
    lengths = torch.tensor(LENGTHS)
    prompt = None if model.config.prompt is None else torch.tensor([0, 1, 2])
    together, steps = model.encode(samples, lengths, prompt=prompt)
    for i, length in enumerate(LENGTHS):
        own = None if prompt is None else prompt[i : i + 1]
        alone, step = model.encode(samples[i : i + 1, :length], lengths[i : i + 1], prompt=own)
        assert step[0] == steps[i]
        gap = (together[i, : step[0]] - alone[0, : step[0]]).abs().max()
        assert gap < 1e-4 * alone.abs().max()
