from __future__ import annotations

from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from auricle.checkpoints import nemo_yaml
from auricle.checkpoints.nemo_yaml import read_yaml, write_yaml
from auricle.errors import CheckpointError


def read(text: str) -> dict[str, object]:
    return read_yaml(text.encode(), "file")


def test_interpolations() -> None:
    values = read("""
features: 80
model_defaults: {enc: 512, names: [a, b]}
encoder:
  feat_in: ${model.features}
  d_model: ${model_defaults.enc}
  sibling: ${.d_model}
  up: ${..features}
  inner: {two_up: "${...features}"}
  whole: ${model_defaults}
  item: ${model_defaults.names.1}
  bracket: ${model_defaults.names[0]}
  text: "x${features}y${.d_model}"
  nested: ${model_defaults.${key}}
key: enc
""")
    assert values["encoder"] == {
        "feat_in": 80,
        "d_model": 512,
        "sibling": 512,
        "up": 80,
        "inner": {"two_up": 80},
        "whole": {"enc": 512, "names": ["a", "b"]},
        "item": "b",
        "bracket": "a",
        "text": "x80y512",
        "nested": 512,
    }


def test_what_leads_nowhere_stays_as_written() -> None:
    values = read("a: ${oc.env:HOME}\nb: ${nowhere.at.all}\nc: ${......x}\nd: ???")
    assert values == {
        "a": "${oc.env:HOME}",
        "b": "${nowhere.at.all}",
        "c": "${......x}",
        "d": "???",
    }


def test_a_wrapper_is_taken_off_and_still_reached() -> None:
    assert read("name: n\nmodel: {a: 1, b: '${model.a}', c: '${name}'}") == {
        "a": 1,
        "b": 1,
        "c": "n",
    }


def test_the_form_before_1_0_is_modernised() -> None:
    values = read("encoder:\n  cls: nemo.Encoder\n  params: {feat_in: 64}")
    assert values["encoder"] == {"_target_": "nemo.Encoder", "feat_in": 64}


def test_scalars_are_read_as_omegaconf_reads_them() -> None:
    values = read(
        "a: 1e-5\nb: 2021-01-01\nc: 1_000\nd: 'n'\ne: on\nf: 1.0e-05\ng: 0.1\nh: n\ni: 2."
    )
    assert values == {
        "a": 1e-5,
        "b": "2021-01-01",
        "c": 1000,
        "d": "n",
        "e": True,
        "f": 1e-5,
        "g": 0.1,
        "h": "n",
        "i": 2.0,
    }


AWKWARD = ["n", "y", "N", "NO", "no", "on", "Off", "null", "~", "1", "1e5", "''", "'", ": ", "#a"]


def test_awkward_labels_survive_and_are_quoted() -> None:
    labels = [*AWKWARD, "\u2581the", " ", "<unk>", "\U0001f600", "{", "- a", "=", "true"]
    content = write_yaml({"labels": labels})
    assert read_yaml(content, "file")["labels"] == labels
    assert yaml.safe_load(content)["labels"] == labels
    for line in content.decode().splitlines():
        if line.strip("- '").lower() in ("n", "y", "no", "on", "off"):
            assert line.endswith("'")


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(text.filter(lambda key: key != "model"), plain, max_size=4))
def test_writing_and_reading_is_the_identity(values: dict[str, object]) -> None:
    if "${" not in str(values) and "params" not in str(values):
        assert read_yaml(write_yaml(values), "file") == values


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in pairwise("abcdefg")
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: &a [*a]", "grows without end"),
        (BOMB, "grows without end"),
        ("a: ${b}\nb: ${a}", "grows without end|refers to itself"),
        ("a: {b: '${a}'}", "grows without end"),
        ("[" * 100, "nested too deeply"),
        ("- " * 100, "nested too deeply"),
        ("[" * 100_000, "nested too deeply|no plain YAML"),  # PyYAML 6.0.4 has a limit of its own
        ("- " * 100_000, "nested too deeply|no plain YAML"),
        ("a: !!python/object/apply:os.system ['true']", "no plain YAML"),
        ("a: [", "no plain YAML"),
        ("a: " + "1" * 10_000, "no plain YAML"),
        ("- 1", "no mapping"),
        ("", "no mapping"),
        ("\0", "no plain YAML"),
    ],
    ids=range(14),
)
def test_hostile_and_broken_documents_are_refused(content: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        read(content)


def test_a_huge_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemo_yaml, "MAX_BYTES", 3)
    with pytest.raises(CheckpointError, match="5 bytes"):
        read("a: 12")
