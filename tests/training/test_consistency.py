from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auricle.errors import ConfigError
from auricle.training.consistency import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    RANGES,
    SHARES,
    check_recipe,
)
from auricle.training.reading import load_recipe
from auricle.training.recipe import (
    AdaptRecipe,
    AugmentRecipe,
    DataRecipe,
    GainRecipe,
    LoraRecipe,
    NoiseRecipe,
    Recipe,
    RoomRecipe,
    SourceRecipe,
    SpecAugmentRecipe,
    SpeedRecipe,
    TelephoneRecipe,
    TrainRecipe,
)

FULL = Recipe(
    "full",
    data=DataRecipe(
        train=(SourceRecipe(manifest="a.jsonl"),), validation=(SourceRecipe(manifest="b.jsonl"),)
    ),
    augment=AugmentRecipe(
        spec=SpecAugmentRecipe(adaptive=0.04),
        speed=SpeedRecipe(),
        gain=GainRecipe(),
        noise=NoiseRecipe("n.jsonl"),
        room=RoomRecipe(),
        telephone=TelephoneRecipe(),
    ),
    train=TrainRecipe(steps=5000, epochs=3, minutes=1.0, ema=0.9, patience=2),
)
ADAPTED = replace(FULL, init_from="a.nemo", adapt=AdaptRecipe(lora=LoraRecipe()))


def changed(recipe: Any, key: str, value: Any) -> Any:
    """`recipe` with `value` at a dotted key."""
    first, _, rest = key.partition(".")
    inner = changed(getattr(recipe, first), rest, value) if rest else value
    return replace(recipe, **{first: inner})


def at(recipe: Any, key: str) -> Any:
    for name in key.split("."):
        recipe = getattr(recipe, name)
    return recipe


def assert_refused(recipe: Recipe, *, device: str | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        check_recipe(recipe, device=device)
    said = str(error.value)
    assert said.startswith("full: ")
    assert "\n" not in said
    return said


def test_a_recipe_with_everything_is_fine() -> None:
    check_recipe(FULL)
    check_recipe(FULL, device="cuda")
    check_recipe(ADAPTED)


@pytest.mark.parametrize("key", sorted({*POSITIVE, *NOT_NEGATIVE, *SHARES, *BELOW_ONE, *RANGES}))
def test_numbers_out_of_range(key: str) -> None:
    full = ADAPTED if key.startswith("adapt.") else FULL
    value = at(full, key)
    pair = isinstance(value, tuple)
    wrong: list[float] = [float("nan")]
    if key in POSITIVE:
        wrong += [0, -1]
    if key in NOT_NEGATIVE:
        wrong += [-1]
    if key in SHARES:
        wrong += [1.5, -0.5]
    if key in BELOW_ONE:
        wrong += [1.0]
    for number in wrong:
        said = assert_refused(changed(full, key, (number, value[1]) if pair else number))
        assert key in said
    if key in RANGES:
        assert "lower end comes first" in assert_refused(changed(full, key, value[::-1]))


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        ("model.heads", (), "model.heads is empty"),
        ("model.heads", ("ctc", "ctc"), "twice"),
        ("model.heads", ("rnnt", "tdt"), "both rnnt and tdt"),
        ("model.default_head", "tdt", "default_head tdt is not one of"),
        ("model.durations", (0, 1), "durations are those of a tdt head"),
        ("model.predictor", {"hidden": 3}, "predictor is part of an rnnt or tdt head"),
        ("model.encoder", {"n_layer": 3}, "nearest is model.encoder.n_layers"),
        ("tokenizer.path", "tok", None),
        ("data.train", (), "data.train is empty"),
        ("data.min_seconds", 20.0, "data.min_seconds 20.0 is not below data.max_seconds 20.0"),
        ("augment.spec", SpecAugmentRecipe(time_masks=0, adaptive=0.1), None),
        ("augment.spec.freq_width", 81, "more than the 80 bins"),
        ("augment.spec.time_width", 2.5, "counts whole frames"),
        ("augment.telephone.codecs", (), "codecs is empty"),
        ("schedule.min_lr", 0.1, "above optimizer.lr"),
        ("optimizer.momentum", 0.9, "momentum is sgd's"),
        ("train.ema", 0.0, "above 0 and below 1"),
        ("data.validation", (), "goes by the validation WER"),
        ("train", TrainRecipe(), "nothing ends the training"),
        ("train", TrainRecipe(minutes=3), "cosine needs to know its end"),
        ("train", TrainRecipe(steps=3, average=True, keep_best=1), "keep_best must be 2"),
        ("tokenizer", None, "tokenizer is null; only a model of init_from"),
        ("adapt", AdaptRecipe(), "adapt changes a model that is there: give init_from"),
        ("data.train", (SourceRecipe(manifest="a.jsonl", limit=0),), "data.train.0.limit is 0"),
    ],
)
def test_impossible_pairs(key: str, value: Any, complaint: str | None) -> None:
    recipe = changed(FULL, key, value)
    if complaint is None:
        check_recipe(recipe)
    else:
        assert complaint in assert_refused(recipe)


