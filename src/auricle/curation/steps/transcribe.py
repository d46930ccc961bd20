"""`transcribe`: what a model hears."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from auricle.curation.choosing import Facts, Wanted, choose_for
from auricle.curation.items import Item, Outcome, Quarantined
from auricle.curation.step import Batch, Example, Needs, Place, Step, Work
from auricle.curation.steps.hearing import (
    AUTO,
    batch_of,
    breath,
    check_options,
    check_wanted,
    clips_of,
    device_of,
    needs_of,
    shared,
    without_place,
)
from auricle.curation.steps.memory import MOST, measured_seconds
from auricle.decoding.confidence import mean
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.audio import Samples
    from auricle.recognizer import Recognizer
    from auricle.types import Transcript

_ALL_AT_ONCE = 1e6  # seconds: how much a batch holds is the caller's choice


@dataclass(frozen=True)
class Transcribe(Step):
    """Add what a model hears: `pred_text` and `confidence`, with `timestamps` also `words`.

    With another `into` the keys are `INTO`, `INTO_confidence` and `INTO_words`, so that several
    models' texts stand side by side. The confidence is the mean of the words', and a word's the
    least of its tokens' (for Whisper, the word's probability); where nothing was heard it is 0.
    Words' times count from the start of the item's sound.

    Args:
        model: A hub name, a folder, a `.nemo` file or "embedded", as `auricle.load` takes them;
            "auto" has one chosen by what the rows are like.
        into: The key of the text.
        adapter: The folder of an adapter to put beside the weights.
        head: "ctc", "rnnt" or "tdt" for hybrids.
        precision: "auto", "fp32", "bf16", "fp16"; Whisper also takes "int8".
        language: For models with a choice, the same for all items.
        language_key: The key under which each item names its own; one whose language the model
            does not know is quarantined.
        timestamps: Whether to add the words with their times.
        batch_seconds: Seconds of sound in a batch, padding included; "auto" measures what fits
            into the memory, once before the job.
        device: "auto" is the job's; "cpu" keeps a small model off the GPUs.
        memory_gb: What it takes on its device; None guesses by the model's size.
        revision: Of a hub repository.
        tier: A number to note under the key `tier`: which tier of a cascade was the last to hear
            the item.
        wanted: What to choose by, for `model: auto`.

    Raises:
        ConfigError: Options that contradict each other.
    """

    costly: ClassVar[bool] = True
    paths: ClassVar[tuple[str, ...]] = ("adapter",)
    maybe_paths: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    into: str = "pred_text"
    adapter: str | None = None
    head: str | None = None
    precision: str = "auto"
    language: str | None = None
    language_key: str | None = None
    timestamps: bool = False
    batch_seconds: float | Literal["auto"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    memory_gb: float | None = None
    revision: str | None = None
    tier: int | None = None
    wanted: Wanted | None = None

    def __post_init__(self) -> None:
        check_options(self.device, self.batch_seconds)
        if self.language is not None and self.language_key is not None:
            raise ConfigError("give language or language_key, not both")
        check_wanted(self.model, self.wanted)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sound, and the language where each item has its own."""
        return ("audio_filepath", *([self.language_key] if self.language_key else []))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The text, its confidence, and what else was asked for."""
        text, confidence, words = keys_of(self.into)
        noted = ["tier"] if self.tier is not None else []
        return (text, confidence, *([words] if self.timestamps else []), *noted)

    @property
    def batch(self) -> Batch:
        """By the seconds of sound in it; a minute where nothing was measured."""
        return batch_of(self.batch_seconds)

    @property
    def needs(self) -> Needs:
        """Memory for the model."""
        return needs_of(self.model, self.memory_gb, self.device)

    @property
    def examples(self) -> tuple[Example, ...]:
        """That the model can be loaded and hears something, whatever it is; that sound must be."""
        text, confidence, _ = keys_of(self.into)
        if self.unsettled:
            return ()
        language = {self.language_key: "en"} if self.language_key else {}
        missing = Example({"audio_filepath": "missing.wav", **language}, ["no such file"])
        if language:  # an example cannot know what the model speaks
            return (missing,)
        return Example({}, [{text: ..., confidence: ...}], sound=breath), missing

    def options(self) -> dict[str, Any]:
        """All but what changes no result; a model on the disk with its identity."""
        return without_place(asdict(self), self.model, self.adapter)

    @property
    def unsettled(self) -> bool:
        """Whether the model must still be chosen, by `settled`."""
        return self.model == AUTO

    def settled(self, facts: Facts) -> tuple[Transcribe, str]:
        """The step with a model that suits the rows and the devices, and why that one.

        Raises:
            ConfigError: No model of the catalogue suits.
        """
        if not self.unsettled:
            return self, ""
        choice = choose_for(facts, self.wanted, device=self.device, head=self.head)
        return replace(self, model=choice.name, wanted=None), choice.reason

    def budget(self, place: Place) -> Batch:
        """The batches that fit into `memory_gb`, or into all that is free, at a place.

        Whisper hears clip by clip: its batches may be large whatever the memory.

        Raises:
            ConfigError: Not even one clip fits.
        """
        if self.batch_seconds != AUTO:
            return self.batch
        model, device = self._loaded(place), device_of(self.device, place)
        if "whisper" in model.heads:
            return Batch(seconds=MOST[device.partition(":")[0]])

        def hear(clips: Sequence[Samples]) -> None:
            self._heard(model, clips, self.language)

        memory = None if self.memory_gb is None else int(self.memory_gb * 1e9)
        return Batch(seconds=measured_seconds(hear, model.sample_rate, device, memory))

    def open(self, place: Place) -> Work:
        """Load the model.

        Raises:
            AuricleError: As `auricle.load`.
        """
        return partial(self._work, self._loaded(place), place)

    def _loaded(self, place: Place) -> Recognizer:
        from auricle.recognizer import load

        device = device_of(self.device, place)

        def loaded() -> Recognizer:
            model = load(
                self.model,
                device=device,
                precision=self.precision,
                head=self.head,
                revision=self.revision,
            )
            return model if self.adapter is None else model.with_adapter(self.adapter)

        key = (self.model, self.adapter, self.precision, self.head, self.revision, device)
        return shared(key, loaded)

    def _work(self, model: Recognizer, place: Place, items: Sequence[Item]) -> Iterator[Outcome]:
        clips = clips_of(items, place, model.sample_rate)
        found: dict[int, Outcome] = {
            i: clip for i, clip in enumerate(clips) if isinstance(clip, Quarantined)
        }
        for language, mine in self._by_language(items, set(found)).items():
            try:
                heard = self._heard(model, [clips[i] for i in mine], language)  # type: ignore[misc]
            except ConfigError as error:
                if self.language_key is None:
                    raise
                unknown = "language not known to the model"
                found |= {i: Quarantined(items[i], unknown, str(error)) for i in mine}
            else:
                found |= {
                    i: self._outcome(items[i], one) for i, one in zip(mine, heard, strict=True)
                }
        yield from (found[i] for i in range(len(items)))

    def _by_language(self, items: Sequence[Item], out: set[int]) -> dict[str | None, list[int]]:
        groups: dict[str | None, list[int]] = {}
        for i, item in enumerate(items):
            if i not in out:
                language = item.get(self.language_key) if self.language_key else self.language
                groups.setdefault(language, []).append(i)
        return groups

    def _heard(
        self,
        model: Recognizer,
        clips: Sequence[Samples],
        language: str | None,
    ) -> list[Any]:
        """A transcript or a failure for each clip, heard at once.

        Words are always asked for: confidence comes from them.
        """
        found: list[Any] = model.transcribe(
            list(clips),
            sample_rate=model.sample_rate,
            language=language,
            batch_seconds=_ALL_AT_ONCE,
            on_error="return",
        )
        return found

    def _outcome(self, item: Item, heard: Any) -> Outcome:
        from auricle.transcribe import Failure

        if isinstance(heard, Failure):
            # Sound was read before, so this is what a model says of it; its name is no part of it.
            reason = getattr(heard.error, "reason", "cannot be transcribed")
            return Quarantined(item, reason, str(heard.error))
        text, confidence, words = keys_of(self.into)
        new = {**item, text: heard.text, confidence: confidence_of(heard)}
        if self.timestamps:
            new[words] = [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": _rounded(word.confidence),
                }
                for word in heard.words
            ]
        return new if self.tier is None else {**new, "tier": self.tier}


def keys_of(into: str) -> tuple[str, str, str]:
    """The keys of a text, its confidence and its words."""
    if into == "pred_text":
        return into, "confidence", "words"
    return into, f"{into}_confidence", f"{into}_words"


def confidence_of(transcript: Transcript) -> float | None:
    """The mean of the words' confidences; 0 without words, None where no word has one."""
    if not transcript.words:
        return 0.0
    return _rounded(mean(word.confidence for word in transcript.words))


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)
