"""Sources of manifests: what is read, what is kept, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.errors import AudioError, AuricleError, ConfigError, ManifestError, MissingExtra
from auricle.tokenizers import AggregateTokenizer, CharTokenizer
from auricle.training.alignment import ModelFacts
from auricle.training.checking import bad_rows, check
from auricle.training.listed import Joined, shuffled
from auricle.training.recipe import DataRecipe, JoinRecipe, SourceRecipe
from auricle.training.sounds import BytesSound, FileSound, JoinedSound
from auricle.training.sources import Source, open_sources, texts
from tests.audio.media import chirp, encode
from tests.training.speech import RATE, clip, manifest, write_rows

DATA = DataRecipe()


def opened(source: SourceRecipe, folder: Path, data: DataRecipe = DATA) -> Source:
    (found,) = open_sources([source], data, folder=folder)
    return found


def clips(source: Source) -> list[str]:
    """The names of the items' files."""
    return [Path(item.name).stem for item in source.items()]


def test_a_manifest_becomes_items(tmp_path: Path) -> None:
    manifest(tmp_path)
    source = opened(SourceRecipe(manifest="train.jsonl", language="en"), tmp_path)
    items = list(source.items())
    assert (source.name, source.size, source.dropped) == ("train.jsonl", 6, {})
    assert items[1].duration == 0.4
    assert (items[1].text, items[1].language) == ("ab", "en")
    assert items[1].data == {"speaker": "odd"}  # what is in a field is not held twice
    assert len(items[1].sound.read(RATE)) == 0.4 * RATE
    assert list(texts([source])) == ["a", "ab", "abc"] * 2
    order = list(source.order(np.random.default_rng(1)))
    assert sorted(item.name for item in order) == sorted(item.name for item in items)
    assert order != items


def test_many_manifests_plain_or_gzip_are_one_source(tmp_path: Path) -> None:
    manifest(tmp_path, 4, "train_0.jsonl")
    lines = manifest(tmp_path, 4, "train_1.jsonl").read_bytes()
    (tmp_path / "train_1.jsonl").unlink()
    (tmp_path / "train_2.json.gz").write_bytes(gzip.compress(lines))
    both = SourceRecipe(manifest=("train_0.jsonl", "train_2.json.gz"))
    assert opened(both, tmp_path).size == 8
    manifest(tmp_path, 2, "train_1.jsonl")
    assert opened(SourceRecipe(manifest="train__OP_0..1_CL_.jsonl"), tmp_path).size == 6
    assert opened(SourceRecipe(manifest="train_{0,1}.jsonl"), tmp_path).size == 6


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    """Of all files together, before any row is dropped; no row behind them is looked at."""
    manifest(tmp_path, 4, "train_0.jsonl")
    lines = manifest(tmp_path, 4, "train_1.jsonl").read_text().splitlines()
    lines[2] = "no row"
    (tmp_path / "train_1.jsonl").write_text("\n".join(lines))
    both = ("train_0.jsonl", "train_1.jsonl")
    everything = [*clips(opened(SourceRecipe(manifest=both[0]), tmp_path))]
    for limit in (1, 3, 4, 6):
        source = opened(SourceRecipe(manifest=both, limit=limit), tmp_path)
        assert clips(source) == (everything + everything)[:limit]
    odd = SourceRecipe(manifest=both, limit=4, where={"speaker": ("odd",)})
    assert opened(odd, tmp_path).size == 2
    with pytest.raises(ManifestError):
        opened(SourceRecipe(manifest=both, limit=7), tmp_path)


def test_a_stretch_is_read_alone(tmp_path: Path) -> None:
    clip(tmp_path, "long.wav", 3.0)
    rows = [
        {"audio_filepath": "long.wav", "offset": 1.0, "duration": 0.5, "text": "a"},
        {"audio_filepath": "long.wav", "offset": 2.25, "text": "b"},
        {"audio_filepath": "long.wav", "duration": 0, "text": "c"},
    ]
    write_rows(tmp_path / "m.jsonl", rows)
    items = list(opened(SourceRecipe(manifest="m.jsonl"), tmp_path).items())
    assert [item.duration for item in items] == [0.5, 0.75, 3.0]  # measured where not said
    assert [len(item.sound.read(RATE)) / RATE for item in items] == [0.5, 0.75, 3.0]
    assert items[0].name.endswith("long.wav at 1 s")


def test_another_key_may_hold_the_text(tmp_path: Path) -> None:
    row = {"audio_filepath": "x.wav", "duration": 1, "text": "a", "said": "b", "lang": "de"}
    write_rows(tmp_path / "m.jsonl", [row])
    source = SourceRecipe(manifest="m.jsonl", text_column="said", language="en")
    (item,) = opened(source, tmp_path).items()
    assert (item.text, item.language) == ("b", "de")


