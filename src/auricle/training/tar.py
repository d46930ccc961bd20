"""Shards: tars of sound, by NeMo's layout with manifests beside them, or WebDataset's.

Only headers and transcripts are read here; a member's sound is found again by its place.
"""

from __future__ import annotations

import json
import posixpath
import re
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from auricle import manifests
from auricle.audio import AUDIO_SUFFIXES
from auricle.errors import ConfigError, ManifestError
from auricle.manifests import BadRow, OnBadRow, Row
from auricle.training.recipe import SourceRecipe
from auricle.training.rows import NO_SOUND, UNSURE, Found
from auricle.training.sounds import TarSound

_BRACES = re.compile(
    r"(?:\{|_OP_|\(|\[|<)(\d+)\.\.(\d+)(?:\}|_CL_|\)|\]|>)"  # NeMo's ways to write a range
    r"|\{([^{}]*,[^{}]*)\}"
)
_REMOTE = re.compile(r"[a-z][a-z0-9+]+:", re.IGNORECASE)
# NeMo's script names the second stretch of a recording so; the recording is stored once.
_SUB = re.compile(r"(.+)-sub\d+(\.\w+)?")
_NUMBER = re.compile(r"(\d+)\D*$")
_TEXTS = (".txt", ".json")
_BLOCK = 512
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


class Member(NamedTuple):
    """A file in a tar, and where its content lies."""

    name: str
    position: int
    size: int


def expanded(names: str | Sequence[str], folder: Path) -> list[Path]:
    """The files that names with `{0..9}`, `{a,b}` or NeMo's `_OP_0..9_CL_` stand for.

    Raises:
        ConfigError: A command or an address: shards must be files, for they are read by seeking.
    """
    found = [name for one in ([names] if isinstance(names, str) else names) for name in _all(one)]
    for name in found:
        if _REMOTE.match(name):
            raise ConfigError(
                f"{name}: only files are read, not commands or addresses; fetch the shards first"
            )
    return [folder / Path(name).expanduser() for name in found]


def members(path: Path) -> list[Member]:
    """The files in a tar, in order, from its headers alone.

    Raises:
        ManifestError: No such tar, not a plain one, or one that is cut short.
    """
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                if info.size < 0:
                    raise tarfile.ReadError(f"{info.name} has {info.size} bytes")
                if info.isreg() and not info.issparse():
                    found.append(Member(info.name, info.offset_data, info.size))
            end = tar.offset
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such shard; check the path") from None
    except (tarfile.TarError, ValueError, OverflowError) as error:  # of sizes that cannot be
        with path.open("rb") as file:
            compressed = file.read(6).startswith(_COMPRESSED)
        if compressed:
            raise ManifestError(f"{path}: is compressed: unpack it to a plain .tar") from None
        raise ManifestError(f"{path}: is cut short or damaged ({error}); fetch it again") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    if path.stat().st_size < end + _BLOCK:  # an empty block must stand at the end
        raise ManifestError(f"{path}: is cut short after {len(found)} files; fetch it again")
    return found


class Place(NamedTuple):
    """A member of a shard."""

    shard: Path
    member: Member

    def sound(self, offset: float = 0.0, duration: float | None = None) -> TarSound:
        """Its sound, or a stretch of it."""
        name, position, size = self.member
        return TarSound(str(self.shard), position, size, name, offset, duration)

    def __str__(self) -> str:
        return f"{self.shard}: {self.member.name}"


def rows_of_nemo(
    paths: Sequence[Path],
    shards: Sequence[Path],
    source: SourceRecipe,
    bad_row: OnBadRow | None = None,
) -> Iterator[list[Found]]:
    """The rows of NeMo's manifests, shard by shard, in the order of their sound.

    There is a manifest for all shards, or one for each. A row gives its shard by `shard_id`, else
    the number of a manifest of its own does; where neither does, all shards are searched. Sound
    in a shard that no row names is left out: manifests are filtered without making the tars again.
    Rows that cannot be read, or that fit two members, go to `bad_row`, if there is one.

    Raises:
        ConfigError: Two shards have the same number.
        ManifestError: A manifest or a shard that cannot be read, or a row that fits two members.
    """
    index = _Index(shards)
    rows = defaultdict[str, list[Found]](list)
    for path in paths:
        own = shard_number(path) if len(paths) == len(shards) else None
        for row in manifests.read(path, bad_row=bad_row):
            try:
                found = index.found(row, own, source.text_column)
            except ManifestError as error:
                wrong = BadRow(path, row.line or 0, str(error), json.dumps(row.data).encode())
                if bad_row is None:
                    raise wrong from None
                bad_row(wrong)
                continue
            if found.problem is not None:
                found = replace(found, problem=f"{path}: {found.problem}")
            rows[_sound(found).path].append(found)
    for shard in shards:
        yield sorted(rows.pop(str(shard), []), key=lambda row: _sound(row).position)


