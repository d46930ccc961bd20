"""How many seconds of sound a model may hear at once: by the memory that two batches took.

Measured where the model works, once before a job. The answer is a step on a coarse ladder, so that
a machine with a little more or less to spare gives the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.audio import Samples

Hear = Callable[[Sequence["Samples"]], object]

CLIP_SECONDS = 20.0
CLIPS = (1, 3)
LEFT_ASIDE = 0.25  # for what allocators lose, and for clips longer than those measured
UNMEASURED = 60.0
LADDER: tuple[float, ...] = tuple(15.0 * 2**n for n in range(9))  # seconds
# Larger batches do not work faster: a CPU is busy with a few clips.
MOST = {"cpu": 120.0, "cuda": 3840.0}
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def measured_seconds(hear: Hear, sample_rate: int, device: str, memory: int | None) -> float:
    """The `batch_seconds` for a model.

    Args:
        hear: Runs one batch of clips through the model.
        sample_rate: Of the clips.
        device: Where the model is: "cpu", "cuda" or "cuda:N".
        memory: Bytes that this process may take there, the model's own included; None for what
            is free.

    Raises:
        ConfigError: Not even one clip of 20 s fits.
    """
    import numpy as np

    kind = device.partition(":")[0]
    noise = np.random.default_rng(0).normal(0, 0.05, int(CLIP_SECONDS * sample_rate))
    clip = noise.astype(np.float32)
    hear([clip[: 2 * sample_rate]])  # what is only made once must not count
    meter = _cuda_peak if kind == "cuda" else _resident_peak
    taken = [meter(lambda n=n: hear([clip] * n), device) for n in CLIPS]  # type: ignore[misc]
    if None in taken:
        return min(UNMEASURED, MOST[kind])
    room = _room(device, memory)
    return min(extrapolated(taken[0] or 0, taken[1] or 0, room), MOST[kind])


def extrapolated(first: int, second: int, room: int | None) -> float:
    """The highest step of the ladder whose batches fit into `room` bytes.

    `first` and `second` are the bytes that batches of `CLIPS` clips took.

    Raises:
        ConfigError: Not even one clip fits.
    """
    one, other = CLIPS
    growth = (second - first) / (other - one)  # bytes a clip
    if room is None:
        return UNMEASURED
    left = (1 - LEFT_ASIDE) * room - first  # after a batch of `one`
    clips = one + left / growth if growth > 0 else UNMEASURED / CLIP_SECONDS
    if left < 0 or clips < 1:
        raise ConfigError(
            f"a clip of {CLIP_SECONDS:g} s takes {first / 1e9:.2f} GB beside the model and "
            f"{max(0, room) / 1e9:.2f} GB are free: take a smaller model, or fewer workers"
        )
    return max(seconds for seconds in LADDER if seconds <= clips * CLIP_SECONDS)


def _cuda_peak(run: Callable[[], object], device: str) -> int:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def _resident_peak(run: Callable[[], object], device: str) -> int | None:
    """By what Linux counts of this process; None on other systems."""
    _give_back()
    before = _resident("VmRSS")
    try:
        _RESET.write_text("5")  # begins the count of the peak anew
    except OSError:
        return None
    run()
    peak = _resident("VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def _give_back() -> None:
    """Hand what was freed back to the system: what is kept for later would hide what is taken."""
    import ctypes

    with suppress(OSError, AttributeError):  # where the C library is not GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(found[0]) if found else None


def _room(device: str, memory: int | None) -> int | None:
    """Bytes that batches may take beside the model; None where nobody tells."""
    if device.startswith("cuda"):
        import torch

        own = torch.cuda.memory_allocated(device)
        unused = torch.cuda.memory_reserved(device) - own
        free = torch.cuda.mem_get_info(device)[0] + unused
        return free if memory is None else min(free, memory - own)
    free_ram, own_ram = _free_ram(), _resident("VmRSS")
    if memory is None:
        return free_ram
    rest = memory - (own_ram or 0)
    return rest if free_ram is None else min(free_ram, rest)


def _free_ram() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None