@pytest.mark.parametrize(
    ("source", "data", "kept", "dropped"),
    [
        ({"where": {"speaker": ("odd",)}}, {}, [1, 3, 5], {"where speaker": 3}),
        ({"unless": {"speaker": ("odd", "x")}}, {}, [0, 2, 4], {"unless speaker": 3}),
        ({"unless": {"accent": ("",)}}, {}, [0, 1, 2, 3, 4, 5], {}),
        ({"where": {"duration": (0.3, 0.5)}}, {}, [0, 2], {"where duration": 4}),
        ({}, {"min_seconds": 0.5}, [2, 3, 4, 5], {"min_seconds (0.5)": 2}),
        ({}, {"max_seconds": 0.5}, [0, 1, 2], {"max_seconds (0.5)": 3}),
    ],
)
def test_filters_count_what_they_take(
    tmp_path: Path,
    source: dict[str, Any],
    data: dict[str, Any],
    kept: list[int],
    dropped: dict[str, int],
) -> None:
    manifest(tmp_path)
    found = opened(SourceRecipe(manifest="train.jsonl", **source), tmp_path, DataRecipe(**data))
    assert [int(name) for name in clips(found)] == kept
    assert found.dropped == dropped


def test_nothing_left_says_which_filter_took_it(tmp_path: Path) -> None:
    manifest(tmp_path)
    source = SourceRecipe(manifest="train.jsonl", where={"speaker": ("odd",)})
    said = r"train\.jsonl: no items.*rows were taken out: 3 by where speaker, 3 by min_seconds \(2"
    with pytest.raises(ManifestError, match=said):
        opened(source, tmp_path, DataRecipe(min_seconds=2.0))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ManifestError, match=r"empty\.jsonl: no items to learn from: there are no"):
        opened(SourceRecipe(manifest="empty.jsonl"), tmp_path)


def test_what_cannot_be_measured_is_dropped_or_refused(tmp_path: Path) -> None:
    clip(tmp_path, "there.wav", 1.0)
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": f"{n}.wav"} for n in ("gone", "there")])
    source = SourceRecipe(manifest="m.jsonl")
    found = opened(source, tmp_path)
    assert clips(found) == ["there"]
    assert found.dropped == {"sound that cannot be read": 1}
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        opened(source, tmp_path, DataRecipe(invalid="refuse"))


def test_bad_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.jsonl: no such manifest"):
        opened(SourceRecipe(manifest="none.jsonl"), tmp_path)
    manifest(tmp_path)
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("not JSON\n")
    with pytest.raises(ManifestError, match=r"train\.jsonl, line 7: not JSON"):
        opened(SourceRecipe(manifest="train.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "exactly one of manifest, tar, dataset and cuts .* got none of them"),
        ({"manifest": "a", "cuts": "b"}, "got cuts and manifest"),
        ({"tar": "a", "dataset": "b"}, "got dataset and tar"),
        ({"manifest": "a", "weight": 0.0}, "a: weight must be more than 0, got 0"),
        ({"manifest": "a", "streaming": True}, "a: streaming does not go with"),
        ({"tar": "pipe:cat a.tar"}, "pipe:cat a.tar: only files are read"),
        ({"tar": "s3://bucket/a.tar"}, "only files are read"),
    ],
)
def test_sources_that_cannot_be_are_refused(
    tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(SourceRecipe(**source), tmp_path)


def test_texts_must_be_texts(tmp_path: Path) -> None:
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "x.wav", "duration": 1, "said": 5}])
    with pytest.raises(ManifestError, match=r"x\.wav: the text must be a string, got 5"):
        opened(SourceRecipe(manifest="m.jsonl", text_column="said"), tmp_path)


@pytest.mark.parametrize(("kind", "package"), [("dataset", "datasets"), ("cuts", "lhotse")])
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'auricle\[{package}\]'"):
        opened(SourceRecipe(**{kind: "x"}), tmp_path)  # type: ignore[arg-type]


def test_styles_of_writing_are_not_mixed_unless_set(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "x.wav", "duration": 1}]
    write_rows(tmp_path / "upper.jsonl", [{**rows[0], "text": "HELLO"}])
    write_rows(tmp_path / "cased.jsonl", [{**rows[0], "text": "Hello there."}])
    both = [SourceRecipe(manifest=f"{name}.jsonl") for name in ("upper", "cased")]
    with pytest.raises(ConfigError, match=r"upper\.jsonl is upper, cased\.jsonl is cased"):
        open_sources(both, DATA, folder=tmp_path)
    found = open_sources(both, DataRecipe(text="plain"), folder=tmp_path)
    assert list(texts(found)) == ["hello", "hello there"]
    found = open_sources(both, DataRecipe(text="as_is"), folder=tmp_path)
    assert list(texts(found)) == ["HELLO", "Hello there."]


