"""Where transcripts go: the terminal, files in a folder, one file, or a manifest.

A destination is planned before any work: what is there already, what is left to do, and that no
two recordings write the same file.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from auricle import formats
from auricle.errors import ConfigError, escaped
from auricle.files import refuse_overwriting, write_atomic
from auricle.formats import FORMATS, SubtitleOptions
from auricle.manifests import BadRow

if TYPE_CHECKING:
    from auricle.errors import AuricleError
    from auricle.transcribe import Source
    from auricle.types import Transcript

Existing = Literal["refuse", "skip", "replace"]
_FILE_SUFFIX = re.compile(r"\.(?!v\d)(?:[a-z]{2,5}\d?|safetensors|textgrid)")
TIMED = ("srt", "vtt", "ctm", "tsv")


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    output: Path | None
    formats: tuple[str, ...]
    existing: Existing
    subtitles: SubtitleOptions
    resumable: bool = True  # whether the command has --resume
    reads: tuple[str | Path, ...] = ()  # what is read besides the recordings: manifests, a model


class Destination(Protocol):
    """Takes transcripts one by one; `todo` are the recordings that it still wants."""

    todo: list[Source]
    on_screen: bool

    def write(self, source: Source, transcript: Transcript) -> None:
        """Deliver one transcript, whole or not at all."""

    def fail(self, source: Source, error: AuricleError) -> None:
        """Note, where there is a place for it, that a recording could not be transcribed."""

    def close(self) -> None:
        """Finish, also after an interruption; what was delivered stays."""


def plan(sources: Sequence[Source], wish: Wish) -> Destination:
    """Choose the destination that `wish` describes.

    Raises:
        ConfigError: The wish contradicts itself, or outputs exist already.
    """
    output = wish.output
    if output is None:
        return _Stdout(sources, wish)
    suffix = output.suffix.lower().removeprefix(".")
    if suffix == "jsonl":
        return Manifest(sources, output, wish)
    if suffix in FORMATS and not output.is_dir():
        if len(sources) != 1:
            raise ConfigError(
                f"{output} is one file for {len(sources)} recordings: give a folder, "
                "or a .jsonl for a manifest"
            )
        if wish.formats not in ((), (suffix,)):
            raise ConfigError(f"{output} is {suffix}, and -f asks for {','.join(wish.formats)}")
        return _Files(sources, [{suffix: output}], wish)
    if suffix and (output.is_file() or names_a_file(output)):
        raise ConfigError(
            f"{output}: no format ends in .{suffix}; choose one of {', '.join(FORMATS)}, jsonl"
        )
    wanted = wish.formats or ("txt",)
    files = [
        {format_: output / f"{name}.{format_}" for format_ in wanted}
        for name in output_names(sources)
    ]
    return _Files(sources, files, wish)


def names_a_file(path: Path) -> bool:
    """Whether a name that should be a folder's ends as files do, and nothing is called so yet."""
    return _FILE_SUFFIX.fullmatch(path.suffix.lower()) is not None and not path.exists()


def refuse_file_name(folder: Path, what: str) -> None:
    """Raise a ConfigError where the name of an output folder is one that files have."""
    if names_a_file(folder):
        raise ConfigError(
            f"{folder}: {what} is a folder; leave {folder.suffix} out, or make that folder first"
        )


def all_missing(sources: Sequence[Source]) -> list[Path]:
    """The paths of the recordings, if none of them is there.

    Raises:
        ManifestError: No row can be read, or one is no JSON: then it may be no manifest at all.
    """
    broken = [source.error for source in sources if source.error is not None]
    for error in broken:
        if len(broken) == len(sources) or not (isinstance(error, BadRow) and error.is_json):
            raise error
    paths = [source.path for source in sources if source.error is None and source.path is not None]
    # os.path: a name that is too long is missing too.
    missing = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110
    return missing if len(missing) + len(broken) == len(sources) else []


def output_names(sources: Sequence[Source]) -> list[str]:
    """A name for each recording's outputs, below the output folder and without a suffix.

    Folders are mirrored. Where two recordings would share a name, they keep their suffixes, then
    the folders that tell them apart, then their place in the recording, then a number.
    """
    names = [PurePosixPath(s.name).with_suffix("").as_posix() for s in sources]
    names = _apart(names, [s.name for s in sources])
    names = _apart(names, _below_common_folder(sources))
    names = _apart(names, [f"{n}_{s.offset:.2f}" for n, s in zip(names, sources, strict=True)])
    return _apart(names, [f"{name}-{number}" for number, name in enumerate(names, start=1)])


def _apart(names: list[str], others: Sequence[str]) -> list[str]:
    # Case is ignored: some file systems ignore it too.
    count = Counter(name.casefold() for name in names)
    return [
        name if count[name.casefold()] == 1 else other
        for name, other in zip(names, others, strict=True)
    ]


def _below_common_folder(sources: Sequence[Source]) -> list[str]:
    paths = [None if s.path is None else s.path.absolute() for s in sources]
    folders = [str(path.parent) for path in paths if path is not None]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # none at all, or on several drives
        return [s.name for s in sources]
    return [
        source.name if path is None else path.relative_to(common).with_suffix("").as_posix()
        for source, path in zip(sources, paths, strict=True)
    ]


