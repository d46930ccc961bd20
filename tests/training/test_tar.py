"""Shards: NeMo's layout and WebDataset's, names that stand for many, and damage."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auricle import audio
from auricle.audio import Samples
from auricle.curation.readers import BadRow, Tar
from auricle.curation.sound import read_sound
from auricle.curation.step import Place
from auricle.errors import AudioError, ConfigError, ManifestError
from auricle.training.checking import bad_rows
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sounds import TarSound
from auricle.training.sources import Source, open_sources
from auricle.training.tar import expanded, members
from tests.training.speech import RATE, tone, wav, write_rows


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def nemo_shards(folder: Path, *, sharded: bool) -> SourceRecipe:
    """Two shards as NeMo's script writes them: each with two clips and two stretches of a third."""
    rows: list[list[dict[str, Any]]] = []
    for shard in (0, 1):
        names = [f"data_speaker_{shard}_{i}.wav" for i in range(3)]
        files = {name: wav(tone(1.0 + 0.5 * i, 300 + i)) for i, name in enumerate(names)}
        write_tar(folder / f"audio_{shard}.tar", files)
        own = [
            {"audio_filepath": name, "duration": 1.0 + 0.5 * i, "text": f"{shard} {i}"}
            for i, name in enumerate(names[:2])
        ]
        stem = names[2].removesuffix(".wav")
        own += [
            {"audio_filepath": names[2], "offset": 0.0, "duration": 0.5, "text": f"{shard} x"},
            {"audio_filepath": f"{stem}-sub1.wav", "offset": 1.25, "duration": 0.5, "text": "y"},
        ]
        rows.append([{**row, "shard_id": shard} for row in own])
    if not sharded:
        write_rows(folder / "tarred_audio_manifest.json", rows[0] + rows[1])
        return SourceRecipe(manifest="tarred_audio_manifest.json", tar="audio__OP_0..1_CL_.tar")
    for shard, own in enumerate(rows):
        for row in own:
            del row["shard_id"]  # then the manifests' numbers say it
        write_rows(folder / f"manifest_{shard}.json", own)
    return SourceRecipe(manifest="manifest__OP_0..1_CL_.json", tar="audio_{0..1}.tar")


def opened(source: SourceRecipe, folder: Path, **data: Any) -> Source:
    (found,) = open_sources([source], DataRecipe(**data), folder=folder)
    return found


@pytest.mark.parametrize("sharded", [False, True])
def test_nemos_tars_are_read(tmp_path: Path, sharded: bool) -> None:
    source = opened(nemo_shards(tmp_path, sharded=sharded), tmp_path)
    items = list(source.items())
    assert [item.text for item in items] == ["0 0", "0 1", "0 x", "y", "1 0", "1 1", "1 x", "y"]
    for item in items:
        assert len(item.sound.read(RATE)) == item.duration * RATE
    whole = audio.read(wav(tone(2.0, 302)))
    assert np.array_equal(items[3].sound.read(RATE), whole[20_000:28_000])
    assert items[3].name == f"{tmp_path / 'audio_0.tar'}: data_speaker_0_2.wav"


def test_shards_are_shuffled_and_their_members_mixed(tmp_path: Path) -> None:
    source = nemo_shards(tmp_path, sharded=False)
    inside = opened(source, tmp_path, shuffle_buffer=1)
    orders = [
        [item.text for item in inside.order(np.random.default_rng(seed))] for seed in range(8)
    ]
    assert {tuple(order) for order in orders} == {
        ("0 0", "0 1", "0 x", "y", "1 0", "1 1", "1 x", "y"),
        ("1 0", "1 1", "1 x", "y", "0 0", "0 1", "0 x", "y"),
    }
    mixed = opened(source, tmp_path).order(np.random.default_rng(0))
    assert [item.text for item in mixed] not in orders


def test_another_codec_is_found_by_its_stem(tmp_path: Path) -> None:
    """`--force_codec` stores `a.flac` for a row that says `a.wav`."""
    write_tar(tmp_path / "audio_0.tar", {"a.flac": wav(tone(1.0))})
    write_rows(tmp_path / "m.json", [{"audio_filepath": "a.wav", "duration": 1.0}])
    source = opened(SourceRecipe(manifest="m.json", tar="audio_0.tar"), tmp_path)
    assert source.size == 1


