"""`segment`: a recording is cut into the stretches in which somebody speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from auricle.audio import AudioFormat, Samples
from auricle.curation.items import ID, Filtered, Item, Outcome, child
from auricle.curation.sound import heard, keep_sound, refused, stretch, with_file
from auricle.curation.step import Batch, Example, Place, Step, Work, refuse_unused
from auricle.curation.steps.activity import (
    RATE,
    Activity,
    Energy,
    Limits,
    Silero,
    Span,
    installed,
    powers_of,
    segments,
)
from auricle.curation.steps.convert import CODECS, check_format
from auricle.errors import AudioError, ConfigError

# What was true of the whole and is not of its pieces.
_OF_THE_WHOLE = frozenset(
    {
        *("text", "pred_text", "words", "confidence", "segments"),
        *("silence_ratio", "clipping_ratio", "snr_db", "bandwidth_hz"),
    }
)
_HELD = 1800.0  # seconds that are kept in memory to be written; longer sound is read again


@dataclass(frozen=True)
class Segment(Step):
    """Find speech, and make an item of each stretch of it; without any, it is filtered.

    `vad` is `silero` (by `auricle.vad`, extra `vad`), which is told speech from other sound with
    `threshold`; or `energy`, which takes for speech what is louder than the background, music too.
    `auto` is Silero where it is installed, settled when the pipeline is read.

    Pauses shorter than `merge` seconds are bridged, segments longer than `max_duration` are cut at
    their quietest moment, and speech shorter than `min_duration` is dropped. Each segment begins
    and ends with up to `padding` seconds more.

    The new items have `offset`, `duration` and `parent_id`. They lose `text`, `pred_text`, `words`,
    `confidence`, `segments` and what `probe` measured, which are of the whole and not of its
    pieces; `drop` names further keys. Every other key is kept. With `write`, each is a file of its
    own, mono at 16 kHz, as `convert` makes them.
    """

    vad: Literal["auto", "silero", "energy"] = "auto"
    threshold: float = 0.5
    min_duration: float = 0.5
    max_duration: float = 30.0
    padding: float = 0.1
    merge: float = 0.5
    write: bool = False
    format: AudioFormat = "flac"
    drop: tuple[str, ...] = ()

    costly: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_format(self.format, self.name)
        if self.vad not in ("auto", "silero", "energy"):
            raise ConfigError(f"{self.name}: vad must be auto, silero or energy, got {self.vad!r}")
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"{self.name}: threshold must be between 0 and 1, got {self.threshold}"
            )
        for key in ("min_duration", "padding", "merge"):
            if not 0 <= (value := getattr(self, key)) < float("inf"):
                raise ConfigError(f"{self.name}: {key} must be 0 or more seconds, got {value}")
        if not self.max_duration >= max(1.0, 2 * self.min_duration + 2 * self.padding):
            raise ConfigError(
                f"{self.name}: max_duration must be a second or more, and twice min_duration and "
                f"padding, got {self.max_duration}"
            )
        if self.vad == "energy":
            refuse_unused(self, ["threshold"], "with vad: energy")
        if not self.write:
            refuse_unused(self, ["format"], "without write")
        if self.vad == "auto":  # so that all workers of a job hear alike
            object.__setattr__(self, "vad", installed())
        object.__setattr__(self, "drop", tuple(self.drop))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Where the sound is."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Where the segments are."""
        new = ("source_filepath", "source_offset", "sample_rate", "channels", "codec")
        return ("audio_filepath", "offset", "duration", "parent_id", *(new if self.write else ()))

    @property
    def batch(self) -> Batch:
        """Few: recordings are long."""
        return Batch(items=4)

    @property
    def examples(self) -> tuple[Example, ...]:
        """A second of nothing, a voice of two, a second of nothing; and silence."""
        silence = Example({}, ["no speech"], sound=_silence)
        unusual = self.min_duration > 1 or self.max_duration < 3
        if unusual or self.merge < 0.3 or self.threshold > 0.5:
            return (silence,)
        piece = {"duration": ..., "lang": "en", "parent_id": ...}
        voice = Example({"text": "of all", "lang": "en"}, [piece], sound=_voice_in_silence)
        return (voice, silence)

    def open(self, place: Place) -> Work:
        """Load the network, if it is Silero's."""
        self._detector()

        def work(items: Sequence[Item]) -> Iterator[Outcome]:
            for item in items:
                try:
                    yield from self._pieces(item, place)
                except AudioError as error:
                    yield refused(item, error, place)

        return work

    def _detector(self) -> Activity:
        return Energy() if self.vad == "energy" else Silero(self.threshold)

    def _pieces(self, item: Item, place: Place) -> list[Outcome]:
        held: list[Samples] = []
        detector, powers, count = self._detector(), [], 0
        with heard(item, place, sample_rate=RATE) as sound:
            for block in sound.blocks:
                detector.push(block)
                powers.append(powers_of(block))
                count += len(block)
                if self.write and count <= _HELD * RATE:
                    held.append(block)
                else:
                    held.clear()
        limits = Limits(self.min_duration, self.max_duration, self.padding, self.merge)
        spans = segments(detector.speech(), np.concatenate(powers), count / RATE, limits)
        if not spans:
            return [Filtered(item, "no speech", f"in {count / RATE:.1f} s")]
        gone = _OF_THE_WHOLE.union(self.drop)
        bare = {key: value for key, value in item.items() if key not in gone}
        begin, _ = stretch(item)
        children = [
            child(
                bare,
                number,
                offset=round(begin + start, 3),
                duration=round(stop - start, 3),
            )
            for number, (start, stop) in enumerate(spans, 1)
        ]
        if not self.write:
            return list(children)
        if held:
            return list(self._written(children, spans, held, place))
        with heard(item, place, sample_rate=RATE) as sound:
            return list(self._written(children, spans, sound.blocks, place))

    def _written(
        self,
        children: Sequence[Item],
        spans: Sequence[Span],
        blocks: Iterable[Samples],
        place: Place,
    ) -> Iterator[Item]:
        for one, samples in zip(children, _stretches(blocks, spans), strict=True):
            name = keep_sound(samples, RATE, one[ID], place, format=self.format)
            new = with_file(one, name, one["offset"], len(samples) / RATE)
            yield {**new, "sample_rate": RATE, "channels": 1, "codec": CODECS[self.format]}