def webdataset_rows(
    shards: Sequence[Path],
    source: SourceRecipe,
    bad_row: OnBadRow | None = None,
) -> Iterator[list[Found]]:
    """The samples of WebDataset's shards: files that share their name up to its first dot.

    The transcript is the `.txt`, else the text column of the `.json`, whose other keys are kept.
    Where several sounds share a name, each is a sample, with the texts that share its name up to
    the last dot. Sounds and texts of which that leaves none or several are rows with a problem.
    What is wrong with a sample's texts goes to `bad_row`; None raises it.
    """
    for shard in shards:
        keys: dict[str, list[Place]] = {}
        for member in members(shard):
            folder, slash, name = member.name.rpartition("/")
            if not name.startswith("."):  # WebDataset's rule; macOS puts such files into tars
                key = folder + slash + name.partition(".")[0]
                keys.setdefault(key, []).append(Place(shard, member))
        found: list[Found] = []
        with shard.open("rb") as file:
            for key, places in keys.items():
                pairs, unused = _paired(key, places)
                for sound, texts in pairs:
                    try:
                        found.append(_sample(file, sound, texts, source))
                    except ManifestError as error:
                        if bad_row is None:
                            raise
                        bad_row(error)
                found += unused
        yield found


def _paired(
    key: str, places: Sequence[Place]
) -> tuple[list[tuple[Place, dict[str, Place]]], list[Found]]:
    """The sounds of a key, each with its texts by suffix, and a problem for all that is unsure."""
    sounds, texts = dict[str, list[Place]](), dict[str, list[Place]]()
    for place in places:
        stem, suffix = posixpath.splitext(place.member.name)
        if suffix.lower() in AUDIO_SUFFIXES:
            sounds.setdefault(stem, []).append(place)
        elif suffix.lower() in _TEXTS:
            texts.setdefault(stem, []).append(place)
    if len(sounds) == 1:
        (only,) = sounds
        if only not in texts and key in texts:
            texts[only] = texts.pop(key)  # `b.json` is the text of `b.1.wav`
        if only == key and key in texts:
            texts = {key: texts[key]}  # `b.meta.json` is another field of the sample of `b.json`
    alone = texts.keys() - sounds.keys()
    pairs, unused = list[tuple[Place, dict[str, Place]]](), list[Found]()
    for stem in dict.fromkeys([*sounds, *texts]):
        heard, said = sounds.get(stem, []), texts.get(stem, [])
        by_suffix = {posixpath.splitext(text.member.name)[1].lower(): text for text in said}
        names = " and ".join(place.member.name for place in heard + said)
        if len(heard) == 1 and len(by_suffix) == len(said) and (said or not alone):
            pairs.append((heard[0], by_suffix))
            continue
        place, reason = (*heard, *said)[0], UNSURE
        if not heard:
            problem, reason = f"{names} has no sound", NO_SOUND
        elif said or len(heard) > 1:
            problem = f"{names} share a name: keep one sound, and one text of a kind"
        else:
            problem = f"{names} has no text of its name, but texts without sound stand beside it"
        problem = f"{place.shard}: {problem}"
        unused.append(Found(str(place), place.sound(), "", 0.0, problem=problem, reason=reason))
    return pairs, unused