@pytest.mark.parametrize(
    "source, complaint",
    [
        (SourceRecipe(), "names no speech"),
        (SourceRecipe(manifest="a", dataset="b"), "has both manifest and dataset"),
        (SourceRecipe(manifest="a", tar="t", cuts="b"), "has both manifest and tar"),
        (SourceRecipe(tar="t", cuts="b"), "has both tar and cuts"),
        (SourceRecipe(manifest="a", tar="b.tar"), None),
        (SourceRecipe(tar="b.tar"), None),
        (SourceRecipe(manifest=()), "manifest is empty"),
        (SourceRecipe(manifest="a", weight=0.0), "weight is 0.0"),
        (SourceRecipe(manifest="a", weight=float("inf")), "weight is inf"),
        (SourceRecipe(manifest="a", streaming=True), "streaming belongs to a dataset"),
        (SourceRecipe(manifest="a", split="test"), "split belongs to a dataset"),
        (SourceRecipe(dataset="a", split="test", streaming=True), None),
    ],
)
def test_sources(source: SourceRecipe, complaint: str | None) -> None:
    recipe = changed(FULL, "data.train", (source,))
    if complaint is None:
        check_recipe(recipe)
    else:
        assert complaint in assert_refused(recipe)


@pytest.mark.parametrize(
    "said, complaint",
    [
        ("{dataset: a, streaming: true, join: {}}", "both join and streaming"),
        ("{tar: a.tar, join: {}}", "both join and tar"),
        ("{manifest: a, join: {count: [3, 2]}}", "the lower end comes first"),
        ("{manifest: a, join: {count: [0, 2]}}", "at least 1 utterance"),
        ("{manifest: a, join: {pause: [-1, 2]}}", "0 seconds or more"),
        ("{manifest: a, join: {items: 0}}", "items is 0"),
    ],
)
def test_joining(said: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_recipe("citrinet_256", [f"data.train=[{said}]"])


def test_the_transducers_durations() -> None:
    recipe = changed(FULL, "model.heads", ("tdt",))
    for durations in ((0, 1, 2), (1, 2), (0, 1)):
        check_recipe(changed(recipe, "model.durations", durations))
    for durations in ((), (2, 1), (0, 2), (-1, 1), (1, 1)):
        assert "model.durations is" in assert_refused(changed(recipe, "model.durations", durations))


def test_a_hybrid_needs_both_its_losses() -> None:
    recipe = changed(FULL, "model.heads", ("ctc", "rnnt"))
    check_recipe(recipe)
    for weight, unused in ((0.0, "ctc"), (1.0, "the transducer")):
        said = assert_refused(changed(recipe, "loss.ctc_weight", weight))
        assert f"leaves {unused} untrained" in said


def test_half_precision_needs_a_device_that_has_it() -> None:
    recipe = changed(FULL, "train.precision", "fp16")
    check_recipe(recipe, device="cuda")
    check_recipe(recipe)
    assert "fp16 does not run on a CPU" in assert_refused(recipe, device="cpu")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b"])
def test_a_name_is_that_of_a_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="it names the run's folder"):
        check_recipe(replace(FULL, name=name))


def test_a_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^citrinet_256: optimizer.lr is 0.0; it must be above"):
        load_recipe("citrinet_256", ["optimizer.lr=0"])


@pytest.mark.parametrize(
    "key, value, complaint",
    [
        ("adapt.lora.targets", (), "adapt.lora.targets is empty"),
        ("adapt.freeze", ("encoder",), "adapt has both lora and freeze"),
        ("adapt.lr", {"encoder": 0.0}, "adapt.lr encoder is 0.0; it must be above 0"),
        ("adapt", AdaptRecipe(unfreeze=("norm",)), "excepts from adapt.freeze, which is empty"),
        ("train.freeze_batch_norm", False, "holds no statistics"),
        ("train.average", True, "train.average makes a mean of models"),
        ("init_from", None, "give init_from"),
        ("tokenizer", None, None),
    ],
)
def test_adaptation(key: str, value: Any, complaint: str | None) -> None:
    recipe = changed(ADAPTED, key, value)
    if complaint is None:
        check_recipe(recipe)
    else:
        assert complaint in assert_refused(recipe)


def test_eight_bits_want_a_gpu() -> None:
    recipe = changed(FULL, "optimizer.name", "adamw8bit")
    check_recipe(recipe, device="cuda")
    assert "adamw8bit" in assert_refused(recipe, device="cpu")