def joined(folder: Path, data: DataRecipe = DATA, **join: Any) -> Source:
    return opened(SourceRecipe(manifest="train.jsonl", join=JoinRecipe(**join)), folder, data)


def test_utterances_of_a_speaker_are_joined(tmp_path: Path) -> None:
    manifest(tmp_path, 12)
    source = joined(tmp_path, count=(2, 3), pause=(0.1, 0.2))
    items = list(source.order(np.random.default_rng(1)))
    used = [part.path for item in items for part in item.sound.parts]  # type: ignore[attr-defined]
    assert len(set(used)) == 12  # everything is heard
    for item in items:
        assert isinstance(item.sound, JoinedSound)
        parts = [part for part in item.sound.parts if isinstance(part, FileSound)]
        assert 2 <= len(parts) <= 3
        assert len({int(Path(part.path).stem) % 2 for part in parts}) == 1  # one speaker
        assert all(0.1 <= pause <= 0.2 for pause in item.sound.pauses)
        assert item.text == " ".join("abc"[: int(Path(p.path).stem) % 3 + 1] for p in parts)
        samples = item.sound.read(RATE)
        assert len(samples) / RATE == pytest.approx(item.duration, abs=0.001)
        pause = samples[len(parts[0].read(RATE)) :][: int(0.1 * RATE)]
        assert not pause.any()
        assert item.data == {"speaker": item.data["speaker"]}
    again = list(source.order(np.random.default_rng(1)))
    assert again == items
    assert list(source.order(np.random.default_rng(2))) != items
    assert list(source.items()) == list(source.items())  # for validation
    assert pickle.loads(pickle.dumps(items)) == items


def test_so_many_are_joined_and_none_too_long(tmp_path: Path) -> None:
    manifest(tmp_path, 12)
    source = joined(tmp_path, count=(3, 5), items=40, by=None)
    assert source.size == len(list(source.items())) == 40
    short = joined(tmp_path, DataRecipe(max_seconds=2.0), count=(3, 5), items=40)
    durations = [item.duration for item in short.items()]
    assert max(durations) <= 2.0


def test_nothing_joined_is_nothing() -> None:
    """As of a source whose recordings are all missing, beside one that is there."""
    for join in (JoinRecipe(), JoinRecipe(items=5)):
        nothing = Joined("a", None, [], {}, join, 20.0)
        assert nothing.size == 0
        assert list(nothing.items()) == []


def test_joining_needs_a_key_and_a_sensible_range(tmp_path: Path) -> None:
    manifest(tmp_path)
    with pytest.raises(ConfigError, match=r"0\.wav has no 'accent' to join by"):
        joined(tmp_path, by="accent")
    for options in ({"count": (0, 2)}, {"count": (3, 2)}, {"pause": (0.5, 0.1)}, {"items": 0}):
        with pytest.raises(ConfigError, match=r"join\.\w+ must be"):
            joined(tmp_path, **options)


def test_a_buffer_mixes_what_comes_in_order() -> None:
    numbers: list[Any] = list(range(5000))
    found: list[Any] = list(shuffled(numbers, 500, np.random.default_rng(0)))
    assert sorted(found) == numbers
    assert np.corrcoef(found[:500], numbers[:500])[0, 1] < 0.7
    moved = np.abs(np.argsort(found) - numbers)
    assert moved.mean() > 200
    assert list(shuffled([], 5, np.random.default_rng(0))) == []


def test_the_shared_speech_is_read(shared: Callable[[str], Path]) -> None:
    digits = shared("data/digits.jsonl")
    source = SourceRecipe(manifest=str(digits), join=JoinRecipe(count=(3, 7)))
    (found,) = open_sources([source], DATA)
    items = list(found.items())
    assert {len(item.text.split()) for item in items} == {3, 4, 5, 6, 7}
    assert len(items[0].sound.read(RATE)) / RATE == pytest.approx(items[0].duration, abs=0.02)