def _sample(file: Any, place: Place, texts: Mapping[str, Place], source: SourceRecipe) -> Found:
    def content(suffix: str) -> str:
        _, position, size = texts[suffix].member
        file.seek(position)
        try:
            return str(file.read(size).decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ManifestError(f"{texts[suffix]} is not UTF-8; write it as UTF-8") from None

    data: dict[str, Any] = {}
    if ".json" in texts:
        line = content(".json").strip()
        if not line.startswith("{"):
            raise ManifestError(f"{texts['.json']}: needs one JSON object")
        try:
            data = manifests.json_object(line)
        except ManifestError as error:
            raise ManifestError(f"{texts['.json']}: {error}") from None
    text = content(".txt").strip() if ".txt" in texts else data.get(source.text_column) or ""
    sound = place.sound()
    duration, language = data.get("duration"), data.get("lang") or data.get("language")
    return Found(sound.where, sound, text, duration or None, language, data)


def shard_number(path: Path) -> int | None:
    """The number of a shard or of its manifest: the last one in its name."""
    match = _NUMBER.search(path.name.split(".")[0])
    return int(match[1]) if match else None


class _Index:
    """Finds the members of shards by the names that manifests give them."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards, self._numbered = shards, _by_number(shards)
        self._names = defaultdict[str, list[Place]](list)
        self._stems = defaultdict[str, list[Place]](list)  # NeMo's script may change the codec
        for shard in shards:
            for member in members(shard):
                place = Place(shard, member)
                self._names[_name(member.name)].append(place)
                self._stems[_stem(member.name)].append(place)

    def found(self, row: Row, own: int | None, text_column: str) -> Found:
        """A row with its sound, or with the problem that there is none.

        Args:
            row: Of a manifest.
            own: The number of the shard whose manifest it is, if it is of a single one.
            text_column: Where its text is.

        Raises:
            ManifestError: It fits two members.
        """
        name, number = row.data["audio_filepath"], row.data.get("shard_id")
        number = number if isinstance(number, int | float) else None
        shard = self._numbered.get(own if number is None else number)
        text = row.data.get(text_column) or ""
        strange = number is not None and shard is None and self._numbered
        place = None if strange else self._place(name, shard)
        if place is not None:
            sound = place.sound(row.offset, row.duration)
            return Found(sound.where, sound, text, row.duration, row.language, row.data)
        where = str(shard) if shard else f"any of {len(self._shards)} shards"
        if strange:
            where = f"the shards that are read: its shard_id is {number}"
        sound = TarSound(str(shard or self._shards[0]), 0, 0, name)
        return Found(name, sound, text, 0.0, problem=f"{name} is not in {where}")

    def _place(self, name: str, shard: Path | None) -> Place | None:
        """The member that holds the sound of a row, in one shard or in any.

        An exact name wins; else the suffix may be another one, or it is a second stretch.

        Raises:
            ManifestError: There are two such members.
        """
        exact, stem = self._names.get(_name(name), []), self._stems.get(_stem(name), [])
        sub = _SUB.fullmatch(name)
        whole = sub[1] + (sub[2] or "") if sub else name
        others = self._names.get(_name(whole), []) if sub else []
        for places in (exact, stem + others, self._stems.get(_stem(whole), [])):
            fit = [place for place in places if shard in (None, place.shard)]
            if len(fit) > 1:
                raise ManifestError(
                    f"audio_filepath fits two recordings, got {name!r}, which may be {fit[0]} or "
                    f"{fit[1]}; give each a name of its own"
                )
            if fit:
                return fit[0]
        return None


def _all(name: str) -> Iterator[str]:
    """What braces stand for, the last ones changing first."""
    match = _BRACES.search(name)
    if match is None:
        yield name
        return
    low, high, listed = match.groups()
    if listed is not None:
        choices = listed.split(",")
    else:
        width = len(low) if low.startswith("0") else 0
        choices = [str(n).zfill(width) for n in range(int(low), int(high) + 1)]
    for choice in choices:
        yield from _all(name[: match.start()] + choice + name[match.end() :])


def _by_number(shards: Sequence[Path]) -> dict[float | None, Path]:
    """The shards whose names have a number, by it."""
    numbered: dict[float | None, Path] = {}
    for shard in shards:
        number = shard_number(shard)
        if number is not None and (first := numbered.setdefault(number, shard)) is not shard:
            raise ConfigError(
                f"{first} and {shard} are both shard {number}: "
                "make them two sources, each with its own manifest"
            )
    return numbered


def _name(name: str) -> str:
    """A name without what does not change it: `./a` is `a`, and tar takes the root off `/a`."""
    return posixpath.normpath(name).lstrip("/")


def _stem(name: str) -> str:
    """A name without the suffix of a codec, however its accents are written."""
    stem, suffix = posixpath.splitext(_name(name))
    return unicodedata.normalize("NFC", stem if suffix.lower() in AUDIO_SUFFIXES else stem + suffix)


def _sound(row: Found) -> TarSound:
    assert isinstance(row.sound, TarSound)
    return row.sound
