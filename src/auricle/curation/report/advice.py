"""What a run's figures suggest to do. Every piece of advice says the figures that it rests on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auricle.curation.report.figures import Figures, Spread
from auricle.curation.wording import percent, span


@dataclass(frozen=True)
class Advice:
    """`act`: something is probably wrong; `look`: it may be; `good`: it is as it should be."""

    kind: Literal["act", "look", "good"]
    title: str
    because: str


def advise(figures: Figures) -> list[Advice]:
    """All that applies, the most pressing first."""
    order = ("act", "look", "good")
    found = [advice for rule in _RULES for advice in rule(figures)]
    return sorted(found, key=lambda advice: order.index(advice.kind))


def _too_long(figures: Figures) -> Iterator[Advice]:
    for step, reason, items in _dropped(figures):
        if re.match(r"duration (>|≥|not between) ", reason) and items >= 0.02 * _read(figures):
            seconds = np.frombuffer(figures.durations.filtered)
            longest = (
                f"; the longest filtered one has {span(seconds.max())}" if len(seconds) else ""
            )
            yield Advice(
                "act",
                "Segment long recordings before filtering by duration",
                f"{percent(items / _read(figures))} of all items ({items:,}) were dropped by "
                f"{step} because {reason}{longest}. A `segment` step cuts them at "
                "silences instead of losing them.",
            )


def _wrong_texts(figures: Figures) -> Iterator[Advice]:
    spread = Spread.of(figures.wer.all)
    if spread is None or spread.count < 10:
        return
    poor = sum(figures.classes["poor"])
    if spread.median <= 0.15 and poor >= 0.02 * spread.count:
        kept = figures.classes["poor"][0]
        fate = f"{kept:,} of them were kept: filter `wer: {{le: 0.5}}`" if kept else "all dropped"
        yield Advice(
            "act" if kept else "look",
            "Some transcripts do not belong to their sound",
            f"The median WER is {percent(spread.median)}, so the model fits this speech, but "
            f"{percent(poor / spread.count)} of the judged items ({poor:,}) are above 50 %; "
            f"{fate}. Listen to the worst items below.",
        )
    elif spread.median > 0.5:
        yield Advice(
            "act",
            "Model and texts do not fit each other",
            f"Half of all items have a WER above {percent(spread.median)}. Check the language of "
            "the model, the script and spelling of the references, and whether rows and files got "
            "mixed up, before anything is filtered by WER.",
        )
    elif spread.median > 0.25:
        yield Advice(
            "look",
            "A better model would judge more fairly",
            f"The median WER is {percent(spread.median)}: at that rate a high WER says as much of "
            "the model as of the text. Try a larger model, or a cascade.",
        )
    elif poor == 0:
        yield Advice(
            "good",
            "Texts and sound agree",
            f"The median WER is {percent(spread.median)}, nine of ten items are at or below "
            f"{percent(spread.ninety)}, and none is above 50 %.",
        )
    else:
        yield Advice(
            "look",
            "A few texts may not belong to their sound",
            f"The median WER is {percent(spread.median)}, but {poor:,} of {spread.count:,} judged "
            f"items ({percent(poor / spread.count)}) are above 50 %. Listen to the worst items "
            "below.",
        )


def _uneven(figures: Figures) -> Iterator[Advice]:
    spread = Spread.of(figures.wer.all)
    if spread is not None and spread.count >= 10 and spread.deviation > 0.2:
        yield Advice(
            "look",
            "Items differ widely in how well they are recognised",
            f"The standard deviation of the WER is {percent(spread.deviation)}, around a mean of "
            f"{percent(spread.mean)}: some of the speech is of another kind than the rest, or some "
            "texts are wrong. Compare languages, sources and the worst items; a model for that "
            "kind of speech may judge it better.",
        )


def _unjudged(figures: Figures) -> Iterator[Advice]:
    judged = len(figures.wer) + figures.unjudged
    if figures.unjudged >= max(0.01 * judged, 1):
        yield Advice(
            "look",
            "Rows without a reference were not judged",
            f"{figures.unjudged:,} of {judged:,} items ({percent(figures.unjudged / judged)}) have "
            "no reference text and therefore no WER; a filter on `wer` drops them as `no wer`.",
        )


def _quarantine(figures: Figures) -> Iterator[Advice]:
    items, read = figures.summary.get("quarantined", 0), _read(figures)
    if items and items >= 0.005 * read:
        reasons = _reasons(figures, "quarantined")
        yield Advice(
            "act" if items >= 0.05 * read else "look",
            "Look at the quarantined items",
            f"{items:,} items ({percent(items / read)}) could not be worked on: "
            f"{_listed(reasons)}. They are in quarantined.jsonl with their reasons.",
        )


def _deaths(figures: Figures) -> Iterator[Advice]:
    deaths = figures.events["death"]
    reasons = Counter(str(d.get("reason")) for d in figures.deaths if d.get("event") == "death")
    if deaths:
        yield Advice(
            "look",
            "Workers died",
            f"{deaths:,} time{'s' * (deaths > 1)} ({_listed(reasons)}). Nothing is lost by it, but "
            "each costs the start of a new worker. If no item is to blame below, look for a lack "
            "of memory, at which the system sends signal 9.",
        )


def _duplicates(figures: Figures) -> Iterator[Advice]:
    items = sum(
        n for step, reason, n in _dropped(figures) if "duplicate" in step or "duplicate" in reason
    )
    if items >= 0.05 * _read(figures):
        yield Advice(
            "look",
            "Many duplicates",
            f"{items:,} items ({percent(items / _read(figures))}) are there more than once. Find "
            "duplicates before the costly steps, if nothing that these give decides about them.",
        )


def _half_lost(figures: Figures) -> Iterator[Advice]:
    whole = sum(figures.summary.get(key, 0) for key in ("kept", "filtered", "quarantined"))
    filtered = figures.summary.get("filtered", 0)
    if whole >= 10 and filtered > 0.5 * whole:
        step, reason, items = max(_dropped(figures), key=lambda drop: drop[2])
        yield Advice(
            "act",
            "More is dropped than kept",
            f"{percent(filtered / whole)} of the items were filtered; the most, {items:,}, by "
            f"{step} because {reason}. Is that limit meant?",
        )


def _idle_filters(figures: Figures) -> Iterator[Advice]:
    idle = [
        step["step"]
        for step in figures.trunk
        if str(step["step"]).partition("-")[2] == "filter" and step["in"] and not step["filtered"]
    ]
    if idle and _read(figures) >= 100:
        yield Advice(
            "look",
            "Filters that filter nothing",
            f"{', '.join(idle)}: all items went through. Are these the limits that you meant?",
        )


def _slowest(figures: Figures) -> Iterator[Advice]:
    total = sum(work.seconds for work in figures.steps.values())
    if total < 60:
        return
    name, work = max(figures.steps.items(), key=lambda pair: pair[1].seconds)
    if work.seconds < 0.6 * total:
        return
    speed = f" at RTFx {work.rtfx:.1f} a worker" if work.rtfx else ""
    where = f" on {', '.join(sorted(work.devices))}"
    model = figures.model_of.get(name)
    cure = ""
    if model and work.devices <= {"cpu"}:
        cure = " A GPU (`--devices cuda:0`) or a smaller model would shorten the run the most."
    elif model and not figures.tiers:
        cure = " A `cascade` hears most rows with a faster model."
    yield Advice(
        "look",
        f"Most of the time went into {name}",
        f"{percent(work.seconds / total)} of the work, {span(work.seconds)} of all workers "
        f"together{f', by {model}' if model else ''}{where}{speed}.{cure}",
    )


def _waiting(figures: Figures) -> Iterator[Advice]:
    there = figures.elapsed * figures.workers
    if figures.workers > 1 and figures.elapsed > 60 and figures.busy < 0.5 * there:
        yield Advice(
            "look",
            "Workers waited for work",
            f"{figures.workers} workers were busy for {percent(figures.busy / there)} of "
            f"{span(figures.elapsed)}. Fewer workers, or smaller shards (`shard: {{items: ...}}`), "
            "use the machine better.",
        )


def _cascade(figures: Figures) -> Iterator[Advice]:
    tiers = figures.tiers
    total = sum(tiers.values())
    if len(tiers) < 2 or total < 20:
        return
    first = min(tiers)
    share = 1 - tiers[first] / total
    cost = _costs(figures)
    if share > 0.6:
        yield Advice(
            "look",
            "The cascade's first tier decides little",
            f"{percent(share)} of the items went on from tier {first}{cost}: a looser "
            "limit, or the accurate model alone, may be as good.",
        )
    else:
        yield Advice(
            "good",
            "The cascade saves work",
            f"Only {percent(share)} of the items went on from tier {first}{cost}.",
        )


def _costs(figures: Figures) -> str:
    """What each tier took."""
    told = [
        f"tier {tier} {span(figures.steps[step].seconds)}"
        for tier, step in sorted(figures.tier_steps.items())
        if step in figures.steps
    ]
    return f" (of work, {', '.join(told)})" if told else ""


def _read(figures: Figures) -> int:
    return max(int(figures.summary.get("read", 0)) + int(figures.summary.get("made", 0)), 1)


def _dropped(figures: Figures) -> Iterator[tuple[str, str, int]]:
    """Step, reason and number of what was filtered."""
    for step in figures.trunk:
        for reason, items in step.get("filtered", {}).items():
            yield str(step["step"]), str(reason), int(items)


def _reasons(figures: Figures, fate: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for step in figures.trunk:
        for reason, items in step.get(fate, {}).items():
            found[str(reason)] = found.get(str(reason), 0) + int(items)
    return found


def _listed(reasons: Mapping[str, Any]) -> str:
    most = sorted(reasons.items(), key=lambda pair: -pair[1])
    others = sum(n for _, n in most[4:])
    told = [f"{reason} {n:,}" for reason, n in most[:4]]
    return ", ".join([*told, f"others {others:,}"] if others else told) or "see the rows"


_RULES: tuple[Callable[[Figures], Iterator[Advice]], ...] = (
    _half_lost,
    _too_long,
    _wrong_texts,
    _uneven,
    _quarantine,
    _deaths,
    _unjudged,
    _duplicates,
    _idle_filters,
    _cascade,
    _slowest,
    _waiting,
)
