"""Looking at the data before training: what cannot be read, written or aligned, and how much.

Files are looked for, texts are written as tokens and counted against the steps that the encoder
makes of their sound; `deep` measures every file too, and decodes it where its header only guesses.
"""

from __future__ import annotations

import math
import os
import stat
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from auricle.errors import AudioError, ConfigError
from auricle.tokenizers import Tokenizer
from auricle.training.alignment import ModelFacts, drop_reason
from auricle.training.check_report import KINDS, Checked, CheckReport, Kind, Problem, spelt
from auricle.training.items import Item, Sound
from auricle.training.listed import Joined
from auricle.training.recipe import DataRecipe, SourceRecipe
from auricle.training.sources import Source, rows_at_fault
from auricle.training.texts import UNKNOWN

_EXAMPLES = 5
_DAY = 24 * 3600.0  # seconds; nobody says one sentence for longer
_MOST_OFF, _MOST_OFF_SHARE = 0.5, 0.1  # seconds, and share, that a row and a header may differ
_TOPS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0, math.inf)  # seconds
_TOGETHER = 512  # items that are measured by the threads at a time
_THREADS = 8


def bad_rows(sources: Iterable[SourceRecipe], folder: Path | None = None) -> list[str]:
    """What is wrong with each row that cannot be read, in all files of a recipe's sources.

    Raises:
        ManifestError: A file that is missing or damaged.
    """
    return [str(e) for source in sources for e in rows_at_fault(source, folder or Path())]


def check(
    sources: Iterable[Source],
    tokenizer: Tokenizer | None,
    data: DataRecipe,
    model: ModelFacts | None = None,
    *,
    deep: bool = False,
    held_out: bool = False,
    rows: Sequence[str] = (),
) -> CheckReport:
    """Look at every item once; only counts and a few examples of each problem are kept.

    Args:
        sources: What is to be learnt from; of joined items, the parts are looked at.
        tokenizer: Writes the texts; None leaves that out.
        data: Says how long items may be, and what becomes of bad ones.
        model: What aligns the texts; None leaves that out.
        deep: Compare durations with those of the files, which takes a while.
        held_out: They are judged, not learnt from: texts that cannot be written count as errors.
        rows: What `bad_rows` has found.
    """
    looking, tally = _Looking(tokenizer, model, held_out=held_out), _Tally()
    for line in rows:
        tally.find(_Finding("row", line), 0.0)
    checked = []
    for source in sources:
        before = (tally.items, tally.seconds)
        for item, findings in looking.through(source, deep):
            tally.add(item, findings, {f.kind for f in findings} & looking.dropping)
        grown = (tally.items - before[0], tally.seconds - before[1])
        dropped = source.dropped
        checked.append(Checked(source.name, *grown, dict(dropped), tuple(dropped.examples)))
    return tally.report(tuple(checked), looking.dropping, data, held_out)


def sifted(source: Source, report: CheckReport) -> Source:
    """A source without the items that a check has found nothing can be learnt from."""
    if not report.dropped:
        return source
    if isinstance(source, Joined):
        return replace(source, parts=[i for i in source.parts if _key(i) not in report.dropped])
    return _Sifted(source, report.dropped)


