"""Where transcripts go: the terminal, files in a folder, one file, or a manifest.

A destination is planned before any work: what is there already, what is left to do, and that no
two recordings write the same file.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from auricle import formats
from auricle.errors import ConfigError
from auricle.files import write_atomic
from auricle.formats import FORMATS, SubtitleOptions

if TYPE_CHECKING:
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


class Destination(Protocol):
    """Takes transcripts one by one; `todo` are the recordings that it still wants."""

    todo: list[Source]
    on_screen: bool

    def write(self, source: Source, transcript: Transcript) -> None:
        """Deliver one transcript, whole or not at all."""

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
    if output.suffix == ".jsonl":
        return Manifest(sources, output, wish)
    suffix = output.suffix.lower().removeprefix(".")
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
        self._subtitles = wish.subtitles
        self._several = len(sources) > 1
        if self._several and self._format not in ("txt", "json", "ctm"):
            raise ConfigError(
                f"{len(sources)} recordings as {self._format} need a folder: -o FOLDER"
            )

    def write(self, source: Source, transcript: Transcript) -> None:
        text = formats.render(
            transcript, self._format, subtitles=self._subtitles, name=_recording(source)
        )
        if self._several and self._format == "txt":
            text = f"{source.name}: {' '.join(text.split())}\n"
        elif self._several and self._format == "json":
            line = {"name": source.name, **json.loads(text)}
            text = json.dumps(line, ensure_ascii=False) + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        pass


class _Files:
    """One or more files for each recording."""

    on_screen = False

    def __init__(
        self, sources: Sequence[Source], files: Sequence[Mapping[str, Path]], wish: Wish
    ) -> None:
        there = [path for of_one in files for path in of_one.values() if path.exists()]
        if there and wish.existing == "refuse":
            raise ConfigError(_refusal(there, wish))
        # A Source may hold arrays and mappings, so it has no hash.
        self._files = {
            id(source): of_one
            for source, of_one in zip(sources, files, strict=True)
            if wish.existing != "skip" or not all(path.exists() for path in of_one.values())
        }
        self.todo = [source for source in sources if id(source) in self._files]
        self._subtitles = wish.subtitles
        for folder in {path.parent for of_one in files for path in of_one.values()}:
            _make(folder)

    def write(self, source: Source, transcript: Transcript) -> None:
        # All are rendered before the first is written, so that an error leaves none.
        texts = {
            path: formats.render(
                transcript, format_, subtitles=self._subtitles, name=_recording(source)
            )
            for format_, path in self._files[id(source)].items()
        }
        for path, text in texts.items():
            write_atomic(path, text)

    def close(self) -> None:
        pass


class Manifest:
    """JSON lines: the input manifest's rows with `pred_text`; rows of other inputs are made.

    Rows gather in a file beside, which takes the output's name at the end; --resume goes on from
    either.
    """

    on_screen = False

    def __init__(self, sources: Sequence[Source], path: Path, wish: Wish) -> None:
        if wish.formats:
            raise ConfigError(f"{path} is a manifest and takes no -f {','.join(wish.formats)}")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        there = [p for p in (self._path, self._part) if p.exists()]
        if there and wish.existing == "refuse":
            raise ConfigError(_refusal(there, wish))
        _make(path.parent)
        self._kept = self._finished_lines() if wish.existing == "skip" else []
        done = {self._key(json.loads(line)) for line in self._kept}
        self.todo = [source for source in sources if self._key(self._row(source)) not in done]
        self._file: TextIO | None = None

    def write(self, source: Source, transcript: Transcript) -> None:
        """Add a recording's row."""
        self.add(source, heard_in(source, transcript))

    def add(self, source: Source, said: Mapping[str, Any]) -> None:
        """Add a recording's row with the keys of `said`."""
        row = {**self._row(source), **said}
        if self._file is None:
            write_atomic(self._part, "".join(f"{line}\n" for line in self._kept))
            self._file = self._part.open("a", encoding="utf-8", newline="\n")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Give the rows the output's name; without any, leave things as they were."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
        if self._file is not None or (self._kept and self._part.exists()):
            self._part.replace(self._path)

    def _finished_lines(self) -> list[str]:
        before = self._part if self._part.exists() else self._path
        if not before.exists():
            return []
        text = before.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()  # a killed run's last is half written

    def _row(self, source: Source) -> dict[str, Any]:
        row = dict(source.row or {})
        named = row.get("audio_filepath")
        # A relative path counts from its manifest's folder, which may not be ours.
        if source.path is not None and (
            named is None or not _same(self._path.parent / named, source.path)
        ):
            named = str(source.path.absolute())
        return {**row, "audio_filepath": named or source.name}

    @staticmethod
    def _key(row: Mapping[str, Any]) -> Any:
        return row["audio_filepath"], float(row.get("offset") or 0.0)


def heard_in(source: Source, transcript: Transcript) -> dict[str, Any]:
    """What a transcript adds to its recording's manifest row; the row's own duration stays."""
    duration = (source.row or {}).get("duration", round(transcript.duration, 3))
    return {"pred_text": transcript.text, "duration": duration}


def _same(one: Path, other: Path) -> bool:
    return os.path.normpath(one.absolute()) == os.path.normpath(other.absolute())


def _recording(source: Source) -> str:
    return PurePosixPath(source.name).stem


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
