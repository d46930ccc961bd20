"""Lhotse's cuts: a plain one is a stretch of a file, and read as such; others Lhotse loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auricle import audio, manifests
from auricle.audio import Samples
from auricle.errors import AudioError, ManifestError, MissingExtra, first_line
from auricle.training.rows import Found
from auricle.training.sounds import FileSound, MeasuredSound


@dataclass(frozen=True, slots=True)
class CutSound:
    """A cut that is mixed, changed or not in a file of its own, as Lhotse's JSON."""

    cut: str
    name: str
    duration: float

    def read(self, sample_rate: int) -> Samples:
        """Mono samples [S]; channels are averaged."""
        from lhotse.serialization import deserialize_item

        try:
            cut = deserialize_item(json.loads(self.cut))
            samples, rate = cut.load_audio(), cut.sampling_rate
        except Exception as error:  # Lhotse's readers have no root of their errors
            raise AudioError(f"{self.name}: Lhotse cannot load it: {first_line(error)}") from None
        if samples is None:
            raise AudioError(f"{self.name}: the cut has no sound")
        return audio.read(samples, source_rate=rate, sample_rate=sample_rate)

    def seconds(self) -> float:
        """What the cut says."""
        return self.duration


def cut_rows(path: Path, bad_row: manifests.OnBadRow | None = None) -> Iterator[Found]:
    """The cuts of a Lhotse file; texts of several supervisions are joined in their order.

    A line that holds no cut goes to `bad_row`, if there is one.

    Paths that stand relative in it are taken from its folder where there is such a file, else from
    the working folder, as Lhotse does.

    Raises:
        ManifestError: No such file, or not one of cuts.
        MissingExtra: The package is not installed.
    """
    try:
        from lhotse import CutSet
        from lhotse.serialization import deserialize_item
    except ImportError as error:
        raise MissingExtra(
            f"Lhotse's cuts need an extra: pip install 'auricle[lhotse]' ({first_line(error)})"
        ) from None
    if not path.is_file():
        raise ManifestError(f"{path}: no such file of cuts; check the path")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        for number, line in manifests.lines(path):
            if not line.strip():
                continue
            try:
                cut = manifests.json_object(line.decode("utf-8").strip())
                found = _found(deserialize_item(cut), path)
            except Exception as error:  # Lhotse's readers have no root of their errors
                problem = f"cannot be read as Lhotse's cuts: {first_line(error)}"
                wrong = manifests.BadRow(path, number, problem, line)
                if bad_row is None:
                    raise wrong from None
                bad_row(wrong)
                continue
            yield found
        return
    count = 0
    try:
        for cut in CutSet.from_file(path):
            yield _found(cut, path)
            count += 1
    except Exception as error:
        raise ManifestError(
            f"{path}: cannot be read as Lhotse's cuts after {count} of them: {first_line(error)}"
        ) from None


def _found(cut: Any, path: Path) -> Found:
    said = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    first = said[0] if said else None
    data = dict(getattr(cut, "custom", None) or {})
    if first is not None:
        speaker = {"speaker": first.speaker} if first.speaker else {}
        data = {**data, **(first.custom or {}), **speaker}
    name = f"{path}: {cut.id}"
    return Found(
        name=name,
        sound=_sound(cut, name, path.parent),
        text=" ".join(one.text for one in said if one.text),
        duration=float(cut.duration),
        language=first.language if first is not None else None,
        data=data,
        problem=_problem(cut, name),
    )


def _sound(cut: Any, name: str, folder: Path) -> MeasuredSound:
    recording = getattr(cut, "recording", None)  # mixed cuts have several
    plain = recording is not None and len(recording.sources) == 1 and not recording.transforms
    sources = recording.sources if recording is not None and plain else []
    channels = sources[0].channels if sources and sources[0].type == "file" else []
    if getattr(cut, "channel", None) not in channels:
        return CutSound(json.dumps(cut.to_dict(), ensure_ascii=False), name, float(cut.duration))
    own = folder / sources[0].source
    file = str(own) if own.is_file() else str(sources[0].source)
    channel = channels.index(cut.channel) if len(channels) > 1 else None
    return FileSound(file, float(cut.start), float(cut.duration), channel)


def _problem(cut: Any, name: str) -> str | None:
    """Why a cut is not used: it is nothing but features, or a command would be run for it."""
    parts = [track.cut for track in cut.tracks] if hasattr(cut, "tracks") else [cut]
    sources = [s for p in parts if getattr(p, "recording", None) for s in p.recording.sources]
    if not sources:
        return f"{name}: the cut has no recording"
    if _runs_a_command(cut.to_dict()):
        return f"{name}: its sound is the output of a command, which is not run; store it as a file"
    return None


def _runs_a_command(value: Any) -> bool:
    """Whether a command is a source anywhere, for what is mixed in or echoes is a recording too."""
    if isinstance(value, dict):
        mine = value.get("type") == "command" and "source" in value
        return mine or any(map(_runs_a_command, value.values()))
    return isinstance(value, list | tuple) and any(map(_runs_a_command, value))
