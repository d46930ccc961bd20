from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from auricle.errors import ConfigError
from auricle.training import documents, reading
from auricle.training.reading import load_recipe, recipe_names, to_yaml
from auricle.training.recipe import (
    AugmentRecipe,
    DataRecipe,
    JoinRecipe,
    LogRecipe,
    ModelRecipe,
    NoiseRecipe,
    OptimizerRecipe,
    Recipe,
    RoomRecipe,
    ScheduleRecipe,
    SourceRecipe,
    SpecAugmentRecipe,
    TelephoneRecipe,
    TokenizerRecipe,
    TrainRecipe,
)

SMALL = "data: {train: [{manifest: a.jsonl}]}\ntrain: {steps: 3000}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a recipe `my.yaml` that says little."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(SMALL)
    return tmp_path


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_recipe(name, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_said_has_its_default(folder: Path) -> None:
    recipe = load_recipe("my.yaml")
    manifest = str(folder / "a.jsonl")
    data = DataRecipe(train=(SourceRecipe(manifest=manifest),))
    assert recipe == Recipe("my", data=data, train=TrainRecipe(steps=3000))
    assert load_recipe(folder / "my.yaml") == recipe
    assert load_recipe("my.yaml", ["name=other"]).name == "other"


def test_values_keep_their_types(folder: Path) -> None:
    """Whole numbers become floats where such are wanted, lists tuples; nothing else changes."""
    said = ["optimizer.lr=1", "optimizer.betas=[0, 0.5]", "schedule.min_lr=1e-6", "train.seed=7"]
    recipe = load_recipe("my.yaml", said)
    assert recipe.optimizer == OptimizerRecipe(lr=1.0, betas=(0.0, 0.5))
    assert isinstance(recipe.optimizer.lr, float)
    assert recipe.schedule.min_lr == 1e-6
    assert recipe.train.seed == 7
    where = "data.train.0.where={lang: [no, en], checked: [true], rank: [1, 2.5]}"
    source = load_recipe("my.yaml", [where]).data.train[0]
    assert source.where == {"lang": ("no", "en"), "checked": (True,), "rank": (1, 2.5)}
    assert [type(v) for v in source.where["rank"]] == [int, float]


def test_overrides_reach_everything(folder: Path) -> None:
    recipe = load_recipe(
        "my.yaml",
        [
            "data.train.1.manifest=[b.jsonl, /c.jsonl]",
            "data.train.1.weight=2",
            "data.validation.0.dataset=some/name",
            "data.train.0.manifest = d.jsonl",
            "augment.spec=null",
            "augment.noise.manifest=n.jsonl",
            "model.heads=[ctc, tdt]",
            "model.heads.1=rnnt",
            "model.encoder.n_layers=2",
            "tokenizer.path=tok",
        ],
    )
    here = str(folder)
    assert recipe.data.train == (
        SourceRecipe(manifest=f"{here}/d.jsonl"),
        SourceRecipe(manifest=(f"{here}/b.jsonl", "/c.jsonl"), weight=2.0),
    )
    assert recipe.data.validation == (SourceRecipe(dataset="some/name"),)
    assert recipe.augment == AugmentRecipe(spec=None, noise=NoiseRecipe(f"{here}/n.jsonl"))
    assert recipe.model == ModelRecipe(heads=("ctc", "rnnt"), encoder={"n_layers": 2})
    assert recipe.tokenizer == TokenizerRecipe(path=f"{here}/tok")


def test_a_given_tokenizer_displaces_one_to_be_built(folder: Path) -> None:
    recipe = load_recipe("citrinet_256", ["tokenizer.path=tok"])
    assert recipe.tokenizer == TokenizerRecipe(path=str(folder / "tok"))
    assert "both path and size" in refusal("my.yaml", "tokenizer.path=tok", "tokenizer.size=8")


@pytest.mark.parametrize(
    "override, complaint",
    [
        (
            "optimizer.learning_rate=1",
            "optimizer.learning_rate is no key .*nearest is optimizer.lr",
        ),
        ("optim.lr=1", "optim is no key of a recipe; nearest is optimizer$"),
        ("lr=1", "lr is no key of a recipe; nearest is optimizer.lr"),
        ("train.precison=bf16", "nearest is train.precision"),
        ("data.train.0.weigth=1", "data.train.0.weigth is no .*nearest is data.train.0.weight"),
        ("data.trian.0.manifest=a", "nearest is data.train"),
        ("trainer.max_steps=3", "nearest is train$"),
        ("augment.noise={snr: [1, 2]}", "augment.noise.manifest is missing"),
        ("train.steps=1.5", "train.steps is 1.5; it must be a whole number"),
        ("train.steps=1e3", "train.steps is 1000.0; it must be a whole number"),
        ("train.steps='3'", 'train.steps is "3"; it must be a whole number'),
        ("train.average=yes", 'train.average is "yes"; it must be true or false'),
        ("train.average=1", "train.average is 1; it must be true or false"),
        ("optimizer.lr=fast", 'optimizer.lr is "fast"; it must be a number'),
        ("optimizer.lr=true", "optimizer.lr is true; it must be a number"),
        ("optimizer.betas=[1]", "optimizer.betas.1 is missing"),
        ("optimizer.betas=[0, 0, 0]", "optimizer.betas"),
        ("model.heads=[ctc, foo]", "model.heads.1 is \"foo\"; it must be 'ctc', 'rnnt' or 'tdt'"),
        ("model.heads=ctc", 'model.heads is "ctc"; it must be a list'),
        ("data=3", "data is 3; it must be a mapping"),
        ("data.train.0.manifest=3", "is 3; it must be text or a list"),
        ("data.train.0.manifest=[3]", r"manifest.0 is 3; it must be text"),
        ("data.train.3.manifest=a", "data.train.3 is no entry of a list of 1; .*data.train.1"),
        ("data.train.x.manifest=a", "data.train.x is no entry"),
        ("train.steps.x=3", "train.steps is 3000, and has no x to set"),
        ("optimizer.lr", "is no override; write key=value"),
        ("=3", "is no override; write key=value"),
        ("optimizer.lr=[1", "the value of optimizer.lr.* is no plain YAML"),
        ("optimizer.lr=*x", "has an alias"),
        ("optimizer.lr=!!python/name:os.system x", "is no plain YAML"),
        ("model.encoder.n_layer=3", "nearest is model.encoder.n_layers"),
    ],
)
def test_overrides_that_are_refused(folder: Path, override: str, complaint: str) -> None:
    said = refusal("my.yaml", override)
    with pytest.raises(ConfigError, match=complaint):
        raise ConfigError(said)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("- 1", "holds no mapping"),
        ("", "holds no mapping"),
        ("name: [", "line 1, is no plain YAML"),
        ("train: {steps: 1}\ntrain: {steps: 2}", "line 2, says train a second time"),
        ("train: {steps: 1, steps: 2}", "says steps a second time"),
        ("3: 4", "a key that is no text"),
        ("name: &a x\ninit_from: *a", "line 2, has an alias"),
        ("name: !!python/object/apply:os.getcwd []", "is no plain YAML"),
        ("name: !!timestamp 2020-01-01", "is no plain YAML"),
        ("name: 2020-01-01\ntrian: {}", "trian is no key of a recipe; nearest is train"),
        ("a: " + "[" * 40 + "]" * 40, "nests too deeply"),
        ("name: x\n---\nname: y", "no plain YAML"),
        ("name: " + "9" * 5000, "is no plain YAML"),
        ("# " + "x" * documents.MAX_BYTES, "more than"),
        ("extends: my2", "there is no recipe 'my2'"),
        ("extends: [a]", "it takes a recipe's name"),
        ("extends: bad.yaml", "extends goes on without end"),
        ("extends: gone.yaml", "gone.yaml does not exist"),
        ("name: 'a\udcff'", "no text in UTF-8"),
    ],
)
def test_files_that_are_refused(folder: Path, text: str, complaint: str) -> None:
    (folder / "bad.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    said = refusal("bad.yaml")
    with pytest.raises(ConfigError, match=complaint):
        raise ConfigError(said)


def test_bombs_do_not_go_off(folder: Path) -> None:
    """Nine lines that would mean a billion words."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (folder / "bomb.yaml").write_text("\n".join(lines))
    assert "has an alias" in refusal("bomb.yaml")


def test_names_that_are_not_there(folder: Path) -> None:
    assert "near to it are citrinet" in refusal("citrinet_255")
    assert "train --list" in refusal("xyz")
    assert refusal("citrinet_256.yaml").startswith("citrinet_256.yaml does not exist; near to it")
    assert "is a folder" in refusal(str(folder / "."))


def test_extends(folder: Path) -> None:
    """Mappings are merged, lists and null replaced; paths start from the file that says them."""
    below = folder / "below"
    below.mkdir()
    (below / "base.yaml").write_text(
        "name: base\ndata: {train: [{manifest: a.jsonl}, {tar: b.tar}], text: lower}\n"
        "optimizer: {lr: 0.5, betas: [0.1, 0.2]}\ntrain: {steps: 9}\naugment: {gain: {prob: 1}}\n"
    )
    (folder / "top.yaml").write_text(
        "extends: below/base.yaml\noptimizer: {betas: [0.3, 0.4]}\naugment: {gain: null}\n"
        "data: {validation: [{manifest: v.jsonl}]}\n"
    )
    (folder / "above.yaml").write_text("extends: top.yaml\ndata: {train: [{cuts: c.jsonl.gz}]}")
    top = load_recipe("top.yaml")
    assert top.name == "top"
    assert top.data.text == "lower"
    assert [s.manifest or s.tar for s in top.data.train] == [
        str(below / "a.jsonl"),
        str(below / "b.tar"),
    ]
    assert top.data.validation == (SourceRecipe(manifest=str(folder / "v.jsonl")),)
    assert top.optimizer == OptimizerRecipe(lr=0.5, betas=(0.3, 0.4))
    assert top.augment.gain is None
    above = load_recipe("above.yaml")
    assert above.data.train == (SourceRecipe(cuts=str(folder / "c.jsonl.gz")),)
    assert replace(above, name="top", data=top.data) == top


def test_relative_paths_of_a_file_start_from_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "set").mkdir()
    (folder / "my.yaml").write_text(
        "data: {train: [{dataset: set}, {dataset: other}, {manifest: 's3://x/y.jsonl'}]}\n"
        "init_from: ./model\ntrain: {steps: 1}\n"
    )
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    recipe = load_recipe("../my.yaml", ["data.validation.0.manifest=v.jsonl"])
    assert [s.dataset for s in recipe.data.train] == [str(folder / "set"), "other", None]
    assert recipe.data.train[2].manifest == "s3://x/y.jsonl"
    assert recipe.init_from == str(folder / "model")
    assert recipe.data.validation[0].manifest == str(folder / "elsewhere" / "v.jsonl")


@pytest.mark.parametrize("name", recipe_names())
def test_round_trip_of_packaged_recipes(name: str, folder: Path) -> None:
    recipe = load_recipe(name)
    (folder / "again.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe("again.yaml") == recipe


def test_round_trip_of_awkward_values(folder: Path) -> None:
    awkward = [
        "no",
        "1e-5",
        "1.0",
        "null",
        "~",
        "2020-01-01",
        "0x1",
        "a: b",
        "ü",
        " ",
        "*x",
        "=",
        "",
    ]
    recipe = Recipe(
        "yes",
        tokenizer=TokenizerRecipe(special=(*awkward, "<b>")),
        model=ModelRecipe(default_head="ctc", encoder={"n_layers": 2}),
        data=DataRecipe(
            train=(
                SourceRecipe(
                    manifest=("/a", "/b"),
                    tar="/x_OP_0..9_CL_.tar",
                    weight=1 / 3,
                    where={key: (key, True, 1, 1.0) for key in awkward},
                    language="no",
                ),
                SourceRecipe(dataset="a/b", split="test", subset="on", join=JoinRecipe(by=None)),
            ),
            text="as_is",
        ),
        augment=AugmentRecipe(
            spec=SpecAugmentRecipe(adaptive=0.04),
            room=RoomRecipe(rt60=(1e-7, 1e22)),
            telephone=TelephoneRecipe(codecs=("none", "gsm")),
        ),
        schedule=ScheduleRecipe(min_lr=2**-24),
        train=TrainRecipe(steps=1, clip=None, ema=0.9999, seed=2**62),
        log=LogRecipe(trackers=(), project="off"),
    )
    text = to_yaml(recipe)
    (folder / "again.yaml").write_text(text, encoding="utf-8")
    again = load_recipe("again.yaml")
    assert again == recipe
    assert to_yaml(again) == text
    # Other readers of YAML see the same, but for numbers like 1e-07, written 1.0e-07 for them too.
    assert yaml.safe_load(text)["schedule"]["min_lr"] == 2**-24
    assert yaml.safe_load(text)["tokenizer"]["special"] == [*awkward, "<b>"]


def test_round_trip_of_random_numbers(folder: Path) -> None:
    rng = random.Random(0)
    for _ in range(20):
        rate = rng.random() * 10 ** rng.randint(-12, 12)
        recipe = replace(load_recipe("my.yaml"), optimizer=OptimizerRecipe(lr=rate))
        (folder / "again.yaml").write_text(
            to_yaml(replace(recipe, schedule=ScheduleRecipe("noam")))
        )
        assert load_recipe("again.yaml").optimizer.lr == rate


def test_terms_of_others_lead_to_keys_that_are_there() -> None:
    for key in reading.TERMS.values():
        kind = Recipe
        for name in key.split("."):
            if name.isdecimal():
                kind = SourceRecipe
                continue
            assert name in {f.name for f in fields(kind)}, key
            kind = type(getattr(kind("x") if kind is Recipe else kind(), name))
