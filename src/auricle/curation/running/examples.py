"""Examples, tried before a job starts: do steps, readers and writers still do what they say?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.curation.items import ID, Filtered, Item, Outcome, canonical
from auricle.curation.plan import Labelled, called
from auricle.curation.running.working import assigned, missing_key
from auricle.curation.step import Example, Place, Step, WholeStep, Work
from auricle.errors import ConfigError, MissingExtra, first_line

if TYPE_CHECKING:
    from auricle.curation.readers import BadRow, Reader
    from auricle.curation.writers import Writer


def try_examples(each: Labelled, place: Place, work: Work | None = None) -> None:
    """Try all examples of a step.

    Args:
        each: The step.
        place: Where it works; a folder that is thrown away.
        work: The step, if it is open already; else it is opened at the place.

    Raises:
        ConfigError: One gives something else than it says, or raises.
    """
    step = each.step
    if isinstance(step, WholeStep):
        for number, whole in enumerate(step.examples, 1):
            items = [{**item, ID: str(i)} for i, item in enumerate(whole.items)]
            with _tried(f"{each.label}: example {number}") as where:
                outcomes = list(step.decide(items))
            _compare(where, whole.gives, outcomes)
        return
    if not step.examples:
        return
    work = work or open_step(each, place)
    for number, example in enumerate(step.examples, 1):
        item = _item(example, number, place.folder)
        missing = missing_key(step.inputs, item)
        with _tried(f"{each.label}: example {number}") as where:
            outcomes = [missing] if missing else assigned([item], work([item]))[0]
        _compare(where, example.gives, outcomes)


def try_reader(reader: Reader, folder: Path) -> None:
    """Try a reader's example, in a folder that is thrown away.

    Raises:
        ConfigError: It gives something else than it says, or raises.
        MissingExtra: A package is not installed.
    """
    with _tried(f"read {called(reader)}: its example") as where:
        example = reader.example(folder)
        found = [] if example is None else list(example.reader.items(folder))
    if example is not None:
        _compare(where, example.gives, found)


def try_writer(writer: Writer, folder: Path) -> None:
    """Try a writer's example, in a folder that is thrown away: what it writes is read back.

    Raises:
        ConfigError: Something else is there than was given, or it raises.
        MissingExtra: A package is not installed.
    """
    with _tried(f"write {called(writer)}: its example") as where:
        example = writer.example(folder)
        if example is None:
            return
        example.writer.write(example.items, folder)
        found = list(example.found())
    _compare(where, example.gives, found)
    if example.sound:
        given = {item[ID]: item for item in example.items}
        with _tried(where):
            changed = [
                item[ID]
                for item in found
                if isinstance(item, dict) and not _sound_alike(item, given[item[ID]], folder)
            ]
        if changed:
            raise ConfigError(f"{where} gives other sound than it was given, for {changed[0]}")


def _sound_alike(one: Item, other: Item, folder: Path) -> bool:
    import numpy as np

    from auricle.curation.sound import read_sound

    a, b = (read_sound(item, Place(folder)) for item in (one, other))
    return a.shape == b.shape and np.allclose(a, b, atol=1e-4)


def _item(example: Example, number: int, folder: Path) -> Item:
    item = {ID: f"example{number}", **example.item}
    if example.sound is not None:
        from auricle import audio

        path = folder / f"example{number}.wav"
        with path.open("wb") as file:
            audio.write(file, [example.sound()], example.sample_rate, "wav")
        item["audio_filepath"] = str(path)
    return item


def _compare(
    where: str,
    wanted: Sequence[Mapping[str, Any] | str],
    outcomes: Sequence[Outcome | BadRow],
) -> None:
    if len(wanted) != len(outcomes):
        raise ConfigError(f"{where} gives {len(outcomes)} outcomes, not {len(wanted)}")
    for want, outcome in zip(wanted, outcomes, strict=True):
        got = outcome if isinstance(outcome, dict) else outcome.reason
        if not _fits(want, got):
            detail = "" if isinstance(outcome, (dict, Filtered)) else f" ({outcome.detail})"
            raise ConfigError(
                f"{where} gives {_shown(got, want)}{detail}, not {_shown(want, want)}"
            )


def _fits(want: Mapping[str, Any] | str, got: Item | str) -> bool:
    if isinstance(want, str) or isinstance(got, str):
        return want == got
    return all(
        key in got if value is ... else key in got and _plain(got[key]) == _plain(value)
        for key, value in want.items()
    )


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _shown(value: Mapping[str, Any] | str, like: Mapping[str, Any] | str) -> str:
    if isinstance(value, str):
        return repr(value)
    keys = like if isinstance(like, Mapping) else value
    said = {key: value.get(key) for key in keys}
    return canonical({k: "..." if v is ... else v for k, v in said.items()})


@contextmanager
def _tried(where: str) -> Iterator[str]:
    """Tell of whatever is raised in the block as an example's fault."""
    try:
        yield where
    except MissingExtra:
        raise
    except Exception as error:
        raise ConfigError(f"{where} raises {type(error).__name__}: {first_line(error)}") from error


def open_step(each: Labelled, place: Place) -> Work:
    """Open a step.

    Raises:
        ConfigError: It cannot be opened; a model that is not there, say.
        MissingExtra: It needs a package that is not installed.
        OSError: The disk is full.
    """
    step = each.step
    assert isinstance(step, Step)
    try:
        return step.open(place)
    except MissingExtra:
        raise
    except Exception as error:
        raise ConfigError(
            f"{each.label} cannot be opened on {place.device}: {first_line(error)}"
        ) from error