class _Sifted:
    """A source without some of its items."""

    def __init__(self, source: Source, dropped: frozenset[tuple[str, str, float]]) -> None:
        self._source, self._without = source, dropped
        self.name, self.weight, self.dropped = source.name, source.weight, source.dropped

    @cached_property
    def size(self) -> int | None:
        """Items in a pass."""
        return None if self._source.size is None else sum(1 for _ in self.items())

    def items(self) -> Iterator[Item]:
        """Every item once."""
        return (i for i in self._source.items() if _key(i) not in self._without)

    def order(self, rng: np.random.Generator) -> Iterator[Item]:
        """Every item once, in the order that `rng` draws."""
        return (i for i in self._source.order(rng) if _key(i) not in self._without)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is wrong with one item, and the characters at fault."""

    kind: Kind
    said: str
    characters: tuple[str, ...] = ()


class _Looking:
    """Looks at items; remembers which files are there and which characters can be written."""

    def __init__(
        self, tokenizer: Tokenizer | None, model: ModelFacts | None, *, held_out: bool
    ) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._files: dict[str, _Finding | None] = {}
        self._writable: dict[tuple[str, str | None], bool] = {}
        pieces = tokenizer.pieces if tokenizer is not None else ()
        self._pieces = frozenset(pieces)
        self._unknown = frozenset(i for i, piece in enumerate(pieces) if piece in UNKNOWN)
        learnt: set[Kind] = {"empty", "header"}  # sound is read as far as there is some
        if held_out:
            learnt |= {"long", "characters"}
        if model is None or not model.needs_alignment:
            learnt.add("long")
        self.dropping: frozenset[Kind] = frozenset(KINDS) - learnt

    def through(self, source: Source, deep: bool) -> Iterator[tuple[Item, list[_Finding]]]:
        """Each item of a source with what is wrong with it."""
        items = iter(source.parts if isinstance(source, Joined) else source.items())
        with ThreadPoolExecutor(_THREADS) as threads:
            while some := list(islice(items, _TOGETHER)):
                denied = threads.map(_denied, some) if deep else ([] for _ in some)
                for item, headers in zip(some, denied, strict=True):
                    sound = self._sound(item)
                    yield item, [*sound, *([] if sound else headers), *self._text(item)]

    def _sound(self, item: Item) -> list[_Finding]:
        for path in _paths(item.sound):
            if path not in self._files:
                self._files[path] = _absent(path)
            if (absent := self._files[path]) is not None:
                return [absent]
        if not 0 < item.duration <= _DAY:
            return [_Finding("duration", f"{item.name}: {item.duration:g} s")]
        return []

    def _text(self, item: Item) -> list[_Finding]:
        if not item.text.strip():
            return [_Finding("empty", item.name)]
        if self._tokenizer is None:
            return []
        if unknown := self._unknown_language(item):
            return [unknown]
        try:
            tokens = self._tokenizer.encode(item.text, item.language)
        except ConfigError as error:
            return [_Finding("text", f"{item.name}: {error}")]
        if wrong := self._unwritable(item.text, item.language, tokens):
            said = ", ".join(map(spelt, wrong))
            return [_Finding("characters", f"{item.name}: {said}", wrong)]
        return self._alignment(item, tokens)

    def _unknown_language(self, item: Item) -> _Finding | None:
        """Why a model that is told the language cannot be told this item's."""
        prompt = self._model.prompt if self._model is not None else None
        if prompt is None or (item.language or prompt.default_language) in prompt.languages:
            return None
        said = "no language" if item.language is None else f"{item.language!r}"
        known = ", ".join(list(prompt.languages)[:8])
        return _Finding("language", f"{item.name}: {said}, and the model knows {known} ...")

    def _unwritable(
        self, text: str, language: str | None, tokens: Sequence[int]
    ) -> tuple[str, ...]:
        """The characters of a text that its tokens leave out or call unknown."""
        wrong = {c for c in set(text) if not self._can_write(c, language)}
        if not wrong:
            return ()
        if self._unknown:  # without an unknown token, it is written by a piece of several
            return tuple(sorted(wrong)) if self._unknown & set(tokens) else ()
        others = "".join(word for word in text.split(" ") if word not in self._pieces)
        return tuple(sorted(wrong & set(others)))

    def _can_write(self, character: str, language: str | None) -> bool:
        assert self._tokenizer is not None
        key = (character, language)
        if key not in self._writable:
            tokens = self._tokenizer.encode(character, language)
            written = bool(tokens) or bool(self._unknown) or character == " "
            self._writable[key] = written and not self._unknown & set(tokens)
        return self._writable[key]

    def _alignment(self, item: Item, tokens: Sequence[int]) -> list[_Finding]:
        if self._model is None or not 0 < item.duration <= _DAY:
            return []
        steps = self._model.steps(item.duration)
        if steps < 1:
            return [_Finding("duration", drop_reason(item, tokens, steps) or item.name)]
        reason = drop_reason(item, tokens, steps) if "ctc" in self._model.heads else None
        if reason is None and len(tokens) > steps:
            reason = f"{item.name}: {len(tokens)} tokens, {item.duration:.2f} s make {steps} steps"
        return [] if reason is None else [_Finding("long", reason)]


