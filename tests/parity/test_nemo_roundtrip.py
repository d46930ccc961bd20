"""NeMo restores what we write, with the same outputs, and transcribes with it.

Needs nemo-toolkit; `make parity` runs it. Each golden checkpoint is loaded and saved twice: with
the YAML it came with, and with one written from our configuration alone.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit")

import numpy as np
import torch
import yaml
from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging

from auricle.checkpoints import build, load, save
from auricle.checkpoints.nemo_archive import CONFIG, open_archive

pytestmark = pytest.mark.parity

TESTS = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("AURICLE_SHARED", TESTS.parents[1] / "shared"))
ARCHIVES = sorted(
    path
    for folder in (TESTS / "golden" / "nemo", SHARED / "golden" / "nemo")
    if folder.is_dir()
    for path in folder.glob("*.nemo")
)
FOLDERS = sorted(p.name for p in (TESTS / "golden" / "huggingface").iterdir() if p.is_dir())


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NeMo asks the hub for `bert-base-cased` whatever the vocabulary: stand in for it."""
    nemo_logging.setLevel(nemo_logging.ERROR)
    stand_in = tmp_path / "bert-base-cased"
    stand_in.mkdir()
    (stand_in / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.chdir(tmp_path)


def restored(path: Path) -> Any:
    return ASRModel.restore_from(str(path), map_location="cpu").eval()


def outputs(model: Any) -> list[torch.Tensor]:
    """Encodings, and every head's scores, for two clips of noise."""
    samples = 0.1 * torch.randn(2, 24000, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([24000, 17000])
    options = {"prompt_indices": torch.tensor([0, 1])} if hasattr(model, "prompt_kernel") else {}
    with torch.no_grad():
        encoded, sizes, *rest = model(input_signal=samples, input_signal_length=lengths, **options)
        out = [encoded, sizes, *rest]
        if hasattr(model, "joint"):
            tokens = torch.tensor([[1, 5, 2], [3, 3, 4]])
            predicted, _, _ = model.decoder(targets=tokens, target_length=torch.tensor([3, 3]))
            model.joint._fuse_loss_wer = False
            out.append(model.joint(encoder_outputs=encoded, decoder_outputs=predicted))
        if hasattr(model, "ctc_decoder"):
            out.append(model.ctc_decoder(encoder_output=encoded))
    return out


@pytest.mark.parametrize("with_origin", [True, False], ids=["yaml kept", "yaml written"])
@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_nemo_gives_the_same_with_what_we_wrote(
    path: Path, with_origin: bool, tmp_path: Path
) -> None:
    checkpoint = load(path)
    if not with_origin:
        checkpoint = dataclasses.replace(checkpoint, origin={})
    save(checkpoint, tmp_path / "ours.nemo")
    original, ours = restored(path), restored(tmp_path / "ours.nemo")
    theirs, mine = original.state_dict(), ours.state_dict()
    assert theirs.keys() == mine.keys()
    assert all(torch.equal(theirs[key], mine[key]) for key in theirs)
    assert type(ours) is type(original)
    for a, b in zip(outputs(original), outputs(ours), strict=True):
        assert torch.equal(a, b)
    assert ours.tokenizer.vocab == original.tokenizer.vocab if hasattr(ours, "tokenizer") else True
    sound = 0.1 * np.random.default_rng(0).standard_normal(40000).astype(np.float32)
    options = {"target_lang": "en-US"} if hasattr(ours, "prompt_kernel") else {}
    said = [
        model.transcribe([sound], verbose=False, batch_size=1, **options)[0].text
        for model in (original, ours)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("with_origin", [True, False], ids=["yaml kept", "yaml written"])
@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_the_file_holds_what_nemo_reads(path: Path, with_origin: bool, tmp_path: Path) -> None:
    checkpoint = load(path)
    if not with_origin:
        checkpoint = dataclasses.replace(checkpoint, origin={})
    save(checkpoint, tmp_path / "ours.nemo")
    with open_archive(tmp_path / "ours.nemo") as archive:
        values = yaml.safe_load(archive.read(CONFIG))
    pieces = list(checkpoint.tokenizer.pieces)
    assert isinstance(values["validation_ds"], dict)
    assert values["decoding"]
    assert values["target"].startswith("nemo.collections.asr.models.")
    if checkpoint.config.transducer is None:
        assert values["decoder"]["vocabulary"] == pieces
    else:
        assert values["labels"] == values["joint"]["vocabulary"] == pieces


@pytest.mark.parametrize("name", FOLDERS)
def test_nemo_restores_what_came_from_hugging_face(name: str, tmp_path: Path) -> None:
    checkpoint = load(TESTS / "golden" / "huggingface" / name)
    save(checkpoint, tmp_path / "ours.nemo")
    model, ours = restored(tmp_path / "ours.nemo"), build(checkpoint)
    sound = 0.1 * np.random.default_rng(0).standard_normal(40000).astype(np.float32)
    samples, lengths = torch.from_numpy(sound)[None], torch.tensor([40000])
    with torch.no_grad():
        features, frames = model.preprocessor(input_signal=samples, length=lengths)
        theirs, steps = model.encoder(audio_signal=features, length=frames)
        encodings, _ = ours.encoder(*ours.features(samples, lengths))
    difference = (encodings[0, : steps[0]] - theirs[0].T[: steps[0]]).abs().max()
    assert difference <= 1e-4 * theirs.abs().max()
    assert tuple(model.tokenizer.vocab) == checkpoint.tokenizer.pieces
    text = "the fox and the tea"
    assert model.tokenizer.text_to_ids(text) == checkpoint.tokenizer.encode(text)
    options = {"target_lang": "en-US"} if hasattr(model, "prompt_kernel") else {}
    model.transcribe([sound], verbose=False, batch_size=1, **options)
