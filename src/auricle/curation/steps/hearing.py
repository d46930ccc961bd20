"""What the steps with a model share: a batch's sound, which model it is, what it takes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from auricle.curation.items import Item, Quarantined
from auricle.curation.step import Batch, Needs, Place
from auricle.curation.steps.memory import UNMEASURED
from auricle.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from auricle.audio import Samples
    from auricle.curation.choosing import Wanted

T = TypeVar("T")

AUTO = "auto"
EMBEDDED = "embedded"  # as `auricle.load` takes it
_BESIDE_GB = 0.5  # the libraries that run a model
_held: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
_SAMPLED = 64  # places at which a file is read
_BLOCK = 64 << 10


def clips_of(items: Sequence[Item], place: Place, rate: int) -> list[Samples | Quarantined]:
    """The sound [S] of each item, or what becomes of an item without."""
    return [_clip(item, place, rate) for item in items]


def shared(key: Hashable, load: Callable[[], T]) -> T:
    """What `load` gives, or what it gave for this key before, as long as anybody holds it.

    A worker measures a model, tries it and works with it: it should be there once.
    """
    held = _held.get(key)
    if held is None:
        held = _held[key] = load()
    made: T = held
    return made


def device_of(wanted: str, place: Place) -> str:
    """The device that a step's model goes to: the place's, unless the step keeps to the CPU."""
    return place.device if wanted == AUTO else wanted


def check_options(device: str, batch_seconds: float | str = AUTO) -> None:
    """Refuse what no step with a model can do.

    Raises:
        ConfigError: An unknown device, or seconds that are none.
    """
    if device not in (AUTO, "cpu"):
        raise ConfigError(
            f"device is {device!r}: use auto (the job's devices) or cpu; "
            "the job's own are chosen when it starts"
        )
    if batch_seconds != AUTO and (
        isinstance(batch_seconds, bool | str) or not 0 < batch_seconds < float("inf")
    ):
        raise ConfigError(f"batch_seconds is {batch_seconds!r}: use a number of seconds, or auto")


def check_wanted(model: str, wanted: Wanted | None) -> None:
    """Refuse what a model is to be chosen by where it is named.

    Raises:
        ConfigError: It is.
    """
    if wanted is not None and model != AUTO:
        raise ConfigError(f"wanted is for model: auto, not for {model}; leave it out")


def batch_of(batch_seconds: float | str) -> Batch:
    """By the seconds of sound in it; a minute where nothing was measured."""
    return Batch(seconds=UNMEASURED if batch_seconds == AUTO else float(batch_seconds))


def needs_of(model: str, stated: float | None, device: str) -> Needs:
    """Memory for a model: `stated` GB, or a guess by its size."""
    size = memory_gb(model) if stated is None else stated
    return Needs(size, accelerator=device == AUTO)


def breath() -> Samples:
    """A second of faint noise, for examples: any model can hear it."""
    import numpy as np

    return np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)


def memory_gb(model: str) -> float:
    """A guess at what a model takes while it works, by the size of its weights; 0 if unknown."""
    weights = _weights_gb(model)
    return round(_BESIDE_GB + 1.5 * weights, 2) if weights else 0.0


def identity(path: str | None) -> str | None:
    """What tells a model on the disk from another one under the same name; None for others.

    A digest over the sizes of its files and 64 places in each: weights that were trained on, or
    converted anew, differ everywhere.
    """
    files = [] if path is None else _files(path)
    if not files:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        stat = file.stat()
        digest.update(_sampled(str(file), stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


def without_place(options: Mapping[str, object], *paths: str | None) -> dict[str, object]:
    """A step's options as far as its results depend on them, with the identity of its models."""
    kept = {key: value for key, value in options.items() if key not in ("memory_gb", "wanted")}
    return {**kept, "identity": [identity(path) for path in paths]}


def _clip(item: Item, place: Place, rate: int) -> Samples | Quarantined:
    from auricle.curation.sound import read_sound, refused

    try:
        return read_sound(item, place, sample_rate=rate)
    except AudioError as error:
        return refused(item, error, place)


def _weights_gb(model: str) -> float:
    if files := _files(model):
        return sum(file.stat().st_size for file in files) / 1e9
    from auricle.hub.catalogue import find

    entry = find(model)
    return 0.0 if entry is None or entry.parameters is None else entry.parameters * 4e-3


def _files(model: str) -> list[Path]:
    """Those of a model on this machine's disk; the hub's are told apart by their revision."""
    from auricle.hub import on_disk

    path = _embedded() if model == EMBEDDED else on_disk(model)
    if path is None:
        return []
    if path.is_file():
        return [path]
    return sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else []


@functools.cache
def _embedded() -> Path | None:
    """Found once: its files are checked each time."""
    from auricle.checkpoints import embedded

    return embedded.folder() if embedded.installed() else None


@functools.lru_cache(maxsize=256)
def _sampled(path: str, size: int, changed: int) -> bytes:
    """Of one content; `changed` is there so that an edited file is read again."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with Path(path).open("rb") as file:
        for number in range(_SAMPLED):
            file.seek(number * max(_BLOCK, size // _SAMPLED))
            digest.update(file.read(_BLOCK))
    return digest.digest()
