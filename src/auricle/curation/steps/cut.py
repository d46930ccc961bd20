"""`cut`: the stretch of a file that an item is becomes a file of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auricle.audio import AudioFormat, Samples
from auricle.curation.items import Item
from auricle.curation.sound import on_sound
from auricle.curation.step import Example, Place, Step, Work
from auricle.curation.steps.convert import CODECS, check_format, converted


@dataclass(frozen=True)
class Cut(Step):
    """Write the sound from `offset` for `duration` seconds into the job's folder.

    It is mono, at the file's own rate, with 16 bits. `offset` goes, `audio_filepath` is the new
    file; where the sound came from stays in `source_filepath`, `source_offset` and `source_tar`.
    An item without `offset` passes by unchanged.
    """

    format: AudioFormat = "flac"

    def __post_init__(self) -> None:
        check_format(self.format, self.name)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Where the sound is."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The new file, and where it came from."""
        return (
            *("audio_filepath", "source_filepath", "source_offset", "duration"),
            *("sample_rate", "channels", "codec"),
        )

    @property
    def examples(self) -> tuple[Example, ...]:
        """Half a second of two; a stretch that begins behind the end; no stretch."""
        made = {
            "audio_filepath": ...,
            "source_filepath": ...,
            "source_offset": 1.25,
            "duration": 0.5,
            "sample_rate": 16000,
            "codec": CODECS[self.format],
        }
        return (
            Example({"offset": 1.25, "duration": 0.5}, [made], sound=_noise),
            Example({"offset": 3.0, "duration": 0.5}, ["beyond the end"], sound=_noise),
            Example({"duration": 2.0, "text": "as it is"}, [{"text": "as it is"}], sound=_noise),
        )

    def open(self, place: Place) -> Work:
        """Nothing to load."""

        def one(item: Item) -> Item:
            whole = item.get("offset") is None
            return item if whole else converted(item, place, None, None, self.format)

        return on_sound(place, one)


def _noise() -> Samples:
    return np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