class _Stdout:
    """One transcript in any format; of several, a line each (text or JSON), or CTM."""

    on_screen = True

    def __init__(self, sources: Sequence[Source], wish: Wish) -> None:
        wanted = wish.formats or ("txt",)
        if len(wanted) > 1:
            raise ConfigError(f"-f {','.join(wanted)} needs a folder for its files: -o FOLDER")
        self.todo = list(sources)
        self._format = wanted[0]
        self._rendering = _Rendering(sources, wish.subtitles)
        self._several = len(sources) > 1
        if self._several and self._format not in ("txt", "json", "ctm"):
            raise ConfigError(
                f"{len(sources)} recordings as {self._format} need a folder: -o FOLDER"
            )

    def write(self, source: Source, transcript: Transcript) -> None:
        text = self._rendering(source, transcript, self._format)
        if self._several and self._format == "txt":
            text = f"{escaped(source.name)}: {' '.join(text.split())}\n"
        elif self._several and self._format == "json":
            text = self._line(source, json.loads(text))
        sys.stdout.write(text)
        sys.stdout.flush()

    def fail(self, source: Source, error: AuricleError) -> None:
        if self._several and self._format == "json":
            sys.stdout.write(self._line(source, failed_in(error)))
            sys.stdout.flush()

    def _line(self, source: Source, said: Mapping[str, Any]) -> str:
        return json.dumps({"name": source.name, **said}, ensure_ascii=False) + "\n"

    def close(self) -> None:
        pass


class _Files:
    """One or more files for each recording."""

    on_screen = False

    def __init__(
        self, sources: Sequence[Source], files: Sequence[Mapping[str, Path]], wish: Wish
    ) -> None:
        _refuse_existing([path for of_one in files for path in of_one.values()], sources, wish)
        # A Source may hold arrays and mappings, so it has no hash.
        self._files = {
            id(source): of_one
            for source, of_one in zip(sources, files, strict=True)
            if wish.existing != "skip" or not all(map(os.path.exists, of_one.values()))
        }
        self.todo = [source for source in sources if id(source) in self._files]
        self._rendering = _Rendering(sources, wish.subtitles)
        for folder in {path.parent for of_one in files for path in of_one.values()}:
            _make(folder)

    def write(self, source: Source, transcript: Transcript) -> None:
        # All are rendered before the first is written, so that an error leaves none.
        texts = {
            path: self._rendering(source, transcript, format_)
            for format_, path in self._files[id(source)].items()
        }
        for path, text in texts.items():
            write_atomic(path, text)

    def fail(self, source: Source, error: AuricleError) -> None:
        pass

    def close(self) -> None:
        pass


class Manifest:
    """JSON lines: the input manifest's rows with `pred_text`, or with `error` where that failed.

    Rows of other inputs are made. They gather in a file beside, which takes the output's name at
    the end, in the order of the inputs; --resume goes on from either, row by row.
    """

    on_screen = False

    def __init__(self, sources: Sequence[Source], path: Path, wish: Wish) -> None:
        if wish.formats:
            raise ConfigError(f"{path} is a manifest and takes no -f {','.join(wish.formats)}")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        _refuse_existing([self._path, self._part], sources, wish)
        self._kept: list[str] = []
        self._places: list[int] = []  # of the lines written so far, among the sources
        done: set[int] = set()
        if wish.existing == "skip":
            waiting = _Waiting([self._row(source) for source in sources])
            for line, row in self._finished_rows():
                place = waiting.take(row)
                if "error" not in row or place < 0:  # what failed is tried again
                    self._kept.append(line)
                    self._places.append(place)
                    done.add(place)
        _make(path.parent)
        self._place = {id(source): place for place, source in enumerate(sources)}
        self.todo = [source for place, source in enumerate(sources) if place not in done]
        self._file: TextIO | None = None

    def write(self, source: Source, transcript: Transcript) -> None:
        """Add a recording's row."""
        self.add(source, heard_in(source, transcript))

    def fail(self, source: Source, error: AuricleError) -> None:
        """Add the row of a recording that could not be transcribed, where it has a name."""
        self.add(source, failed_in(error))

    def add(self, source: Source, said: Mapping[str, Any]) -> None:
        """Add a recording's row with the keys of `said`, unless it was no row at all."""
        if source.error is not None and source.path is None:
            return
        line = json.dumps(said_of(self._row(source), said), ensure_ascii=False)
        if self._file is None:
            write_atomic(self._part, "".join(f"{kept}\n" for kept in self._kept))
            self._file = self._part.open(
                "a", encoding="utf-8", errors="backslashreplace", newline="\n"
            )
        self._file.write(f"{line}\n")
        self._file.flush()
        self._places.append(self._place[id(source)])

    def close(self) -> None:
        """Give the rows the output's name; without any, leave things as they were."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
        elif not (self._kept and self._part.exists()):
            return
        if self._places != sorted(self._places):  # rows that failed before, and were tried again
            lines = self._part.read_bytes().removesuffix(b"\n").split(b"\n")
            ordered = sorted(zip(self._places, lines, strict=True), key=lambda pair: pair[0])
            write_atomic(self._part, b"".join(line + b"\n" for _, line in ordered))
        self._part.replace(self._path)

    def _finished_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The lines that an earlier run has written; half a line at the end is passed over.

        Raises:
            ConfigError: The file holds something else.
        """
        before = self._part if self._part.exists() else self._path
        if not before.exists():
            return
        *lines, last = before.read_bytes().split(b"\n")
        for number, line in enumerate((*lines, last), start=1):
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8")
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            ended = number <= len(lines)
            if _is_result(row):
                if ended:
                    yield text, row
            elif ended or row is not None or not line.startswith(b"{"):
                raise ConfigError(
                    f"{before}, line {number}: not a row that this command wrote, so --resume "
                    "cannot go on from it: name another output, or give --overwrite"
                )

    def _row(self, source: Source) -> dict[str, Any]:
        row = dict(source.row or {})
        named = row.get("audio_filepath")
        # A relative path counts from its manifest's folder, which may not be ours.
        if source.path is not None and (
            named is None or not _same(self._path.parent / named, source.path)
        ):
            named = str(source.path.absolute())
        return {**row, "audio_filepath": named or source.name}


