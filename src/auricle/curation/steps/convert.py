"""`convert`: an item's sound as a file of its own at one rate, mono."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from auricle.audio import AUDIO_FORMATS, AudioFormat, Samples, check_rate
from auricle.curation.items import ID, Item
from auricle.curation.sound import heard, kept, on_sound, stretch, with_file
from auricle.curation.step import Example, Place, Step, Work
from auricle.errors import ConfigError

CODECS: dict[AudioFormat, str] = {"flac": "flac", "wav": "pcm_s16le"}


@dataclass(frozen=True)
class Convert(Step):
    """Write an item's sound into the job's folder, with 16 bits, mono, at `sample_rate`.

    Channels are mixed, or `channel` is taken (from 0). A stretch of a file becomes a whole file.
    `audio_filepath` is the new file; where the sound came from stays in `source_filepath`,
    `source_offset` (seconds, for a stretch) and `source_tar`.
    """

    sample_rate: int = 16_000
    channel: int | None = None
    format: AudioFormat = "flac"

    costly: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self.sample_rate, f"{self.name}: sample_rate")
        check_format(self.format, self.name)
        if self.channel is not None and (
            not isinstance(self.channel, int) or isinstance(self.channel, bool) or self.channel < 0
        ):
            raise ConfigError(
                f"{self.name}: channel must be a number from 0, or null to mix, "
                f"got {self.channel!r}"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Where the sound is."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The new file, and where it came from."""
        return (
            *("audio_filepath", "source_filepath", "duration"),
            *("sample_rate", "channels", "codec"),
        )

    @property
    def examples(self) -> tuple[Example, ...]:
        """A second at another rate; and no file."""
        made = {
            "audio_filepath": ...,
            "source_filepath": ...,
            "duration": 1.0,
            "sample_rate": self.sample_rate,
            "channels": 1,
            "codec": CODECS[self.format],
        }
        sound = () if self.channel else (Example({}, [made], sound=_tone, sample_rate=22_050),)
        return (*sound, Example({"audio_filepath": "no-such-file.wav"}, ["no such file"]))

    def open(self, place: Place) -> Work:
        """Nothing to load."""

        def one(item: Item) -> Item:
            return converted(item, place, self.sample_rate, self.channel, self.format)

        return on_sound(place, one)


def converted(
    item: Item,
    place: Place,
    sample_rate: int | None,
    channel: int | None,
    audio_format: AudioFormat,
) -> Item:
    """An item whose sound is a file of the job's; without a `sample_rate`, at the file's own.

    Raises:
        AudioError: Its sound cannot be read.
    """
    start, _ = stretch(item)
    with heard(item, place, sample_rate=sample_rate, channel=channel) as sound:
        rate = sound.sample_rate
        name, count = kept(sound.blocks, rate, item[ID], place, format=audio_format)
    new = with_file(item, name, start, count / rate)
    return {**new, "sample_rate": rate, "channels": 1, "codec": CODECS[audio_format]}


def check_format(audio_format: str, where: str) -> None:
    """Refuse a format that is not written.

    Raises:
        ConfigError: It names those that are.
    """
    if audio_format not in AUDIO_FORMATS:
        raise ConfigError(
            f"{where}: format must be {' or '.join(AUDIO_FORMATS)}, got {audio_format!r}"
        )


def _tone() -> Samples:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)).astype(np.float32)
