"""Duplicates: the same sound, in whatever container, and the same words; the first one stays.

What is compared are the samples as they are decoded, before any resampling: a copy in another
lossless format is found, one that a codec has changed is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from auricle.audio import Samples
from auricle.curation.graph import Composite, Node
from auricle.curation.items import ID, Filtered, Item, Outcome
from auricle.curation.sound import heard, on_sound
from auricle.curation.step import Example, Place, Step, WholeExample, WholeStep, Work
from auricle.errors import ConfigError
from auricle.metrics import plain

Same = Literal["audio", "text"]

KEY = "audio_hash"
_BYTES = 16
_FULL_SCALE = 1 << 23  # 24 bits, more than which float32 does not hold


@dataclass(frozen=True)
class Duplicates(Composite):
    """Drop what has the sound of an item before it, or its words, or (with both) either.

    Words are compared in lower case and without punctuation; items without any are no duplicates.
    The reason is `duplicate audio` or `duplicate text`, the detail names the recording
    and the item that stays.
    """

    by: Same | tuple[Same, ...] = "audio"
    text: str = "text"

    def nodes(self) -> Sequence[Node]:
        """Hashes of the sound, where they are needed, and then the decision over all items."""
        by = (self.by,) if isinstance(self.by, str) else self.by
        if not by or not set(by) <= {"audio", "text"}:
            raise ConfigError(f"duplicates: by is audio, text or both, got {list(by)}")
        firsts = Firsts(by=tuple(dict.fromkeys(by)), text=self.text)
        return [Fingerprint(), firsts] if "audio" in by else [firsts]


@dataclass(frozen=True)
class Fingerprint(Step):
    """Add `audio_hash`: 32 hexadecimal digits that stand for the samples of an item's sound."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The sound."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The hash."""
        return (KEY,)

    @property
    def examples(self) -> tuple[Example, ...]:
        """A ramp, and what its samples hash to."""
        return (
            Example({}, [{KEY: "ca93a26d9a91a24ed45fea04aa390706"}], sound=_ramp, sample_rate=8000),
        )

    def open(self, place: Place) -> Work:
        """Nothing to load."""
        return on_sound(place, lambda item: {**item, KEY: _sound_hash(item, place)})


@dataclass(frozen=True)
class Firsts(WholeStep):
    """Keep the first of all items that share a hash of their sound, or their normalised words."""

    version: ClassVar[int] = 2

    by: tuple[Same, ...]
    text: str = "text"

    @property
    def name(self) -> str:
        """That of what it is the greater part of."""
        return "duplicates"

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is compared."""
        return (KEY,) if "audio" in self.by else ()

    @property
    def examples(self) -> tuple[WholeExample, ...]:
        """The same words by two hands, and no words twice."""
        words: list[Item] = [{self.text: text} for text in ("Well, yes.", "no", "well yes", "", "")]
        if self.by != ("text",):
            return ()
        return (WholeExample(words, [{}, {}, "duplicate text", {}, {}]),)

    def decide(self, items: Iterable[Item]) -> Iterator[Outcome]:
        """An item is dropped for one that is kept; 16 bytes of each are held, and its numbers."""
        shared = [_Shared(self._hashes(items, kind), f"duplicate {kind}") for kind in self.by]
        for number, item in enumerate(items):
            found = ((one.reason, one.holder(number)) for one in shared)
            reason, holder = next((pair for pair in found if pair[1] is not None), ("", None))
            if holder is not None:
                yield Filtered(item, reason, f"of {holder}")
                continue
            for one in shared:
                one.hold(number, _called(item))
            yield item

    def _hashes(self, items: Iterable[Item], kind: Same) -> Iterator[bytes | None]:
        for item in items:
            if kind == "audio":
                yield bytes.fromhex(item[KEY])
            else:
                words = plain(str(item.get(self.text) or ""))
                yield _hash(words.encode("utf-8", "surrogatepass")) if words else None


class _Shared:
    """Which items have equal hashes, and which of them is kept."""

    def __init__(self, hashes: Iterable[bytes | None], reason: str) -> None:
        self.reason = reason
        self._groups = _groups(hashes)
        self._holders: dict[int, str] = {}

    def holder(self, number: int) -> str | None:
        """The item that is kept of those that are like this one."""
        return self._holders.get(int(self._groups[number]))

    def hold(self, number: int, name: str) -> None:
        """Keep this item."""
        if (group := int(self._groups[number])) >= 0:
            self._holders[group] = name


def _called(item: Item) -> str:
    """An item as people find it: its recording, where in that it begins, and its id."""
    start = f" from {item['offset']} s" if item.get("offset") else ""
    sound = f"{item['audio_filepath']}{start}, " if item.get("audio_filepath") else ""
    return f"{sound}item {item[ID]}"


def _groups(hashes: Iterable[bytes | None]) -> npt.NDArray[np.int32]:
    """A number for each hash that stands there more than once; -1 for the others, and for None."""
    held, empty = bytearray(), bytearray()
    for one in hashes:
        held += one or bytes(_BYTES)
        empty.append(one is None)
    halves = np.frombuffer(held, "<u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0])).astype(np.int32)
    sorted_halves = halves[order]
    new = np.ones(len(order), bool)
    new[1:] = (sorted_halves[1:] != sorted_halves[:-1]).any(axis=1)
    alone = new & np.append(new[1:], True)
    groups = np.empty(len(order), np.int32)
    groups[order] = np.where(alone, -1, np.cumsum(new, dtype=np.int32))
    groups[np.frombuffer(empty, bool)] = -1
    return groups


def _sound_hash(item: Item, place: Place) -> str:
    digest = hashlib.blake2b(digest_size=_BYTES)
    with heard(item, place) as sound:
        digest.update(f"{sound.sample_rate}\n".encode())
        for block in sound.blocks:
            digest.update(np.rint(block * np.float32(_FULL_SCALE)).astype("<i4").tobytes())
    return digest.hexdigest()


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_BYTES).digest()


def _ramp() -> Samples:
    return np.asarray((np.arange(800) - 400) / 1024, np.float32)
