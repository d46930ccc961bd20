"""`audio_language`: the language that is spoken, by a multilingual Whisper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from auricle.curation.items import Item, Outcome, Quarantined
from auricle.curation.step import Batch, Example, Needs, Place, Step, Work
from auricle.curation.steps.hearing import (
    breath,
    check_options,
    clips_of,
    device_of,
    needs_of,
    without_place,
)
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.audio import Samples
    from auricle.engines.whisper import WhisperEngine

_WINDOW = 30.0  # seconds that Whisper hears at once


@dataclass(frozen=True)
class AudioLanguage(Step):
    """Add the language of the sound and its probability: `INTO` and `INTO_probability`.

    Whisper's own way: the probabilities of the language tokens after the start of a transcript
    (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022), here the
    mean over windows of 30 s.

    Args:
        model: A multilingual Whisper, as `auricle.load` takes it.
        into: The key of the language's code.
        windows: How many windows to hear, spread evenly; a short clip has fewer.
        precision: As in `transcribe`.
        device: As in `transcribe`.
        memory_gb: As in `transcribe`.
        revision: As in `transcribe`.
    """

    costly: ClassVar[bool] = True
    maybe_paths: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    into: str = "audio_lang"
    windows: int = 1
    precision: str = "auto"
    device: Literal["auto", "cpu"] = "auto"
    memory_gb: float | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        check_options(self.device)
        if isinstance(self.windows, bool) or not isinstance(self.windows, int) or self.windows < 1:
            raise ConfigError(f"windows is {self.windows!r}: use 1 or more")

    @property
    def name(self) -> str:
        """As pipelines say it."""
        return "audio_language"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sound."""
        return ("audio_filepath",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The language's code, and how likely it is."""
        return (self.into, f"{self.into}_probability")

    @property
    def batch(self) -> Batch:
        """Few: the model hears them one by one."""
        return Batch(items=8)

    @property
    def needs(self) -> Needs:
        """Memory for the model."""
        return needs_of(self.model, self.memory_gb, self.device)

    @property
    def examples(self) -> tuple[Example, ...]:
        """That the model can be loaded and tells languages apart."""
        return (
            Example({}, [dict.fromkeys(self.outputs, ...)], sound=breath),
            Example({"audio_filepath": "missing.wav"}, ["no such file"]),
        )

    def options(self) -> dict[str, Any]:
        """All but what changes no result; a model on the disk with its identity."""
        return without_place(asdict(self), self.model)

    def open(self, place: Place) -> Work:
        """Load the model.

        Raises:
            AuricleError: As `auricle.load`; also where the model is no multilingual Whisper.
        """
        from auricle.engines.whisper import WhisperEngine
        from auricle.recognizer import locate

        engine = WhisperEngine(
            locate(self.model, revision=self.revision),
            device_of(self.device, place),
            self.precision,
            name=self.model,
        )
        if len(engine.languages) < 2:
            engine.languages_of(breath())  # refuses, and says why
        return partial(self._work, engine, place)

    def _work(
        self, engine: WhisperEngine, place: Place, items: Sequence[Item]
    ) -> Iterator[Outcome]:
        clips = clips_of(items, place, engine.sample_rate)
        for item, clip in zip(items, clips, strict=True):
            if isinstance(clip, Quarantined):
                yield clip
                continue
            found = [engine.languages_of(window) for window in self._windows(clip, engine)]
            means = {code: sum(one[code] for one in found) / len(found) for code in found[0]}
            language = max(sorted(means), key=lambda code: means[code])
            yield {
                **item,
                self.into: language,
                f"{self.into}_probability": round(means[language], 4),
            }

    def _windows(self, clip: Samples, engine: WhisperEngine) -> list[Samples]:
        size = int(_WINDOW * engine.sample_rate)
        count = min(self.windows, max(1, -(-len(clip) // size)))
        last = max(0, len(clip) - size)
        starts = [last * i // max(1, count - 1) for i in range(count)]
        return [clip[start : start + size] for start in starts]
