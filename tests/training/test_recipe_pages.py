"""What the pages say of recipes is so."""

from __future__ import annotations

import re
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from auricle.models.asr import ModelConfig
from auricle.training.architecture import model_config
from auricle.training.patterns import matching
from auricle.training.reading import load_recipe, recipe_names
from auricle.training.recipe import (
    AdaptRecipe,
    GainRecipe,
    JoinRecipe,
    LoraRecipe,
    NoiseRecipe,
    Recipe,
    RoomRecipe,
    SourceRecipe,
    SpeedRecipe,
    TelephoneRecipe,
)
from tests.conftest import ROOT
from tests.test_docs import blocks

RECIPES = ROOT / "docs" / "recipes.md"
TRAINING = ROOT / "docs" / "training.md"
FINETUNING = ROOT / "docs" / "finetuning.md"


def listed(value: Any) -> Any:
    """With lists for tuples, as YAML has them."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, (tuple, list)) else value


def test_every_key_stands_there_with_its_default() -> None:
    defaults, optional, *_ = (yaml.safe_load(block) for block in blocks(RECIPES, "yaml"))
    assert defaults == listed(asdict(Recipe("my")))
    source = {**asdict(SourceRecipe(manifest="train.jsonl")), "join": asdict(JoinRecipe())}
    assert optional["data"]["train"] == [listed(source)]
    kinds = (SpeedRecipe(), GainRecipe(), NoiseRecipe("noise.jsonl"), RoomRecipe())
    given = dict(zip(("speed", "gain", "noise", "room"), map(asdict, kinds), strict=True))
    assert optional["augment"] == listed({**given, "telephone": asdict(TelephoneRecipe())})


def test_families_defaults_are_as_told(tmp_path: Path) -> None:
    """The other blocks are parts of recipes that build."""
    *_, streaming, citrinet = blocks(RECIPES, "yaml")
    configs: list[ModelConfig] = []
    for number, block in enumerate((streaming, citrinet)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"{block}\ndata: {{train: [{{manifest: a}}]}}\ntrain: {{steps: 1}}\n")
        configs.append(model_config(load_recipe(path).model, 256))
    assert len(getattr(configs[0].encoder, "att_context_size", ())) == 4
    assert getattr(configs[1].encoder, "blocks", ())[0].filters == 384


def test_the_example_of_a_file(tmp_path: Path) -> None:
    (example,) = blocks(TRAINING, "yaml")
    path = tmp_path / "my.yaml"
    path.write_text(example)
    recipe = load_recipe(path)
    assert recipe.train.steps == 20000
    assert recipe.data.train[1] == SourceRecipe(dataset="some/corpus", weight=0.5)
    assert recipe.model.heads == ("rnnt", "ctc")


def test_the_messages_are_those_that_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("data: {train: [{manifest: a}]}\ntrain: {steps: 1}\n")
    said = ["optimizer.learning_rate=1", "train.steps=many", "data.train.0.dataset=b"]
    messages, near = blocks(RECIPES, "text")
    for override, message in zip(said, messages.splitlines(), strict=True):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_recipe("my.yaml", [override])
    with pytest.raises(ValueError, match=f"^{re.escape(near.strip())}$"):
        matching(["encodr"], ["encoder.layers.0"], key="adapt.freeze")


def test_an_adaptation_is_as_told(tmp_path: Path) -> None:
    block = next(b for b in blocks(RECIPES, "yaml") if b.startswith("init_from"))
    path = tmp_path / "adapted.yaml"
    path.write_text(f"{block}\ndata: {{train: [{{manifest: a}}]}}\ntrain: {{steps: 1}}\n")
    recipe = load_recipe(path, ["adapt.lr={}"])
    assert recipe.adapt == AdaptRecipe(lora=LoraRecipe())
    assert recipe.tokenizer is None
    assert set(yaml.safe_load(block)["adapt"]) == {f.name for f in fields(AdaptRecipe)}


def test_all_packaged_recipes_are_in_a_table() -> None:
    pages = TRAINING.read_text(encoding="utf-8") + FINETUNING.read_text(encoding="utf-8")
    names = [name for name in recipe_names() if not name.endswith("_tiny")]
    assert [name for name in names if f"`{name}`" not in pages] == []


def test_keys_of_the_table_of_terms() -> None:
    """The right column of "In NeMo's words" names keys that there are."""
    table = TRAINING.read_text(encoding="utf-8").partition("## In NeMo's words")[2]
    cells = [row.split("|")[2] for row in table.splitlines() if row.startswith("|")]
    keys = re.findall(
        r"`((?:data|model|loss|augment|optimizer|schedule|train)\.[\w.\[\]]*\w)", str(cells)
    )
    assert len(keys) > 25
    for key in keys:
        kind: Any = Recipe
        for name in key.replace("[]", ".0").split("."):
            if name == "0":
                kind = SourceRecipe
            elif hasattr(kind, "__dataclass_fields__"):
                field = {f.name: f for f in fields(kind)}[name]
                made = field.default_factory
                kind = type(made()) if made is not MISSING else None