def clips(folder: Path, **shards: str) -> None:
    """Shards of a clip each, with a manifest of all: the name of each shard, and of its clip."""
    for shard, name in shards.items():
        write_tar(folder / f"{shard}.tar", {f"{name}.wav": wav(tone(1.0))})
    rows = [{"audio_filepath": f"{n}.wav", "duration": 1.0, "text": n} for n in shards.values()]
    write_rows(folder / "all_1.json", rows)


@pytest.mark.parametrize("shards", [{"left": "a", "right": "b"}, {"x_0": "a", "x_1": "b"}])
def test_shards_that_no_row_numbers_are_all_searched(
    tmp_path: Path, shards: dict[str, str]
) -> None:
    clips(tmp_path, **shards)
    tars = tuple(f"{shard}.tar" for shard in shards)
    source = opened(SourceRecipe(manifest="all_1.json", tar=tars), tmp_path)
    assert [item.text for item in source.items()] == ["a", "b"]
    assert source.dropped == {}


def test_two_shards_of_one_number_are_refused(tmp_path: Path) -> None:
    """As of two bodies of speech, whose manifests would be looked up in each other's shards."""
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        clips(tmp_path / folder, audio_0=folder)
    source = SourceRecipe(
        manifest=("p/all_1.json", "q/all_1.json"), tar=("p/audio_0.tar", "q/audio_0.tar")
    )
    with pytest.raises(ConfigError, match=r"p/audio_0\.tar and .*q/audio_0\.tar are both shard 0"):
        opened(source, tmp_path)


def test_rows_without_their_sound_are_dropped_or_refused(tmp_path: Path) -> None:
    recipe = nemo_shards(tmp_path, sharded=False)
    path = tmp_path / "tarred_audio_manifest.json"
    row = {"audio_filepath": "gone.wav", "duration": 1.0, "shard_id": 1}
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    source = opened(recipe, tmp_path)
    assert (source.size, source.dropped) == (8, {"sound that is not there": 1})
    with pytest.raises(ManifestError, match=r"json: gone\.wav is not in .*audio_1\.tar"):
        opened(recipe, tmp_path, invalid="refuse")


def test_webdataset_is_read(tmp_path: Path) -> None:
    files = {
        "set/a.wav": wav(tone(1.0)),
        "set/a.txt": b"first\n",
        "set/b.json": json.dumps({"text": "second", "speaker": "x", "lang": "de"}).encode(),
        "set/b.1.wav": wav(tone(2.0)),
        "set/c.txt": b"nobody speaks",
    }
    write_tar(tmp_path / "shard-000.tar", files)
    source = opened(SourceRecipe(tar="shard-{000..000}.tar"), tmp_path)
    first, second = source.items()
    assert (first.text, first.duration) == ("first", 1.0)  # measured by the header
    assert (second.text, second.duration, second.language) == ("second", 2.0, "de")
    assert second.data["speaker"] == "x"
    assert source.dropped == {"sound that is not there": 1}
    assert np.array_equal(second.sound.read(RATE), audio.read(files["set/b.1.wav"]))


def pairs(source: SourceRecipe, folder: Path) -> dict[str, int]:
    """The pitch in Hz that each text meets, in training; curation must agree."""
    found = {item.text: _hz(item.sound.read(RATE)) for item in opened(source, folder).items()}
    paths = (expanded(names or (), folder) for names in (source.tar, source.manifest))
    tars, rows = (tuple(map(str, group)) for group in paths)
    items = Tar(tars, rows or None).items(folder)
    heard = {i["text"]: _hz(read_sound(i, Place(folder))) for i in items if isinstance(i, dict)}
    assert heard == found
    return found


def _hz(samples: Samples) -> int:
    return int(np.argmax(np.abs(np.fft.rfft(samples, RATE))))


