"""Which published model suits a job, by what its data looks like and what is wanted.

Only models of the catalogue are chosen; the reason is said with the name. No figure of accuracy
takes part, since the catalogue has none: size, family, languages and the catalogue's order do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

from auricle.curation.items import Item
from auricle.errors import ConfigError
from auricle.hub.catalogue import CatalogueEntry, models

Quality = Literal["fast", "balanced", "best"]
Domain = Literal["general", "noisy", "telephone", "streaming"]

SMALL, MIDDLE = 150, 1000  # millions of parameters
# Past these a balanced choice is a small model: about a day of work for one of 600 million.
MANY_HOURS = {"cpu": 100.0, "cuda": 20_000.0}
_RARE = 0.02  # of the hours: a language below it does not decide
_FAMILIES = ("fastconformer", "whisper", "conformer", "citrinet", "quartznet", "jasper")
_BYTES = {"cpu": 4, "cuda": 2}  # of a parameter
_BESIDE_GB = 1.0


@dataclass(frozen=True)
class Facts:
    """What the rows are like; `languages` are seconds of sound by ISO 639 code."""

    seconds: float = 0.0
    languages: Mapping[str, float] = field(default_factory=dict)
    device: Literal["cpu", "cuda"] = "cpu"

    @classmethod
    def of(cls, items: Iterable[Item], devices: Sequence[str] = ("cpu",)) -> Facts:
        """Those of a job's rows, by their `duration` and `lang`; a row without one counts 0 s."""
        languages: Counter[str] = Counter()
        total = 0.0
        for item in items:
            seconds = item.get("duration")
            known = isinstance(seconds, int | float) and seconds > 0
            length = float(seconds) if known else 0.0  # type: ignore[arg-type]
            total += length
            if isinstance(language := item.get("lang"), str) and language:
                languages[_code(language)] += length  # type: ignore[assignment]
        on_gpu = any(device.startswith("cuda") for device in devices)
        return cls(total, dict(sorted(languages.items())), "cuda" if on_gpu else "cpu")


@dataclass(frozen=True)
class Wanted:
    """What the user asks for: the options behind `wanted` where a step has `model: auto`.

    Args:
        quality: "fast" takes up to 150 million parameters, "balanced" up to 1000 million (as
            "fast" for very many hours), "best" any number.
        domain: "noisy" and "telephone" take no small model, "streaming" only one that was trained
            to hear a stream.
        languages: In place of what the rows say.
        head: One that the model must have: "ctc", "rnnt" or "tdt".
        memory_gb: Of the device; None is no limit.
        commercial: Whether licences that forbid commercial use are left out.
    """

    quality: Quality = "balanced"
    domain: Domain = "general"
    languages: Sequence[str] = ()
    head: str | None = None
    memory_gb: float | None = None
    commercial: bool = True

    def __post_init__(self) -> None:
        for name, value, names in (
            ("quality", self.quality, get_args(Quality)),
            ("domain", self.domain, get_args(Domain)),
        ):
            if value not in names:
                raise ConfigError(f"unknown {name} {value!r}; use {', '.join(names)}")


class Choice(NamedTuple):
    """A model's name, and why it."""

    name: str
    reason: str


def choose_for(
    facts: Facts, wanted: Wanted | None, *, device: str, head: str | None = None
) -> Choice:
    """`choose_model` for a step: one that keeps to the CPU, or that needs a head.

    Raises:
        ConfigError: No model in the catalogue suits.
    """
    if device == "cpu":
        facts = replace(facts, device="cpu")
    wanted = wanted or Wanted()
    return choose_model(facts, wanted if head is None else replace(wanted, head=head))


