"""No value of a recipe's key does worse than a ConfigError in a line that names the key."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from auricle.errors import ConfigError
from auricle.tokenizers import CharTokenizer
from auricle.training.architecture import model_config
from auricle.training.reading import load_recipe, to_yaml
from auricle.training.starting import fresh

VALUES = (
    "x",
    "[]",
    "{}",
    "null",
    "true",
    "-1",
    ".inf",
    ".nan",
    "1099511627776",
    "1e308",
    "[1, [2, [3]]]",
    "{a: {b: {c: 1}}}",
    f'"{"y" * 30000}"',
    "[" * 40 + "]" * 40,
    "9" * 5000,
    '"\\ud800"',
    '"\\0"',
    "!!python/object:os.system x",
    "[1, 2, 3, 4, 5, 6, 7]",
)


def _keys(values: Any, name: str = "") -> list[str]:
    """The dotted names of everything in a recipe."""
    rows = values.items() if isinstance(values, dict) else enumerate(values)
    names = []
    for key, value in rows:
        names.append(f"{name}{key}")
        if isinstance(value, dict | list):
            names += _keys(value, f"{name}{key}.")
    return names


KEYS = _keys(yaml.safe_load(to_yaml(load_recipe("digits"))))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:12])
def test_a_wrong_value_is_a_line_that_names_the_key(value: str) -> None:
    refused = 0
    # A third of the keys for each value, and each key for a third of the values.
    for key in KEYS[VALUES.index(value) % 3 :: 3]:
        try:
            load_recipe("digits", [f"{key}={value}"])
        except ConfigError as error:
            message = str(error)
            assert key in message or key.split(".")[-1] in message or key.split(".")[0] in message
            assert "\n" not in message
            assert len(message.encode()) < 2000
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.encoder.n_layers=1000000000", "n_layers is 1000000000"),
        ("model.features.n_mels=1000000000", "n_mels is 1000000000"),
        ("model.features.options={n_fft: 1099511627776}", "n_fft is 1099511627776"),
        ("model.encoder.att_context_size=[[1, 2, 3]]", "att_context_size"),
        ("augment.spec.time_masks=1000000000", "augment.spec.time_masks is 1000000000"),
        ("data.workers=1000000000", "data.workers is 1000000000"),
        ("data.train.1.join.count=[1, 1000000000]", "data.train.1.join"),
        ("data.train.1.join.pause=[0, .inf]", "data.train.1.join"),
        ("data.batch_seconds=.nan", "data.batch_seconds is nan"),
    ],
)
def test_absurd_numbers_are_refused(change: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("digits", [change])
    assert said in str(caught.value)


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_built() -> None:
    recipe = load_recipe("digits", ["model.encoder.d_model=65536", "model.encoder.n_heads=64"])
    tokenizer = CharTokenizer(tuple("abc"))
    with pytest.raises(ConfigError, match=r"G parameters, which take .* GB of memory are free"):
        fresh(model_config(recipe.model, 3), tokenizer, recipe)
