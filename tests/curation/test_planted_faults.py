"""A small version of `benchmarks/planted_faults.py`, with a step that "hears" what was said."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from auricle import audio
from auricle.curation import run
from auricle.curation.pipeline import load_steps
from benchmarks.planted_faults import (
    BROKEN,
    BROKEN_ROWS,
    GOOD,
    KINDS,
    POISON,
    Planting,
    Row,
    Tally,
    pipeline,
    tallied,
    write_manifest,
)

RATE, EACH, SPOKEN = 16_000, 2, 44
EAR = Path(__file__).with_name("perfect_ear.py")
SUBTLE = "one word in five wrong"
WORDS = ("river", "stone", "seven", "morning", "under", "light", "carried", "north", "window")


def spoken(folder: Path, number: int) -> Row:
    """Two seconds that come and go as speech does, in all of the band."""
    drawn = np.random.default_rng(number)
    t = np.arange(2 * RATE) / RATE
    samples = 0.05 * drawn.standard_normal(len(t)) * (1.1 + np.sin(2 * np.pi * 4 * t))
    path = folder / f"clip{number:02}.flac"
    with path.open("w+b") as file:
        audio.write(file, [samples.astype(np.float32)], RATE)
    words = random.Random(number).choices(WORDS, k=5)
    return {"audio_filepath": str(path), "duration": 2.0, "text": " ".join(words)}


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    folder = tmp_path_factory.mktemp("faults")
    rows = [spoken(folder, number) for number in range(SPOKEN)]
    other = [Path(spoken(folder, number)["audio_filepath"]) for number in (90, 91)]
    noises = {"noise": other[:1], "music": other[1:]}
    rows = Planting(rows, noises, folder / "damaged", EACH).planted()
    manifest = write_manifest(folder / "planted.jsonl", rows)
    hear = load_steps(EAR)["hear_well"]
    run(pipeline(manifest, hear, EAR), folder / "out", workers=2)
    return tallied(rows, folder / "out")


def test_every_row_comes_out_once(tally):
    assert tally.problems == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != SUBTLE])
def test_faults_of_a_kind_are_found(tally, kind):
    assert tally.planted[kind] == EACH
    assert tally.found[kind].total() == EACH, tally.kept[kind]


def test_no_good_row_is_dropped(tally):
    assert tally.planted[GOOD] == SPOKEN + 2 * EACH - EACH * len(KINDS)
    assert tally.found[GOOD] == {}


def test_a_fault_is_told_apart_from_the_others(tally):
    ways = {kind: {way.partition(": ")[2] for way in by} for kind, by in tally.found.items()}
    assert ways[POISON] == {"worker_died"}
    assert ways["truncated file"] == {"truncated"}
    assert ways["empty file"] == {"empty"}
    assert ways["missing file"] == {"no such file"}
    assert ways["exact duplicate"] == ways["duplicate in another container"] == {"duplicate audio"}
    assert ways[BROKEN] == {"broken row"}
    assert tally.found[BROKEN].total() == len(BROKEN_ROWS)


def test_the_table_names_every_kind_once(tally):
    lines = list(tally.table())
    for kind in (*KINDS, BROKEN):
        assert sum(line.startswith(f"| {kind} |") for line in lines) == 1
