"""The split by speakers: no leaks, hours as asked for, the same each time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.curation.items import Filtered, Item
from auricle.curation.steps.split import Split
from auricle.errors import ConfigError

SPEAKERS = st.one_of(st.none(), st.just(""), st.integers(0, 6), st.sampled_from("abcdef"))


def split(items: list[Item], **options: Any) -> list[Any]:
    return list(Split(**options).decide(items))


def hours(items: list[Item]) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for item in items:
        found[item["split"]] += item.get("duration", 1.0)
    return dict(found)


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(SPEAKERS, st.integers(0, 8), st.floats(0.1, 30.0), st.sampled_from("xyz")),
        max_size=40,
    ),
    seed=st.integers(0, 3),
    by=st.sampled_from(["speaker", ("speaker", "session")]),
)
def test_nothing_leaks_from_one_part_into_another(
    rows: list[tuple[Any, int, float, str]], seed: int, by: Any
) -> None:
    items: list[Item] = [
        {"speaker": s, "audio_filepath": f"/{f}.wav", "duration": d, "session": session}
        for s, f, d, session in rows
    ]
    parts = {"train": 0.5, "dev": 0.25, "test": 0.25}
    found = split(items, by=by, parts=parts, seed=seed)
    assert [{**item, "split": one["split"]} for item, one in zip(items, found, strict=True)] == (
        found
    )
    keys = (by,) if isinstance(by, str) else by
    for key in keys:
        of_value: defaultdict[Any, set[str]] = defaultdict(set)
        for item in found:
            if item[key] not in (None, ""):
                of_value[repr(item[key])].add(item["split"])
        assert all(len(names) == 1 for names in of_value.values())
    # Who is not named may be anyone of the same recording.
    unknown = {i["audio_filepath"] for i in found if all(i[key] in (None, "") for key in keys)}
    for path in unknown:
        assert len({i["split"] for i in found if i["audio_filepath"] == path}) == 1
    # Neither the order of items nor what else a row holds has a say.
    turned = split([{**item, "more": 1} for item in reversed(items)], by=by, parts=parts, seed=seed)
    assert [item["split"] for item in reversed(turned)] == [item["split"] for item in found]


def corpus(speakers: int = 200) -> list[Item]:
    return [
        {"speaker": f"s{s}", "audio_filepath": f"/{s}-{n}.wav", "duration": 1.0 + (s * n) % 9}
        for s in range(speakers)
        for n in range(1 + s % 20)
    ]


def test_hours_are_shared_out_as_asked() -> None:
    items = corpus()
    total = sum(item["duration"] for item in items)
    found = hours(split(items))
    assert found["train"] / total == pytest.approx(0.9, abs=0.01)
    assert found["dev"] / total == pytest.approx(0.05, abs=0.01)
    assert found["test"] / total == pytest.approx(0.05, abs=0.01)


def test_a_seed_draws_another_split() -> None:
    first, again, other = (split(corpus(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_part_stays_empty_while_there_are_speakers() -> None:
    items: list[Item] = [{"speaker": s, "duration": 10.0, "audio_filepath": s} for s in "abc"]
    assert set(hours(split(items))) == {"train", "dev", "test"}
    assert set(hours(split(items[:1]))) == {"train"}
    assert split([]) == []


def test_items_are_counted_where_a_duration_is_missing() -> None:
    items = corpus()
    del items[0]["duration"]
    found = split(items)
    share = sum(item["split"] == "train" for item in found) / len(found)
    assert share == pytest.approx(0.9, abs=0.01)


def test_who_is_not_named_stays_with_the_recording_or_is_left_out() -> None:
    known: list[Item] = [
        {"speaker": f"s{i}", "audio_filepath": f"/{i}.wav", "duration": 5.0} for i in range(40)
    ]
    # Segments of the same files, cut out, and two of a file that nobody is named for.
    unknown: list[Item] = [
        {"audio_filepath": f"audio/{i}.flac", "source_filepath": f"/{i}.wav", "duration": 1.0}
        for i in range(40)
    ]
    unknown += [{"audio_filepath": "/new.wav", "offset": o, "duration": 1.0} for o in (0.0, 1.0)]
    found = split(known + unknown, parts={"train": 0.5, "test": 0.5})
    parts = [item["split"] for item in found]
    assert parts[:40] == parts[40:80] and set(parts[:40]) == {"train", "test"}
    assert parts[80] == parts[81]
    left = split(known + unknown, parts={"train": 0.5, "test": 0.5}, missing="filter")
    assert [one for one in left if isinstance(one, Filtered)] == [
        Filtered(item, "no speaker") for item in unknown
    ]


def test_members_of_two_tars_are_two_recordings() -> None:
    items: list[Item] = [
        {"audio_filepath": "0.wav", "tar": f"/{i}.tar", "duration": 1.0} for i in range(2)
    ]
    assert set(hours(split(items, parts={"a": 0.5, "b": 0.5}))) == {"a", "b"}


def test_the_report_says_hours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="auricle")
    items: list[Item] = [{"speaker": s, "audio_filepath": s, "duration": 1800.0} for s in "abcd"]
    split(items, parts={"train": 0.75, "test": 0.25})
    assert caplog.messages == [
        "split: train has 1.50 h of 3 groups",
        "split: test has 0.50 h of 1 groups",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parts": {}}, "more than 0"),
        ({"parts": {"train": 1.0, "test": 0.0}}, "more than 0"),
        ({"parts": {"train": 0.9, "test": 0.05}}, "add up to 1, got 0.95"),
        ({"by": ()}, "by needs a key"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Split(**options)


def test_the_example_holds() -> None:
    (example,) = Split(by="talk", parts={"a": 0.2, "b": 0.8}).examples
    found = split([dict(item) for item in example.items], by="talk", parts={"a": 0.2, "b": 0.8})
    assert {item["split"] for item in found} == {"a", "b"}
    assert list(example.gives) == [{"split": ...}] * 2