_SAID = ("pred_text", "error", "latency", "warnings")  # what the commands add to a row


class _Waiting:
    """The rows of a run, from which those of its earlier output are taken, each once."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._places: dict[str, deque[int]] = {}
        for place, row in enumerate(rows):
            self._places.setdefault(_canonical(row), deque()).append(place)

    def take(self, row: Mapping[str, Any]) -> int:
        """The place of the row that became `row`; -1 where no row of this run did."""
        # A row without a duration got that of its recording.
        untimed = {key: value for key, value in row.items() if key != "duration"}
        for form in (row, untimed):
            if places := self._places.get(_canonical(form)):
                return places.popleft()
        return -1


def _canonical(row: Mapping[str, Any]) -> str:
    return json.dumps({k: v for k, v in row.items() if k not in _SAID}, sort_keys=True)


def _is_result(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("audio_filepath"), str)
        and any(isinstance(row.get(key), str) for key in ("pred_text", "error"))
    )


def said_of(row: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """A row with what is said of it now, and nothing of what was said before."""
    return {**{k: v for k, v in row.items() if k not in ("pred_text", "error")}, **said}


def failed_in(error: AuricleError) -> dict[str, Any]:
    """What a failure adds to its recording's manifest row."""
    return {"error": str(error)}


def heard_in(source: Source, transcript: Transcript) -> dict[str, Any]:
    """What a transcript adds to its recording's manifest row; the row's own duration stays."""
    duration = (source.row or {}).get("duration", round(transcript.duration, 3))
    warnings = {"warnings": list(transcript.warnings)} if transcript.warnings else {}
    return {"pred_text": transcript.text, "duration": duration, **warnings}


def _same(one: Path, other: Path) -> bool:
    return os.path.normpath(one.absolute()) == os.path.normpath(other.absolute())


class _Rendering:
    """Transcripts as text; CTM in times of the whole recording, each of which has its own id."""

    def __init__(self, sources: Sequence[Source], subtitles: SubtitleOptions) -> None:
        self._subtitles = subtitles
        recordings = {_recording_of(source): source for source in sources}
        names = [PurePosixPath(source.name).stem for source in recordings.values()]
        names = _apart(names, output_names([*recordings.values()]))
        self._ids = dict(zip(recordings, map(escaped, names), strict=True))

    def __call__(self, source: Source, transcript: Transcript, format_: str) -> str:
        if format_ == "ctm" and source.offset:
            transcript = transcript.shifted(source.offset)
        name = self._ids[_recording_of(source)]
        return formats.render(transcript, format_, subtitles=self._subtitles, name=name)


def _recording_of(source: Source) -> str | int:
    """What stretches of one recording have in common."""
    return id(source) if source.path is None else os.path.abspath(source.path)  # noqa: PTH100


def _refuse_existing(outputs: Sequence[Path], sources: Sequence[Source], wish: Wish) -> None:
    recordings = (source.path for source in sources if source.path is not None)
    refuse_overwriting(outputs, (*wish.reads, *recordings), cure="give another output")
    if wish.existing == "refuse":
        # os.path: a name that is too long is there not, instead of an OSError.
        there = [path for path in outputs if os.path.exists(path)]  # noqa: PTH110
        if there:
            raise ConfigError(_refusal(there, wish))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigError(f"{folder} cannot be an output folder: {reason}") from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} cannot be an output folder: it may not be written to")


def _refusal(there: Sequence[Path], wish: Wish) -> str:
    named = ", ".join(str(path) for path in there[:3])
    more = f" and {len(there) - 3} more" if len(there) > 3 else ""
    verb = "exists" if len(there) == 1 else "exist"
    pronoun = "it" if len(there) == 1 else "them"
    cure = f"--overwrite replaces {pronoun}"
    if wish.resumable:
        cure = f"--resume skips what is done, {cure}"
    return f"{named}{more} {verb} already: {cure}"
