"""One stream for many hours, as fast as it goes: its resident memory must stay flat.

    python benchmarks/streaming_memory.py MODEL --hours 10 --lookahead 0

Prints a line for each hour of audio, and exits 1 if memory has grown by 5 MB after the first.
Reads /proc, which Linux has.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auricle.streaming.events import Final
from auricle.streaming.stream import Stream

SPEECH = Path(__file__).resolve().parents[1] / "examples" / "speech" / "shell.flac"
STATUS = Path("/proc/self/status")
LIMIT_MB = 5.0
PUSH_SECONDS = 10
PAUSE_SECONDS = 1  # after each recording: the silence that ends an utterance, and more


@dataclass(frozen=True)
class Hour:
    """What one hour of audio has left behind."""

    megabytes: float  # resident after it
    finals: int
    words: int
    seconds: float  # that it took


def hours(stream: Stream, speech: npt.NDArray[np.float32], count: int) -> Iterator[Hour]:
    """Let `stream` hear `speech` over and over for `count` hours of audio."""
    rate = stream.sample_rate
    sound = np.concatenate([speech, np.zeros(PAUSE_SECONDS * rate, np.float32)])
    span = np.arange(PUSH_SECONDS * rate)
    for hour in range(count):
        begun, finals, words = time.perf_counter(), 0, 0
        for second in range(3600 * hour, 3600 * (hour + 1), PUSH_SECONDS):
            for event in stream.push(sound[(second * rate + span) % len(sound)]):
                if isinstance(event, Final):
                    finals += 1
                    words += len(event.segment.words)
        gc.collect()
        yield Hour(resident(), finals, words, time.perf_counter() - begun)


def resident() -> float:
    """Resident memory of this process in MB."""
    rows = (line.split() for line in STATUS.read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == "VmRSS:") / 1000


def main() -> None:
    import auricle
    from auricle import audio

    arguments = _arguments()
    if not STATUS.exists():
        raise SystemExit(f"{STATUS} is not there: memory is read from it")
    asr = auricle.load(arguments.model, head=arguments.head)
    stream = asr.stream(lookahead=arguments.lookahead, keep=False)
    speech = audio.read(arguments.audio, sample_rate=stream.sample_rate)
    print(f"{stream}, keep=False")
    measured = []
    for number, hour in enumerate(hours(stream, speech, arguments.hours), 1):
        measured.append(hour.megabytes)
        print(
            f"hour {number}: {hour.megabytes:.1f} MB resident, {hour.finals} finals, "
            f"{hour.words} words, {hour.seconds:.0f} s",
            flush=True,
        )
    grown = max(measured) - measured[0]
    print(f"grown after the first hour: {grown:.1f} MB")
    sys.exit(grown >= LIMIT_MB)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--head", choices=("ctc", "rnnt", "tdt"), help="of hybrid models")
    parser.add_argument("--hours", type=int, default=10)
    parser.add_argument("--lookahead", type=int, help="in encoder steps")
    parser.add_argument("--audio", type=Path, default=SPEECH, help="what is heard over and over")
    return parser.parse_args()


if __name__ == "__main__":
    main()