def test_rows_without_durations_are_measured_by_what_is_decoded(tmp_path: Path) -> None:
    """In a file, in a tar and in a data set's bytes; headers of these only guess."""
    once = encode(chirp(1.5, 48_000), "ogg", "libopus", 48_000)
    late = encode(chirp(1.5), "matroska", "aac", starts=(1.0,), video_seconds=2.5)
    sounds = {"twice.opus": 2 * once, "late.mkv": late}
    seconds = {name: len(audio.read(content)) / RATE for name, content in sounds.items()}
    assert seconds["twice.opus"] == pytest.approx(3.0, abs=0.02)
    for name, content in sounds.items():
        (tmp_path / name).write_bytes(content)
        assert BytesSound(content, name).seconds() == pytest.approx(seconds[name], abs=1e-3)
    rows = [{"audio_filepath": name, "text": name} for name in sounds]
    write_rows(tmp_path / "rows.jsonl", rows)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in sounds:
            tar.add(tmp_path / name, name)
    for shards in (None, "a.tar"):
        source = SourceRecipe(manifest="rows.jsonl", tar=shards)
        durations = {item.text: item.duration for item in opened(source, tmp_path).items()}
        assert durations == pytest.approx(seconds, abs=1e-3)
    (tmp_path / "no.wav").write_bytes(b"no sound")
    write_rows(tmp_path / "rows.jsonl", [{"audio_filepath": "no.wav"}, *rows])
    left = opened(SourceRecipe(manifest="rows.jsonl"), tmp_path)
    assert left.dropped == {"sound that cannot be read": 1} and left.size == 2


VALUES: list[Any] = [
    None,
    True,
    -1,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "\ud800",
    "\udcff",
    "\x85",
]
VALUES += ["n" * 300, "a\0b", "~nobody/x", "../x", "/", [], [1], {}, {"a": 1}, "\u2028", "a.wav"]
KEYS = ["audio_filepath", "file_name", "duration", "text", "offset", "lang", "language", "speaker"]
KEYS += ["shard_id", "\ud800", "id"]
LINES = [
    '{"audio_filepath":"a.wav"}{"audio_filepath":"a.wav"}',
    "{",
    "[]",
    "3",
    "null",
    "[" * 99_999,
]


def _drawn_line(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return rng.choice(LINES)
    row: dict[str, Any] = {"audio_filepath": "a.wav", "file_name": "a.wav", "text": "hi"}
    for _ in range(rng.randint(0, 3)):
        row[rng.choice(KEYS)] = rng.choice(VALUES)
    return json.dumps({"duration": 0.3, "speaker": "s", **row})


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_any_kind_end_in_items_or_in_one_error(tmp_path: Path, seed: int) -> None:
    """In every kind of source: nothing but Auricle's own errors, each on one line."""
    rng = random.Random(seed)
    (tmp_path / "set").mkdir()
    content = clip(tmp_path, "a.wav", 0.3).read_bytes()
    clip(tmp_path, "set/a.wav", 0.3)
    tokenizer = AggregateTokenizer({"en": CharTokenizer([" ", *"hi"])})
    facts = ModelFacts(("ctc",), lambda seconds: int(seconds / 0.08))
    for _ in range(20):
        lines = [_drawn_line(rng) for _ in range(rng.randint(1, 3))]
        for name in ("rows.jsonl", "set/metadata.jsonl"):
            (tmp_path / name).write_text("\n".join(lines))
        with tarfile.open(tmp_path / "s_0.tar", "w") as tar:
            for name, part in (("a.wav", content), ("a.json", lines[0].encode())):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
        join = rng.choice([None, JoinRecipe()])
        for kind in (
            {"manifest": "rows.jsonl"},
            {"manifest": "rows.jsonl", "tar": "s_0.tar"},
            {"tar": "s_0.tar"},
            {"dataset": "set"},
        ):
            source = SourceRecipe(**kind, join=join)
            invalid = rng.choice(["skip", "refuse"])
            data = DataRecipe(min_seconds=0, invalid=invalid)  # type: ignore[arg-type]
            try:
                assert all("\n" not in line for line in bad_rows([source], tmp_path))
                found = opened(source, tmp_path, data)
                report = check([found], tokenizer, data, facts, deep=True)
                json.dumps(report.to_dict())
                list(found.order(np.random.default_rng(0)))
                report.refuse()
            except AuricleError as error:
                assert "\n" not in str(error) and len(str(error)) < 2000


def test_sounds_of_one_speaker_are_joined_whatever_the_speaker_is(tmp_path: Path) -> None:
    rows = []
    for i, speaker in enumerate([[], [], {"a": 1}, "x", None, 3]):
        clip(tmp_path, f"{i}.wav", 0.3)
        rows.append({"audio_filepath": f"{i}.wav", "text": f"{i}", "speaker": speaker})
    write_rows(tmp_path / "rows.jsonl", rows)
    source = SourceRecipe(manifest="rows.jsonl", join=JoinRecipe(count=(2, 2), pause=(0.0, 0.0)))
    texts_of = sorted(" ".join(sorted(i.text.split())) for i in opened(source, tmp_path).items())
    assert texts_of == ["0 1", "2", "3", "4", "5"]
