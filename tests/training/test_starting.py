"""What a training from nothing begins with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from auricle import checkpoints
from auricle.errors import ManifestError
from auricle.models.asr import ASR
from auricle.models.conformer import ConformerEncoder
from auricle.tokenizers import CharTokenizer
from auricle.training.alignment import ModelFacts
from auricle.training.architecture import model_config
from auricle.training.progress import Silent
from auricle.training.reading import load_recipe
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import open_sources
from auricle.training.starting import fresh, trainable, trainee_of, usable
from auricle.training.trainee import AsrTrainee
from tests.training.speech import clip, manifest, write_rows


def share_of_sound(model: ASR) -> float:
    """Of what the subsampling puts out, the share that depends on the features."""
    assert isinstance(model.encoder, ConformerEncoder)
    torch.manual_seed(0)
    features = torch.randn(4, 400, model.config.features.n_mels)
    with torch.no_grad():
        heard, _ = model.encoder.pre_encode(features, torch.full((4,), 400))
    always = heard.mean((0, 1))
    return float((heard - always).var() / (heard.var()))


def test_the_first_layer_of_a_fresh_model_hears_something() -> None:
    recipe = load_recipe("fastconformer_ctc_large_tiny")
    tokenizer = CharTokenizer(tuple("abc"))
    config = model_config(recipe.model, len(tokenizer.pieces))
    torch.manual_seed(0)
    assert share_of_sound(ASR(config).eval()) < 0.05  # PyTorch's numbers
    model, _ = trainable(recipe, fresh(config, tokenizer, recipe), Silent())
    assert share_of_sound(model.eval()) > 0.4


def test_a_seed_is_a_model() -> None:
    recipe = load_recipe("fastconformer_ctc_large_tiny")
    tokenizer = CharTokenizer(tuple("abc"))
    config = model_config(recipe.model, len(tokenizer.pieces))
    one, same = (fresh(config, tokenizer, recipe).tensors for _ in range(2))
    other = fresh(config, tokenizer, load_recipe(recipe.name, ["train.seed=1"])).tensors
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["ctc.weight"], other["ctc.weight"])


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    """The other's items alone would be another training, or none that ends its epochs."""
    sources = []
    for name in ("here", "gone"):
        (tmp_path / name).mkdir()
        sources.append(SourceRecipe(manifest=str(manifest(tmp_path / name))))
    shutil.rmtree(tmp_path / "gone" / "clips")
    recipe = load_recipe("fastconformer_rnnt_large_tiny")
    tokenizer = CharTokenizer(tuple("abc"))
    facts = ModelFacts.of(model_config(recipe.model, 3))
    data = DataRecipe(text="as_is", min_seconds=0.0)
    here = open_sources(sources[:1], data)
    assert [s.size for s in usable(here, tokenizer, facts, data, Silent())] == [6]
    with pytest.raises(ManifestError, match=r"gone/train\.jsonl: nothing can be learnt"):
        usable(open_sources(sources, data), tokenizer, facts, data, Silent())


def test_a_fresh_citrinet_has_xaviers_numbers() -> None:
    recipe = load_recipe("citrinet_256_tiny")
    tokenizer = CharTokenizer(tuple("abc"))
    tensors = fresh(model_config(recipe.model, 3), tokenizer, recipe).tensors
    convolutions = {k: v for k, v in tensors.items() if k.endswith("weight") and v.ndim == 3}
    assert len(convolutions) > 20
    for name, weight in convolutions.items():
        c_out, c_in, size = weight.shape
        bound = (6 / (c_in * size + c_out * size)) ** 0.5
        assert float(weight.abs().max()) <= bound, name
        if weight.numel() > 1000:
            assert float(weight.abs().max()) > 0.97 * bound, name


def test_what_the_losses_were_goes_into_the_model(tmp_path: Path) -> None:
    overrides = [
        "model.heads=[tdt, ctc]",
        "loss.sigma=0.07",
        "loss.omega=0.2",
        "loss.ctc_weight=0.4",
    ]
    tokenizer = CharTokenizer(tuple("abc"))
    recipe = load_recipe("fastconformer_tdt_large_tiny", overrides)
    trainee = trainee_of(recipe, tokenizer, Silent())
    assert isinstance(trainee, AsrTrainee)
    weights = trainee.objective.model.state_dict()
    checkpoints.save(replace(trainee.start, tensors=weights), tmp_path / "model.nemo")
    values = checkpoints.load(tmp_path / "model.nemo").origin["nemo"]
    kwargs = values["loss"]["tdt_kwargs"]
    assert (kwargs["sigma"], kwargs["omega"]) == (0.07, 0.2)
    assert values["aux_ctc"]["ctc_loss_weight"] == 0.4


def test_rows_that_lost_their_sound_are_said(tmp_path: Path) -> None:
    """Not only by --dry-run: what a filter of the recipe takes out is not among them."""
    rows = [{"audio_filepath": f"{i}.wav", "text": "a", "speaker": f"{i}"} for i in range(4)]
    for name in ("0.wav", "1.wav"):
        clip(tmp_path, name, 0.5)
    (tmp_path / "2.wav").write_bytes(b"no sound")
    path = write_rows(tmp_path / "rows.jsonl", rows)
    source = SourceRecipe(manifest=str(path), unless={"speaker": ("1",)})
    data = DataRecipe()
    lines: list[str] = []

    class Told(Silent):
        def said(self, line: str) -> None:
            lines.append(line)

    facts = ModelFacts(("ctc",), lambda seconds: int(seconds / 0.08))
    (left,) = usable(open_sources([source], data), CharTokenizer(["a"]), facts, data, Told())
    assert left.size == 1 and len(lines) == 1
    assert lines[0].startswith(f"{path}: 2 rows are left out (") and "--dry-run" in lines[0]