@pytest.mark.parametrize(
    ("shards", "rows"),
    [
        # Each member is a tone; None: no sound of that name is in the shard of the row.
        ([{"a/1.wav": 300, "b/1.wav": 600}], {"a/1.wav": 300, "b/1.wav": 600, "c/1.wav": None}),
        ([{"t.01.ogg": 300, "t.02.ogg": 600}], {"t.01.wav": 300, "t.02.mp3": 600, "t.03": None}),
        ([{"a/1.wav": 300}, {"b/1.wav": 600}], {"a/1.wav": 300, "b/1.wav": 600}),
        ([{"1.flac": 300}, {"1.wav": 600}], {"1.wav": 600}),
        ([{"t.wav": 300}], {"t.1": None, "t.2": None, "t": 300}),
        ([{"./a/1.wav": 300, "b//2.wav": 600}], {"a/1.wav": 300, "/b/2.wav": 600}),
        ([{"u\u0308.wav": 300, "o.wav": 600}], {"\u00fc.wav": 300, "\u00f6.wav": None}),
        ([{"x_00.json": 300, "x_00.flac": 600}], {"x_00.wav": 600}),
        ([{"t.flac": 300, "t-sub2.flac": 600}], {"t.flac": 300, "t-sub1.flac": 300}),
    ],
)
def test_a_text_never_meets_anothers_sound(
    tmp_path: Path, shards: list[dict[str, int]], rows: dict[str, int | None]
) -> None:
    for number, names in enumerate(shards):
        files = {name: wav(tone(0.1, hz)) for name, hz in names.items()}
        write_tar(tmp_path / f"audio_{number}.tar", files)
    for known in (False, True)[: 3 - len(shards)]:  # whether the rows give their shard
        shard = {"shard_id": 0} if known else {}
        said = [{"audio_filepath": name, "duration": 0.1, "text": name, **shard} for name in rows]
        write_rows(tmp_path / "m.json", said)
        tars = tuple(f"audio_{number}.tar" for number in range(len(shards)))
        expected = {name: hz for name, hz in rows.items() if hz}
        assert pairs(SourceRecipe(manifest="m.json", tar=tars), tmp_path) == expected


@pytest.mark.parametrize(
    ("shards", "name", "both"),
    [
        ([["a.flac", "a.ogg"]], "a.wav", r"audio_0\.tar: a\.flac or \S*audio_0\.tar: a\.ogg;"),
        ([["x/a.wav"], ["x/a.wav"]], "x/a.wav", r"audio_0\.tar: x/a.wav or \S*1\.tar: x/a\.wav;"),
        ([["a.wav", "a.wav"]], "a.wav", r"0\.tar: a\.wav or \S*0\.tar: a\.wav;"),
        ([["t.wav", "t-sub1.flac"]], "t-sub1.wav", r"t-sub1\.flac or \S*0\.tar: t\.wav;"),
    ],
)
def test_a_row_that_fits_two_members_names_both(
    tmp_path: Path, shards: list[list[str]], name: str, both: str
) -> None:
    for number, names in enumerate(shards):
        with tarfile.open(tmp_path / f"audio_{number}.tar", "w") as tar:
            for member in names:
                tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    write_rows(tmp_path / "m.json", [{"audio_filepath": name, "duration": 1.0}])
    tars = tuple(f"audio_{number}.tar" for number in range(len(shards)))
    source = SourceRecipe(manifest="m.json", tar=tars)
    said = rf"m\.json, line 1: audio_filepath fits two recordings, got '{name}', .*{both}"
    with pytest.raises(ManifestError, match=said):
        opened(source, tmp_path)
    (line,) = bad_rows([source], tmp_path)
    assert re.search(said, line)
    paths = (tuple(str(tmp_path / one) for one in names) for names in (tars, ("m.json",)))
    (row,) = Tar(*paths).items(tmp_path)
    assert isinstance(row, BadRow) and (row.reason, row.data["line"]) == ("broken row", 1)
    assert re.search(both, row.detail)


def test_a_shard_that_is_not_read_lends_no_sound(tmp_path: Path) -> None:
    """Shards may be left out of a source; names may be the same in all of them."""
    write_tar(tmp_path / "audio_3.tar", {"1.wav": wav(tone(0.1, 300))})
    row = {"audio_filepath": "1.wav", "duration": 0.1}
    write_rows(tmp_path / "m.json", [{**row, "text": str(n), "shard_id": n} for n in (3, 7)])
    source = SourceRecipe(manifest="m.json", tar="audio_3.tar")
    assert pairs(source, tmp_path) == {"3": 300}
    dropped = opened(source, tmp_path).dropped
    assert dropped == {"sound that is not there": 1}
    assert dropped.examples == [
        f"{tmp_path / 'm.json'}: 1.wav is not in the shards that are read: its shard_id is 7"
    ]