def choose_model(facts: Facts, wanted: Wanted = Wanted()) -> Choice:
    """The model of the catalogue that suits.

    NVIDIA's newer families come before Whisper, and Whisper before the older ones (after them
    where it should be fast); among models of one family the catalogue's order decides, among
    Whispers the size.

    Raises:
        ConfigError: No model in the catalogue suits.
    """
    languages, rare = _languages(facts, wanted)
    limit, why = _limit(facts, wanted)
    able = [entry for entry in models() if _able(entry, languages, facts, wanted)]
    if not able:
        raise ConfigError(
            f"model: auto found no model in the catalogue for {_said(facts, languages)}"
            f"{_terms(wanted)}; name one"
        )
    small = [entry for entry in able if (entry.parameters or 0) <= limit]
    if not small:
        least = min(entry.parameters or 0 for entry in able)
        small = [entry for entry in able if entry.parameters == least]
        why = f"no smaller one does ({why})"
    best = min(small, key=lambda entry: _rank(entry, wanted))
    reason = (
        f"{best.name} ({best.family}, {best.parameters} million parameters) for "
        f"{_said(facts, languages)}{_terms(wanted)}: {why}; {len(able)} in the catalogue suit"
    )
    if rare:
        reason += f"; too rare to decide: {', '.join(rare)}"
    if wanted.domain == "telephone":
        reason += "; no published model is made for telephone speech"
    return Choice(best.name, reason)


def _code(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def _languages(facts: Facts, wanted: Wanted) -> tuple[list[str], list[str]]:
    """The languages that the model must know, and those too rare to matter."""
    if wanted.languages:
        return sorted({_code(language) for language in wanted.languages}), []
    total = sum(facts.languages.values())
    common = [code for code, s in facts.languages.items() if s >= _RARE * total]
    return sorted(common), sorted(set(facts.languages) - set(common))


def _limit(facts: Facts, wanted: Wanted) -> tuple[float, str]:
    """Millions of parameters at most, and why."""
    most, quality = MANY_HOURS[facts.device], wanted.quality
    hard = wanted.domain in ("noisy", "telephone")
    if quality == "best":
        return float("inf"), "of any size, for quality 'best'"
    if quality == "fast" and not hard:
        return SMALL, f"at most {SMALL} million parameters, for quality 'fast'"
    if not hard and facts.seconds > most * 3600:
        return (
            SMALL,
            f"at most {SMALL} million parameters, for more than {most:g} h on {facts.device}",
        )
    because = f"domain '{wanted.domain}'" if hard else f"quality '{quality}'"
    return MIDDLE, f"at most {MIDDLE} million parameters, for {because}"


def _able(entry: CatalogueEntry, languages: Sequence[str], facts: Facts, wanted: Wanted) -> bool:
    if not entry.on_hub or entry.parameters is None:
        return False
    if entry.streaming != (wanted.domain == "streaming"):
        return False
    if wanted.head is not None and wanted.head not in entry.heads:
        return False
    if wanted.commercial and "-NC" in entry.licence:
        return False
    # Without a word on the language, only a model that finds it out itself will do.
    speaks = all(map(entry.speaks, languages)) if languages else "multi" in entry.languages
    size = entry.parameters / 1000 * _BYTES[facts.device] + _BESIDE_GB
    return speaks and (wanted.memory_gb is None or size <= wanted.memory_gb)


def _rank(entry: CatalogueEntry, wanted: Wanted) -> tuple[int, int, int]:
    whisper = entry.family == "whisper"
    family = _FAMILIES.index(entry.family)
    if whisper and wanted.quality == "fast":
        family = len(_FAMILIES)
    place = models().index(entry)
    if not whisper:
        return family, 0, place
    # Of a size the newest: they stand behind the older ones, those in OpenAI's own form first.
    own = entry.name.startswith("openai/")
    return family, -(entry.parameters or 0), -place - own * len(models())


def _said(facts: Facts, languages: Sequence[str]) -> str:
    spoken = ", ".join(languages) or "speech whose language no row names"
    return f"{facts.seconds / 3600:.1f} h of {spoken} on {facts.device}"


def _terms(wanted: Wanted) -> str:
    terms = [] if wanted.domain == "general" else [f"domain '{wanted.domain}'"]
    terms += [f"a {wanted.head} head"] if wanted.head else []
    terms += [f"{wanted.memory_gb:g} GB"] if wanted.memory_gb else []
    return "".join(f", {term}" for term in terms)