def _stretches(blocks: Iterable[Samples], spans: Sequence[Span]) -> Iterator[Samples]:
    """The samples of spans that follow each other, of a recording in blocks."""
    blocks = iter(blocks)
    there, at = np.zeros(0, np.float32), 0  # samples, and where the first of them stands
    for start, end in spans:
        first, stop = round(start * RATE), round(end * RATE)
        while at + len(there) < stop and (block := next(blocks, None)) is not None:
            passed = min(max(0, first - at), len(there))
            there, at = np.concatenate([there[passed:], block]), at + passed
        yield there[first - at : stop - at]


def _silence() -> Samples:
    return np.zeros(RATE, np.float32)


def _voice_in_silence() -> Samples:
    """What Silero takes for a voice: harmonics of 130 Hz through three wandering formants."""
    time = np.arange(2 * RATE) / RATE
    pitch = 130 * (1 + 0.1 * np.sin(2 * np.pi * 1.5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = (
        (600 + 200 * np.sin(2 * np.pi * 2.0 * time), 80, 1.0),
        (1400 + 500 * np.sin(2 * np.pi * 1.3 * time + 1), 110, 0.6),
        (np.full_like(time, 2600), 160, 0.3),
    )
    voice = np.zeros_like(time)
    for harmonic in range(1, 28):
        for middle, width, gain in formants:
            loudness = gain / (1 + ((harmonic * pitch - middle) / width) ** 2)
            voice += loudness * np.sin(harmonic * phase)
    voice *= 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time - np.pi / 2)
    pause = np.zeros(RATE)
    sound = np.concatenate([pause, 0.3 * voice / np.abs(voice).max(), pause])
    return sound.astype(np.float32)