def test_names_of_all_kinds_meet_only_their_own(tmp_path: Path) -> None:
    """An exact name, or the same folder and the same name but for the suffix; never another."""
    rng = np.random.default_rng(0)
    met = 0
    for _ in range(150):
        names = dict.fromkeys(_drawn_name(rng) for _ in range(6))
        shards = tuple(f"audio_{number}.tar" for number in range(2))
        halves = [name for name in names if rng.random() < 0.5]
        for shard, some in zip(shards, (halves, names.keys() - {*halves}), strict=True):
            write_tar(tmp_path / shard, dict.fromkeys(some, b"x"))
        rows = [{"audio_filepath": _drawn_name(rng), "duration": 1.0} for _ in range(4)]
        write_rows(tmp_path / "m.json", [{**row, "text": row["audio_filepath"]} for row in rows])
        paths = tuple(str(tmp_path / shard) for shard in shards)
        for item in Tar(paths, str(tmp_path / "m.json")).items(tmp_path):
            if isinstance(item, dict):
                name, member = item["text"], item["audio_filepath"]
                assert member == name or name not in names
                assert member == name or _without_suffix(name) == _without_suffix(member)
                met += member != name
            elif item.reason == "no sound":
                alike = [n for n in names if _without_suffix(n) == _without_suffix(item.name)]
                assert not alike
    assert met > 20


def _drawn_name(rng: np.random.Generator) -> str:
    parts = ("", "a/", "b/"), ("1", "2", "1.1", "1.2", "\u00e9"), (".wav", ".flac", ".opus")
    return "".join(str(rng.choice(part)) for part in parts)


def _without_suffix(name: str) -> str:
    return str(Path(name).with_suffix(""))