class _Tally:
    """Counts, and the first examples."""

    def __init__(self) -> None:
        self.items = self.kept = 0
        self.seconds = self.kept_seconds = 0.0
        self._counts: Counter[Kind] = Counter()
        self._seconds: defaultdict[Kind, float] = defaultdict(float)
        self._examples: defaultdict[Kind, list[str]] = defaultdict(list)
        self._characters: Counter[str] = Counter()
        self._durations = [0] * len(_TOPS)
        self._dropped: set[tuple[str, str, float]] = set()

    def find(self, finding: _Finding, seconds: float) -> None:
        """Count what was found in an item of so many seconds."""
        self._counts[finding.kind] += 1
        self._seconds[finding.kind] += seconds
        self._characters.update(finding.characters)
        if len(self._examples[finding.kind]) < _EXAMPLES:
            self._examples[finding.kind].append(finding.said)

    def add(self, item: Item, findings: Iterable[_Finding], fatal: Collection[Kind]) -> None:
        """Count an item."""
        seconds = item.duration if 0 < item.duration <= _DAY else 0.0
        self.items += 1
        self.seconds += seconds
        self._durations[bisect_left(_TOPS, seconds)] += 1
        for finding in findings:
            self.find(finding, seconds)
        if fatal:
            self._dropped.add(_key(item))
        else:
            self.kept += 1
            self.kept_seconds += seconds

    def report(
        self,
        sources: tuple[Checked, ...],
        dropping: Collection[Kind],
        data: DataRecipe,
        held_out: bool,
    ) -> CheckReport:
        """What has been counted."""
        problems = (
            Problem(
                kind,
                self._counts[kind],
                self._seconds[kind],
                kind in dropping,
                tuple(self._examples[kind]),
            )
            for kind in KINDS
            if self._counts[kind]
        )
        return CheckReport(
            self.items,
            self.seconds,
            self.kept,
            self.kept_seconds,
            sources,
            tuple(problems),
            dict(self._characters.most_common()),
            tuple(zip(_TOPS, self._durations, strict=True)),
            data.invalid,
            frozenset(self._dropped),
            held_out,
        )


def _key(item: Item) -> tuple[str, str, float]:
    return item.name, item.text, item.duration


def _paths(sound: Sound) -> Iterator[str]:
    """The files that a sound lies in."""
    path = getattr(sound, "path", None)
    if isinstance(path, str | os.PathLike):
        yield os.fspath(path)
    for part in getattr(sound, "parts", ()):
        yield from _paths(part)


def _absent(path: str) -> _Finding | None:
    """Why a file cannot be there to be read."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return _Finding("missing", path)
    except (OSError, ValueError) as error:
        return _Finding("unreadable", f"{path}: {getattr(error, 'strerror', None) or error}")
    if stat.S_ISDIR(found.st_mode):
        return _Finding("unreadable", f"{path}: is a folder")
    return None if found.st_size else _Finding("unreadable", f"{path}: is empty (0 bytes)")


def _denied(item: Item) -> list[_Finding]:
    """What the length of an item's file says against it; sounds without files say nothing."""
    measure = getattr(item.sound, "seconds", None)
    if measure is None:
        return []
    try:
        heard = measure()
    except AudioError as error:
        return [_Finding("unreadable", str(error))]
    if abs(heard - item.duration) > min(_MOST_OFF, _MOST_OFF_SHARE * item.duration):
        said = f"{item.name}: {item.duration:.2f} s in the row, {heard:.2f} s in the file"
        return [_Finding("header", said)]
    return []
