"""`text_language`: which language a text is written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any

from auricle.curation.items import Item
from auricle.curation.step import Batch, Example, Place, Step, Work
from auricle.curation.steps.texts import on_texts
from auricle.errors import ConfigError, MissingExtra
from auricle.metrics import plain

LANGUAGE = "text_language"
CONFIDENCE = "text_language_confidence"
_PACKAGE = "py3langid"
_CURE = "text_language needs the extra 'curate': pip install auricle[curate]"
_NO_LANGUAGE = "zxx"

Identify = Callable[[str], Sequence[tuple[str, float]]]  # codes and probabilities, likeliest first


@dataclass(frozen=True)
class TextLanguage(Step):
    """Add `text_language` (a code such as `en`) and `text_language_confidence`, 0 to 1.

    Of 140 languages, by py3langid's own model (naive Bayes over byte sequences). Its probabilities
    fall with the length of a text: two words are rarely certain, `ok` never is. Below `least` the
    language is null, the confidence stays; so it does for texts without letters, with 0. With
    `languages`, it is the likeliest of these, with the probability that it has among all.

    Raises:
        ConfigError: A language that the model does not know (when opened), or a `least` outside
            0 to 1.
        MissingExtra: The extra `curate` is not installed.
    """

    text: str = "text"
    languages: Sequence[str] = ()
    least: float = 0.25  # of one to three words, 31 % of guesses below are right, 91 % up to 0.8

    def __post_init__(self) -> None:
        if isinstance(self.languages, str):
            raise ConfigError(f"text_language: languages is a list, such as [{self.languages}]")
        if not 0 <= self.least <= 1:
            raise ConfigError(f"text_language: least lies between 0 and 1, not {self.least!r}")

    @property
    def name(self) -> str:
        """As in pipelines."""
        return "text_language"

    @property
    def inputs(self) -> tuple[str, ...]:
        """A text."""
        return (self.text,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The language, and how sure it is, to 4 decimals."""
        return (LANGUAGE, CONFIDENCE)

    @property
    def batch(self) -> Batch:
        """Many: 0.2 ms each."""
        return Batch(items=256)

    def options(self) -> dict[str, Any]:
        """The package's version too: it carries the weights."""
        try:
            version = metadata.version(_PACKAGE)
        except metadata.PackageNotFoundError:
            raise MissingExtra(_CURE) from None
        return {**asdict(self), "model": f"{_PACKAGE} {version}"}

    @property
    def examples(self) -> tuple[Example, ...]:
        """Two languages, if any may come out, a text too short to tell, and one of digits."""
        nothing = Example({self.text: "10, 9, 8 ..."}, [{LANGUAGE: None, CONFIDENCE: 0.0}])
        if self.languages or self.least > 0.9 or self.least < 0.1:
            return (nothing,)
        english = {self.text: "We walked along the river until it was dark."}
        greek = {self.text: "Περπατήσαμε δίπλα στο ποτάμι μέχρι που νύχτωσε."}
        return (
            Example(english, [{LANGUAGE: "en", CONFIDENCE: ...}]),
            Example(greek, [{LANGUAGE: "el", CONFIDENCE: ...}]),
            Example({self.text: "ok"}, [{LANGUAGE: None, CONFIDENCE: ...}]),
            nothing,
        )

    def open(self, place: Place) -> Work:
        """Load the model: a second, and 100 MB."""
        identify = _identifier(self.languages)

        def one(item: Item, text: str) -> Item:
            said = plain(text)
            if not any(c.isalpha() for c in said):
                return {**item, LANGUAGE: None, CONFIDENCE: 0.0}
            code, confidence = identify(said)[0]
            confidence = round(confidence, 4)
            sure = confidence >= self.least and code != _NO_LANGUAGE
            return {**item, LANGUAGE: code if sure else None, CONFIDENCE: confidence}

        return on_texts(self.text, one)


def _identifier(languages: Sequence[str]) -> Identify:
    model = _model()
    if not languages:
        return model.rank  # type: ignore[no-any-return]
    strange = sorted(set(languages) - set(model.labels))
    if strange:
        raise ConfigError(
            f"text_language: {', '.join(strange)} not among the model's languages: "
            f"{' '.join(sorted(model.labels))}"
        )
    # Not by the model's own restriction: it makes the rest of all languages certain to be these.
    return lambda text: [(code, share) for code, share in model.rank(text) if code in languages]


@cache
def _model() -> Any:
    """Of a process: nothing here changes it."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra(_CURE) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
