"""Ids, steps, durations, confidences, texts and times as NeMo recorded them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from auricle.decoding import Hypothesis
from auricle.decoding.confidence import entropy, max_prob
from auricle.decoding.times import decode_text, tokens_words_segments
from auricle.text import split_language_tags
from auricle.types import Word

from .goldens import NAMES, Golden, golden

MEASURES = {"max_prob": max_prob, "entropy": entropy()}


@pytest.fixture(params=NAMES, ids=lambda stem: Path(stem).name, scope="module")
def case(request: pytest.FixtureRequest) -> Golden:
    return golden(request.param)


def _results(case: Golden, clip: str) -> list[tuple[str, dict[str, Any], Hypothesis]]:
    """Every head's key, record and our hypothesis."""
    record = case.records[clip]
    found = [
        (key, record[key], case.ctc(clip, key)[0]) for key in ("ctc", "aux_ctc") if key in record
    ]
    if "rnnt" in record:
        found.append(("rnnt", record["rnnt"], case.transducer(clip)[0]))
    assert found
    return found


def test_ids_steps_and_scores(case: Golden) -> None:
    for clip in case.clips:
        for key, record, hypothesis in _results(case, clip):
            if key == "rnnt":
                assert list(hypothesis.ids) == record["y_sequence"]
                assert list(hypothesis.starts) == record["timestamp"]
                assert (
                    list(hypothesis.durations) == record["token_duration"]
                    or not record["token_duration"]
                )
            else:
                runs = _runs(record["argmax"], case.model.blank_id)
                assert [*zip(hypothesis.ids, hypothesis.starts, hypothesis.ends, strict=True)] == (
                    runs
                )
            if hypothesis.head != "tdt":  # there NeMo's softmax includes the durations
                assert hypothesis.score == pytest.approx(record["score"], rel=1e-3, abs=1e-3)
            assert decode_text(hypothesis.ids, case.tokenizer)[0] == _bare(record["text"])


def test_a_batch(case: Golden) -> None:
    if "batch_rnnt" not in case.records:
        pytest.skip("no batch was recorded")
    hypotheses = case.transducer("batch")
    for hypothesis, record in zip(hypotheses, case.records["batch_rnnt"], strict=True):
        assert list(hypothesis.ids) == record["y_sequence"]
        assert list(hypothesis.starts) == record["timestamp"]


@pytest.mark.parametrize("name", MEASURES)
def test_confidences(case: Golden, name: str) -> None:
    seen = 0
    for clip in case.clips:
        for key in ("ctc", "aux_ctc", "rnnt"):
            record = case.records[clip].get(f"{key}_confidence", {}).get(name)
            if record is None:
                continue
            seen += 1
            measure = MEASURES[name]
            if key == "rnnt":
                (hypothesis,) = case.transducer(clip, measure)
            else:
                (hypothesis,) = case.ctc(clip, key, measure)
            assert hypothesis.confidences == pytest.approx(record["token"], rel=2e-3, abs=2e-5)
            _, words, _ = tokens_words_segments(hypothesis, case.tokenizer, 0.08)
            if record.get("word") and len(words) == len(record["word"]):
                sure = [word.confidence for word in words]
                assert sure == pytest.approx(record["word"], rel=2e-3, abs=2e-5)
    if not seen:
        pytest.skip("no confidences were recorded")


def test_times_in_nemos_style(case: Golden) -> None:
    per_step = _nemos_seconds_per_step(case)
    for clip, record in zip(case.clips, case.records["transcribe_timestamps"], strict=False):
        times = record["timestamp"]
        if not _lasts_a_second(case, clip):
            continue
        if isinstance(times, list):
            continue  # NeMo has no word times for aggregate vocabularies
        (*_, (_, plain, hypothesis)) = _results(case, clip)
        assert record["text"] == plain["text"]
        if hypothesis.head == "tdt":
            # In a batch NeMo records for some tokens the duration of a later step.
            durations = tuple(record["token_duration"])
            hypothesis = replace(hypothesis, durations=durations)
        tokens, words, segments = tokens_words_segments(
            hypothesis, case.tokenizer, per_step, style="nemo"
        )
        assert _times(tokens) == [_time(t) for t in times["char"]]
        assert _times(words) == [_time(t) for t in times["word"]]
        assert [w.text for w in words] == [t["word"] for t in times["word"]]
        assert _times(segments) == [_time(t) for t in times["segment"]]
        assert [s.text for s in segments] == [t["segment"] for t in times["segment"]]


def test_words_of_our_own(case: Golden) -> None:
    per_step = case.model.seconds_per_step
    for clip in case.clips:
        for _, _, hypothesis in _results(case, clip):
            text, _ = decode_text(hypothesis.ids, case.tokenizer)
            tokens, words, segments = tokens_words_segments(hypothesis, case.tokenizer, per_step)
            assert "".join(w.text for w in words) == "".join(text.split())
            assert "".join("".join(s.text for s in segments).split()) == "".join(text.split())
            assert sum((s.words for s in segments), ()) == words
            assert [t.id for t in tokens] == list(hypothesis.ids)
            _in_order(words)


def test_word_starts_of_transducers_are_nemos(case: Golden) -> None:
    if case.model.config.transducer is None:
        pytest.skip("has no transducer")
    per_step = case.model.seconds_per_step
    for clip, record in zip(case.clips, case.records["transcribe_timestamps"], strict=False):
        times = record["timestamp"]
        if isinstance(times, list) or not _lasts_a_second(case, clip):
            continue
        if "\u2047" in record["text"]:
            continue  # NeMo glues the word behind an unknown token to it
        (hypothesis,) = case.transducer(clip)
        _, words, _ = tokens_words_segments(hypothesis, case.tokenizer, per_step)
        theirs = [w["start"] for w in times["word"] if _bare(w["word"])]
        assert [w.start for w in words] == pytest.approx(theirs)


def _lasts_a_second(case: Golden, clip: str) -> bool:
    """transcribe() pads shorter clips to a second, so that their encodings are others."""
    return int(case.records[clip]["n_samples"]) >= 16000


def _nemos_seconds_per_step(case: Golden) -> float:
    """NeMo forgets that a Conformer's reduction makes steps longer."""
    config = case.model.config
    factor = getattr(config.encoder, "reduction_factor", None)
    reduced = factor and getattr(config.encoder, "reduction", None)
    return case.model.seconds_per_step / (factor if reduced else 1)


def _runs(argmax: list[int], blank: int) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    before = blank
    for step, id in enumerate(argmax):
        if id == before and id != blank:
            runs[-1] = (id, runs[-1][1], step + 1)
        elif id != blank:
            runs.append((id, step, step + 1))
        before = id
    return runs


def _bare(text: str) -> str:
    """NeMo leaves language tags in; we never do."""
    return split_language_tags(text)[0]


def _times(items: Any) -> list[tuple[Any, Any]]:
    return [(pytest.approx(i.start), pytest.approx(i.end)) for i in items]


def _time(record: dict[str, float]) -> tuple[float, float]:
    return record["start"], record["end"]


def _in_order(words: tuple[Word, ...]) -> None:
    assert all(w.start <= w.end for w in words)
    assert all(a.start <= b.start and a.end <= b.end for a, b in pairwise(words))