def samples_of(folder: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The text of each member with sound in a shard of WebDataset's, and the problems of others.

    A text says its own name; training and curation must agree.
    """
    files = {name: wav(tone(0.1)) for name in names}
    files |= {n: json.dumps({"text": n}).encode() for n in names if n.endswith(".json")}
    files |= {n: n.encode() for n in names if n.endswith((".txt", ".md"))}
    path = write_tar(folder / "0.tar", files)
    read = list(Tar(str(path)).items(folder))
    items = {i["audio_filepath"]: i.get("text", "") for i in read if isinstance(i, dict)}
    bad = [i for i in read if isinstance(i, BadRow)]
    if items:
        source = opened(SourceRecipe(tar="0.tar"), folder)
        assert {i.sound.name: i.text for i in source.items()} == items  # type: ignore[attr-defined]
        assert sum(source.dropped.values()) == len(bad)
    return items, sorted(row.detail.removeprefix(f"{path}: ") for row in bad)


def test_samples_with_dots_in_their_names(tmp_path: Path) -> None:
    """Each sound takes the text of its own name; members of no sample are told."""
    dotted = ["t.1.wav", "t.1.json", "t.2.json", "t.2.wav"]
    assert samples_of(tmp_path, dotted) == ({"t.1.wav": "t.1.json", "t.2.wav": "t.2.json"}, [])
    no_texts = ["t.1.wav", "t.2.ogg"]
    assert samples_of(tmp_path, no_texts) == ({"t.1.wav": "", "t.2.ogg": ""}, [])
    whole = ["d.x/a.wav", "d.x/a.txt", "d.x/a.meta.json", "d.x/._a.wav", "README.md", "b.mp3"]
    assert samples_of(tmp_path, whole) == ({"d.x/a.wav": "d.x/a.txt", "b.mp3": ""}, [])
    one_lost = ["t.1.wav", "t.1.txt", "t.2.txt"]
    assert samples_of(tmp_path, one_lost) == ({"t.1.wav": "t.1.txt"}, ["t.2.txt has no sound"])
    beside = "has no text of its name, but texts without sound stand beside it"
    assert samples_of(tmp_path, ["t.1.wav", "t.2.wav", "t.json"]) == (
        {},
        [f"t.1.wav {beside}", f"t.2.wav {beside}", "t.json has no sound"],
    )
    assert samples_of(tmp_path, ["a.wav", "a.flac", "a.json", "b.wav"]) == (
        {"b.wav": ""},
        ["a.wav and a.flac and a.json share a name: keep one sound, and one text of a kind"],
    )


def test_measuring_a_member_reads_its_header_alone(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.wav": wav(tone(600.0))})
    (member,) = members(tmp_path / "a.tar")
    sound = TarSound(str(tmp_path / "a.tar"), member.position, member.size, member.name)
    assert sound.seconds() == 600.0
    with (tmp_path / "a.tar").open("r+b") as file:  # the header still promises it
        file.truncate(100_000)
    assert sound.seconds() == 600.0
    with pytest.raises(AudioError, match=r"a\.tar: a\.wav: the shard is cut short"):
        sound.read(RATE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", r"a\.tar: a\.json: not JSON"),
        (b"[]", r"a\.tar: a\.json: needs one JSON object"),
        (b'{"text": "a", "duration": "x"}', r"a\.wav: duration must be 0 or more seconds, got 'x'"),
        (b'{"text": ["a"]}', r"a\.tar: a\.wav: the text must be a string"),
        (b"\xff\xfe", r"a\.tar: a\.json is not UTF-8"),
    ],
)
def test_damaged_transcripts_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    write_tar(tmp_path / "a.tar", {"a.wav": wav(tone(1.0)), "a.json": content})
    with pytest.raises(ManifestError, match=said):
        opened(SourceRecipe(tar="a.tar"), tmp_path)


def test_a_tar_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    files = {name: wav(tone(0.2)) for name in ("a.wav", "b.wav", "c.wav")}
    whole = write_tar(tmp_path / "whole.tar", files).read_bytes()
    end = 3 * (512 + -(-len(files["a.wav"]) // 512) * 512)
    cuts = [*range(0, end, 700), *range(512, end + 1, 512)]
    for cut in cuts:
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(ManifestError, match=r"cut\.tar: is cut short"):
            members(tmp_path / "cut.tar")
    assert [member.name for member in members(tmp_path / "whole.tar")] == list(files)


def test_a_tar_with_any_header_ends_in_one_error(tmp_path: Path) -> None:
    """Sizes below 0 or beyond all bounds, headers of other kinds, names of any bytes."""
    rng = random.Random(0)
    files = {"a.wav": wav(tone(0.01)), "a.json": b'{"text": "a"}', "x" * 120 + ".txt": b"b"}
    whole = write_tar(tmp_path / "0.tar", files).read_bytes()
    heads = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    for _ in range(300):
        content = bytearray(whole)
        head = rng.choice(heads)
        for _ in range(rng.randint(1, 4)):
            place = rng.choice([0, 100, 124, 125, 130, 156, 345, rng.randrange(512)])
            content[head + place] = rng.choice([0, 0x80, 0xFF, *b"-xgLS17", rng.randrange(256)])
        content[head + 148 : head + 156] = b" " * 8
        content[head + 148 : head + 156] = b"%06o\0 " % sum(content[head : head + 512])
        (tmp_path / "0.tar").write_bytes(content)
        for read in (
            lambda: opened(SourceRecipe(tar="0.tar"), tmp_path),
            lambda: list(Tar(str(tmp_path / "0.tar")).items(tmp_path)),
        ):
            with suppress(ManifestError):
                read()


def test_what_is_no_plain_tar_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"a.wav": b"x"}).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(ManifestError, match=r"b\.tar\.gz: is compressed: unpack it"):
        members(tmp_path / "b.tar.gz")
    with pytest.raises(ManifestError, match=r"c\.tar: no such shard"):
        members(tmp_path / "c.tar")
    (tmp_path / "d.tar").write_text("no tar at all " * 100)
    with pytest.raises(ManifestError, match=r"d\.tar: is cut short or damaged"):
        members(tmp_path / "d.tar")


def test_a_member_that_is_no_sound_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.wav": b"not sound"})
    (member,) = members(tmp_path / "a.tar")
    sound = TarSound(str(tmp_path / "a.tar"), member.position, member.size, member.name)
    for read in (sound.seconds, lambda: sound.read(RATE)):
        with pytest.raises(AudioError, match=r"a\.tar: a\.wav: not an audio"):
            read()
    (tmp_path / "a.tar").unlink()
    with pytest.raises(AudioError, match=r"a\.tar: a\.wav: cannot be opened"):
        sound.read(RATE)


def test_names_stand_for_many(tmp_path: Path) -> None:
    def names(*given: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in expanded(given, tmp_path)]

    assert names("a_{8..11}.tar") == ["a_8.tar", "a_9.tar", "a_10.tar", "a_11.tar"]
    assert names("{x,y}/a_{00..02}.tar")[3:] == ["y/a_00.tar", "y/a_01.tar", "y/a_02.tar"]
    assert names("bucket_OP_1..2_CL_/a__OP_0..1_CL_.tar", "b.tar") == [
        "bucket1/a_0.tar",
        "bucket1/a_1.tar",
        "bucket2/a_0.tar",
        "bucket2/a_1.tar",
        "b.tar",
    ]
    assert names("a[1].tar", "b (2).tar") == ["a[1].tar", "b (2).tar"]
    with pytest.raises(ConfigError, match=r"https://x/a\.tar: only files are read"):
        names("https://x/a.tar")
