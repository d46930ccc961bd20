"""`probe`: how long a recording is, what it is stored as, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auricle.audio import ReadReport, Samples
from auricle.curation.items import Item
from auricle.curation.sound import heard, on_sound
from auricle.curation.step import Example, Place, Step, Work
from auricle.curation.steps.measuring import Measures


@dataclass(frozen=True)
class Probe(Step):
    """Decode an item's sound once, to its end, and measure it.

    Keys: `duration` (seconds of sound that are there), `sample_rate`, `channels` and `codec` of the
    file; and of the item's stretch, mixed to mono: `silence_ratio` (of 20 ms frames that are 35 dB
    below the loudest twentieth, or below -60 dBFS), `clipping_ratio` (of samples at full scale),
    `snr_db` (an estimate from the percentiles of frames' energy, of background noise only),
    `bandwidth_hz` (the highest frequency within 60 dB of the strongest: 8 kHz speech in a 16 kHz
    file has 4000). What cannot be told of so short or so silent a sound is null.

    `missing_seconds` of sound are known to be lost, because the file is damaged or cut short of
    what its header or row says; null where something is, and nothing tells how much. An item with
    well more than muxers get wrong (half a second and a hundredth) is quarantined, unless
    `keep_damaged`: then what is there is measured, and later steps read that too. Sound that is
    empty, or no sound at all, is quarantined always.
    """

    keep_damaged: bool = False

    costly: ClassVar[bool] = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Where the sound is."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is measured."""
        return (
            *("duration", "sample_rate", "channels", "codec"),
            *("missing_seconds", "silence_ratio", "clipping_ratio", "snr_db", "bandwidth_hz"),
        )

    @property
    def examples(self) -> tuple[Example, ...]:
        """A second of a tone that is clipped at times, then a second of nothing; and no file."""
        measured = {
            "duration": 2.0,
            "sample_rate": 16000,
            "channels": 1,
            "missing_seconds": 0.0,
            "silence_ratio": 0.5,
            "clipping_ratio": 0.25,
            "snr_db": ...,
            "bandwidth_hz": ...,
        }
        return (
            Example({}, [measured], sound=_tone_and_silence),
            Example({"audio_filepath": "no-such-file.wav"}, ["no such file"]),
        )

    def open(self, place: Place) -> Work:
        """Nothing to load."""
        return on_sound(place, lambda item: _probed(item, place, self.keep_damaged))


def _probed(item: Item, place: Place, keep_damaged: bool) -> Item:
    report = ReadReport()
    with heard(item, place, report=report) as sound:
        measures = Measures(sound.sample_rate)
        for block in sound.blocks:
            measures.push(block)
    if not keep_damaged:
        report.refuse(str(item["audio_filepath"]))
    return {
        **item,
        "duration": round(measures.seconds, 3),
        "sample_rate": sound.info.sample_rate,
        "channels": sound.info.channels,
        "codec": sound.info.codec,
        "missing_seconds": None if report.cut is None else round(report.missing, 2),
        **measures.values(),
    }


def _tone_and_silence() -> Samples:
    """1 kHz at 16 kHz, of which half of each period is at full scale, then silence."""
    period = np.array([0, 0.5, 1, 1, 1, 1, 0.5, 0.25, 0, -0.5, -1, -1, -1, -1, -0.5, -0.25])
    return np.concatenate([np.tile(period, 1000), np.zeros(16000)]).astype(np.float32)
