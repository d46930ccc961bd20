"""Shards: tars of sound, by NeMo's layout with manifests beside them, or WebDataset's.

Only headers and transcripts are read here; a member's sound is found again by its place.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from auricle import manifests
from auricle.audio import AUDIO_SUFFIXES
from auricle.errors import ConfigError, ManifestError
from auricle.manifests import OnBadRow
from auricle.training.recipe import SourceRecipe
from auricle.training.rows import Found
from auricle.training.sounds import TarSound

_BRACES = re.compile(
    r"(?:\{|_OP_|\(|\[|<)(\d+)\.\.(\d+)(?:\}|_CL_|\)|\]|>)"  # NeMo's ways to write a range
    r"|\{([^{}]*,[^{}]*)\}"
)
_REMOTE = re.compile(r"[a-z][a-z0-9+]+:", re.IGNORECASE)
# NeMo's script names the second stretch of a recording so; the recording is stored once.
_SUB = re.compile(r"(.+)-sub\d+(\.\w+)?")
_NUMBER = re.compile(r"(\d+)\D*$")
_BLOCK = 512


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
                if info.isreg() and not info.issparse():
                    found.append(Member(info.name, info.offset_data, info.size))
            end = tar.offset
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such shard; check the path") from None
    except tarfile.TarError as error:
        if tarfile.is_tarfile(path) and not found:
            raise ManifestError(f"{path}: is compressed: unpack it to a plain .tar") from None
        raise ManifestError(f"{path}: is cut short or damaged ({error}); fetch it again") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    if path.stat().st_size < end + _BLOCK:  # an empty block must stand at the end
        raise ManifestError(f"{path}: is cut short after {len(found)} files; fetch it again")
    return found


def rows_of_nemo(
    paths: Sequence[Path],
    shards: Sequence[Path],
    source: SourceRecipe,
    bad_row: OnBadRow | None = None,
) -> Iterator[list[Found]]:
    """The rows of NeMo's manifests, shard by shard, in the order of their sound.

    There is a manifest for all shards, or one for each. A row says its shard by `shard_id`, else
    the number of a manifest of its own does; where neither is said, all shards are searched. Sound
    in a shard that no row names is left out: manifests are filtered without making the tars again.
    Rows that cannot be read go to `bad_row`, if there is one.

    Raises:
        ConfigError: Two shards have the same number.
        ManifestError: A manifest or a shard that cannot be read.
    """
    indices = [_Index(shard) for shard in shards]
    numbered = _by_number(indices)
    rows = defaultdict[str, list[Found]](list)
    for path in paths:
        own = shard_number(path) if len(paths) == len(shards) else None
        for row in manifests.read(path, bad_row=bad_row):
            name = row.data["audio_filepath"]
            number = row.data.get("shard_id", own)
            index = numbered.get(number) if isinstance(number, int) else None
            found = _first(index.find(name) for index in ([index] if index else indices))
            text = row.data.get(source.text_column) or ""
            if found is None:
                where = index.shard if index else f"any of {len(shards)} shards"
                sound = TarSound(str(index.shard if index else shards[0]), 0, 0, name)
                problem = f"{path}: {name} is not in {where}"
                rows[sound.path].append(Found(name, sound, text, 0.0, problem=problem))
                continue
            shard, member = found
            place = (member.position, member.size, member.name)
            sound = TarSound(str(shard), *place, row.offset, row.duration)
            found_row = Found(sound.where, sound, text, row.duration, row.language, row.data)
            rows[sound.path].append(found_row)
    for shard in shards:
        yield sorted(rows.pop(str(shard), []), key=_place)


def webdataset_rows(
    shards: Sequence[Path],
    source: SourceRecipe,
    bad_row: OnBadRow | None = None,
) -> Iterator[list[Found]]:
    """The samples of WebDataset's shards: files that share their name up to its first dot.

    The transcript is the `.txt`, else the text column of the `.json`, whose other keys are kept.
    What is wrong with a sample's texts goes to `bad_row`; None raises it.
    """
    for shard in shards:
        samples: dict[str, dict[str, Member]] = {}
        for member in members(shard):
            folder, slash, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            samples.setdefault(folder + slash + key, {})[suffix.lower()] = member
        found = []
        with shard.open("rb") as file:
            for key, parts in samples.items():
                try:
                    found.append(_sample(shard, file, key, parts, source))
                except ManifestError as error:
                    if bad_row is None:
                        raise
                    bad_row(error)
        yield found


def _sample(
    shard: Path, file: Any, key: str, parts: Mapping[str, Member], source: SourceRecipe
) -> Found:
    def content(suffix: str) -> str:
        member = parts[suffix]
        file.seek(member.position)
        try:
            return str(file.read(member.size).decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ManifestError(f"{shard}: {member.name} is not UTF-8; write it as UTF-8") from None

    data: dict[str, Any] = {}
    if "json" in parts:
        try:
            data = json.loads(content("json"))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ManifestError(f"{shard}: {parts['json'].name}: not JSON ({error})") from None
        if not isinstance(data, dict):
            raise ManifestError(f"{shard}: {parts['json'].name}: needs one JSON object")
    text = content("txt").strip() if "txt" in parts else data.get(source.text_column) or ""
    sounds = [m for m in parts.values() if Path(m.name).suffix.lower() in AUDIO_SUFFIXES]
    if not sounds:
        sound = TarSound(str(shard), 0, 0, key)
        return Found(key, sound, text, 0.0, problem=f"{shard}: {key} has no sound")
    sound = TarSound(str(shard), sounds[0].position, sounds[0].size, sounds[0].name)
    duration, language = data.get("duration"), data.get("lang") or data.get("language")
    return Found(sound.where, sound, text, duration or None, language, data)


def shard_number(path: Path) -> int | None:
    """The number of a shard or of its manifest: the last one in its name."""
    match = _NUMBER.search(path.name.split(".")[0])
    return int(match[1]) if match else None


class _Index:
    """Finds the members of a shard by the names that manifests give them."""

    def __init__(self, shard: Path) -> None:
        self.shard = shard
        found = members(shard)
        # By the name without its suffix too: the script may have stored another codec.
        self._named = {_stem(member.name): member for member in found}
        self._named |= {member.name: member for member in found}

    def find(self, name: str) -> tuple[Path, Member] | None:
        """The member that holds the sound of a row, with its shard."""
        sub = _SUB.fullmatch(name)
        whole = sub[1] + (sub[2] or "") if sub else name
        names = (name, whole, _stem(name), _stem(whole))
        member = _first(self._named.get(name) for name in names)
        return member and (self.shard, member)


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


def _by_number(indices: Sequence[_Index]) -> dict[int, _Index]:
    """The shards whose names have a number, by it."""
    numbered: dict[int, _Index] = {}
    for index in indices:
        number = shard_number(index.shard)
        if number is not None and (first := numbered.setdefault(number, index)) is not index:
            raise ConfigError(
                f"{first.shard} and {index.shard} are both shard {number}: "
                "make them two sources, each with its own manifest"
            )
    return numbered


def _stem(name: str) -> str:
    return Path(name).name.partition(".")[0]


def _place(row: Found) -> int:
    assert isinstance(row.sound, TarSound)
    return row.sound.position


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
