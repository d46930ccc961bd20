"""`align`: where in the sound each word of a text is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from auricle.curation.choosing import Facts, Wanted, choose_for
from auricle.curation.items import Filtered, Item, Outcome, Quarantined
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
from auricle.curation.steps.memory import measured_seconds
from auricle.errors import ConfigError

if TYPE_CHECKING:
    from auricle.audio import Samples
    from auricle.decoding.align import Alignment
    from auricle.engines.torch import TorchEngine
    from auricle.tokenizers import Tokenizer
    from auricle.types import Word

NO_TEXT = "no text to align"
UNKNOWN = "characters not in the vocabulary"
TOO_LONG = "text too long for the sound"
TOO_MUCH = "sound too long to align"
MOST_SECONDS = 480.0  # what models are run on in one piece


@dataclass(frozen=True)
class Align(Step):
    """Add the times of a text's words, by forced alignment with a CTC head.

    `words` has `word`, `start` and `end` in seconds from the start of the item's sound, and
    `confidence`, the least of its tokens' probabilities, each the geometric mean over the steps
    that the token is held. `align_score` is the geometric mean of all tokens' probabilities: near 1
    where the model would have written the text itself, near 0 where something else was said.

    The text is taken as it is written where the model's vocabulary can spell it, else in lower case
    without punctuation (`metrics.plain`); words are given as the text has them if they can be
    matched. Numbers are not spelled out.

    An item without text, with a text that CTC cannot fit into the sound, or with more than 480 s of
    it, is filtered; one with characters that the vocabulary lacks is quarantined.

    Source: Viterbi over the states of CTC (Graves et al., "Connectionist Temporal Classification",
    2006), see `decoding.align`.

    Args:
        model: One with a CTC head, as `auricle.load` takes it; "auto" has one chosen.
        text: The key of the text.
        into: The key of the words.
        score: The key of the score.
        adapter: As in `transcribe`.
        precision: As in `transcribe`.
        language: As in `transcribe`; for vocabularies of several languages, the text's.
        batch_seconds: As in `transcribe`.
        device: As in `transcribe`.
        memory_gb: As in `transcribe`.
        revision: As in `transcribe`.
        wanted: As in `transcribe`.
    """

    costly: ClassVar[bool] = True
    paths: ClassVar[tuple[str, ...]] = ("adapter",)
    maybe_paths: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    text: str = "text"
    into: str = "words"
    score: str = "align_score"
    adapter: str | None = None
    precision: str = "auto"
    language: str | None = None
    batch_seconds: float | Literal["auto"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    memory_gb: float | None = None
    revision: str | None = None
    wanted: Wanted | None = None

    def __post_init__(self) -> None:
        check_options(self.device, self.batch_seconds)
        check_wanted(self.model, self.wanted)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sound and text."""
        return ("audio_filepath", self.text)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The words and the score."""
        return (self.into, self.score)

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
        """That the model can be loaded and has a CTC head; no text suits all vocabularies."""
        if self.unsettled:
            return ()
        return (Example({self.text: " "}, [NO_TEXT], sound=breath),)

    def options(self) -> dict[str, Any]:
        """All but what changes no result; a model on the disk with its identity."""
        return without_place(asdict(self), self.model, self.adapter)

    @property
    def unsettled(self) -> bool:
        """Whether the model must still be chosen, by `settled`."""
        return self.model == AUTO

    def settled(self, facts: Facts) -> tuple[Align, str]:
        """The step with a model that suits the rows and the devices, and why that one.

        Raises:
            ConfigError: No model of the catalogue suits.
        """
        if not self.unsettled:
            return self, ""
        choice = choose_for(facts, self.wanted, device=self.device, head="ctc")
        return replace(self, model=choice.name, wanted=None), choice.reason

    def budget(self, place: Place) -> Batch:
        """The batches that fit into `memory_gb`, or into all that is free, at a place.

        Raises:
            ConfigError: Not even one clip fits.
        """
        if self.batch_seconds != AUTO:
            return self.batch
        engine, device = self._loaded(place), device_of(self.device, place)

        def hear(clips: Sequence[Samples]) -> None:
            self._aligned(engine, clips, [[0]] * len(clips))

        memory = None if self.memory_gb is None else int(self.memory_gb * 1e9)
        return Batch(seconds=measured_seconds(hear, engine.sample_rate, device, memory))

    def open(self, place: Place) -> Work:
        """Load the model.

        Raises:
            AuricleError: As `auricle.load`; also where the model has no CTC head.
        """
        return partial(self._work, self._loaded(place), place)

    def _loaded(self, place: Place) -> TorchEngine:
        from auricle import checkpoints
        from auricle.checkpoints import whisper
        from auricle.engines.torch import TorchEngine
        from auricle.recognizer import locate

        path = locate(self.model, revision=self.revision)
        if whisper.folder_kind(path) is not None:
            raise ConfigError(f"{self.model} is a Whisper model: align needs one with a CTC head")
        device = device_of(self.device, place)

        def loaded() -> TorchEngine:
            engine = TorchEngine(
                checkpoints.load(path, name=self.model),
                device=device,
                precision=self.precision,
                head="ctc",
            )
            return engine if self.adapter is None else engine.adapted(self.adapter)[1]

        engine = shared(("align", path, self.adapter, self.precision, device), loaded)
        engine.tokenizer.encode("", self.language)  # refuses a language that is no part of it
        return engine

    def _work(self, engine: TorchEngine, place: Place, items: Sequence[Item]) -> Iterator[Outcome]:
        found: dict[int, Outcome] = {}
        texts: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            ids = self._spelled(item, engine.tokenizer)
            if isinstance(ids, list):
                texts[i] = ids
            else:
                found[i] = ids
        clips = clips_of([items[i] for i in texts], place, engine.sample_rate)
        heard: dict[int, Samples] = {}
        for i, clip in zip(texts, clips, strict=True):
            if isinstance(clip, Quarantined):
                found[i] = clip
            elif len(clip) > MOST_SECONDS * engine.sample_rate:
                seconds = len(clip) / engine.sample_rate
                detail = f"{seconds:.0f} s are more than {MOST_SECONDS:g} s: segment them first"
                found[i] = Filtered(items[i], TOO_MUCH, detail)
            else:
                heard[i] = clip
        if heard:
            aligned = self._aligned(engine, list(heard.values()), [texts[i] for i in heard])
            for i, (one, lead) in zip(heard, aligned, strict=True):
                seconds = len(heard[i]) / engine.sample_rate
                found[i] = self._outcome(items[i], texts[i], one, engine, (lead, seconds))
        yield from (found[i] for i in range(len(items)))

    def _spelled(self, item: Item, tokenizer: Tokenizer) -> list[int] | Outcome:
        """The ids of an item's text, or what becomes of an item without."""
        from auricle.metrics import plain

        text = item.get(self.text)
        if not isinstance(text, str) or not plain(text):
            return Filtered(item, NO_TEXT, f"{self.text} is {text!r}"[:100])
        for spelling in (" ".join(text.split()), plain(text)):
            ids = tokenizer.encode(spelling, self.language)
            if ids and plain(tokenizer.decode(ids)) == plain(text) and not _unknown(ids, tokenizer):
                return ids
        return Quarantined(item, UNKNOWN, _foreign(plain(text), tokenizer, self.language))

    def _aligned(
        self, engine: TorchEngine, clips: Sequence[Samples], texts: Sequence[Sequence[int]]
    ) -> list[tuple[Alignment | None, float]]:
        """The alignment of each clip, and the seconds of silence that were put before it."""
        from auricle.decoding.align import align

        language = self.language if engine.languages else None
        log_probs, steps, leads = engine.log_probs(clips, language)
        return list(zip(align(log_probs, steps, texts), leads, strict=True))

    def _outcome(
        self,
        item: Item,
        ids: Sequence[int],
        found: Alignment | None,
        engine: TorchEngine,
        placed: tuple[float, float],
    ) -> Outcome:
        from auricle.decoding import Hypothesis
        from auricle.decoding.align import needed_steps
        from auricle.decoding.times import tokens_words_segments

        lead, seconds = placed
        step = engine.model.seconds_per_step
        if found is None:
            needed = needed_steps(ids) * step
            detail = f"{len(ids)} tokens need {needed:.2f} s at least, there are {seconds:.2f} s"
            return Filtered(item, TOO_LONG, detail)
        probabilities = tuple(math.exp(score) for score in found.scores)
        hypothesis = Hypothesis(
            tuple(ids), found.starts, found.ends, probabilities, found.score, head="ctc"
        )
        _, words, _ = tokens_words_segments(
            hypothesis, engine.tokenizer, step, lead=lead, duration=seconds
        )
        score = math.exp(sum(found.scores) / len(found.scores))
        return {**item, self.into: _rows(words, item[self.text]), self.score: round(score, 4)}


def _rows(words: Sequence[Word], text: str) -> list[dict[str, Any]]:
    """Words as rows have them, spelled as in the text where as many are spoken there."""
    from auricle.metrics import plain

    spoken = [word for word in text.split() if plain(word)]
    same = len(spoken) == len(words) and all(
        plain(one) == plain(word.text) for one, word in zip(spoken, words, strict=True)
    )
    spellings = spoken if same else [word.text for word in words]
    return [
        {
            "word": spelling,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence or 0.0, 4),
        }
        for spelling, word in zip(spellings, words, strict=True)
    ]


def _unknown(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    return any(tokenizer.pieces[id] in ("<unk>", "[UNK]") for id in ids)


def _foreign(text: str, tokenizer: Tokenizer, language: str | None) -> str:
    """The characters of a text that a vocabulary cannot spell, for people."""
    from auricle.metrics import plain

    lost = []
    for character in sorted(set(text) - {" "}):
        ids = tokenizer.encode(character, language)
        if not ids or _unknown(ids, tokenizer) or plain(tokenizer.decode(ids)) != character:
            lost.append(character)
    return f"among them {' '.join(lost[:20])}" if lost else f"{text[:60]!r} cannot be spelled"
