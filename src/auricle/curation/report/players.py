"""Short clips of items as MP3 in data URIs, for the players of a report.

Files that are heard here may be damaged, so they are opened in a process of its own: whatever
becomes of that, the report is written.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auricle.errors import AuricleError

if TYPE_CHECKING:
    from auricle.audio import Samples

SECONDS = 30.0  # longer items are not played
TOTAL_BYTES = 4_000_000  # of all data URIs together
PATIENCE = 60.0  # seconds for all clips
_RATE = 16000
_BIT_RATE = 32_000


def data_uris(items: Sequence[Mapping[str, Any]], folder: Path) -> list[str | None]:
    """A data URI for each item, or None: too long, not to be read, or no room left."""
    asked = json.dumps({"folder": str(folder.absolute()), "items": list(items)})
    command = [sys.executable, "-c", f"from {__name__} import answer; answer()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        told = subprocess.run(
            command,
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
            env=environment,
        ).stdout
    except subprocess.TimeoutExpired as late:
        told = late.stdout or b""
    found: list[str | None] = [None] * len(items)
    room = TOTAL_BYTES
    for line in told.split(b"\n")[:-1]:  # what is behind the last newline was cut short
        number, clip = json.loads(line)
        if len(clip) <= room:
            found[number] = clip
            room -= len(clip)
    return found


def clips(items: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[tuple[int, str]]:
    """The number of each item that can be played, and its data URI."""
    from auricle.curation.sound import read_sound
    from auricle.curation.step import Place

    place = Place(folder)
    for number, item in enumerate(items):
        duration = item.get("duration")
        if not isinstance(duration, int | float) or not 0 < duration <= SECONDS:
            continue
        with suppress(AuricleError, OSError, ValueError):
            sound = mp3(read_sound(dict(item), place, sample_rate=_RATE))
            yield number, f"data:audio/mpeg;base64,{base64.b64encode(sound).decode()}"


def mp3(samples: Samples) -> bytes:
    """Speech at 16 kHz, 4 kB a second: what every browser plays."""
    import av
    import numpy as np

    file = BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=_RATE, layout="mono", bit_rate=_BIT_RATE)
        stream.codec_context.open()
        fitting = av.AudioResampler("fltp", "mono", _RATE, stream.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(
            np.clip(samples, -1, 1).astype(np.float32)[None], format="fltp", layout="mono"
        )
        frame.sample_rate = _RATE
        frames = [*fitting.resample(frame), *fitting.resample(None), None]
        for piece in frames:
            container.mux(stream.encode(piece))
    return file.getvalue()


def answer() -> None:
    """What that process does: a line on stdout for each clip that is asked for on stdin."""
    asked = json.load(sys.stdin)
    for found in clips(asked["items"], Path(asked["folder"])):
        print(json.dumps(found), flush=True)  # noqa: T201
