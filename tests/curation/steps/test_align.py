"""Where the words of a text are: the trained digits, where it is known, and tiny goldens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auricle import audio, checkpoints
from auricle.curation.choosing import Facts
from auricle.curation.items import Filtered, Item, Quarantined
from auricle.curation.step import Batch, Place
from auricle.curation.steps.align import NO_TEXT, TOO_LONG, TOO_MUCH, UNKNOWN, Align
from auricle.curation.steps.memory import LADDER
from auricle.curation.steps.transcribe import Transcribe
from auricle.curation.steps.trim import Trim
from auricle.errors import ConfigError
from auricle.metrics import plain
from tests.conftest import GOLDEN, ROOT
from tests.curation.steps.hearing import check_examples, work

DIGITS = ROOT / "examples" / "digits"
SPEECH = ROOT / "examples" / "speech"
TEXT = (SPEECH / "digits.txt").read_text(encoding="utf-8").strip()
FULL = Align(str(DIGITS), precision="fp32")


def _digits(text: str = TEXT, **more: Any) -> Item:
    path = str(SPEECH / "digits.flac")
    return {"item_id": "0" * 32, "audio_filepath": path, "text": text, **more}


def _one(step: Align, item: Item, folder: Path) -> Any:
    (found,) = work(step, [item], folder)
    return found


def test_words_are_where_they_are_heard(tmp_path: Path) -> None:
    found = _one(FULL, _digits(), tmp_path)
    heard = _one(Transcribe(str(DIGITS), precision="fp32", timestamps=True), _digits(), tmp_path)  # type: ignore[arg-type]
    assert [word["word"] for word in found["words"]] == TEXT.split()
    for word, other in zip(found["words"], heard["words"], strict=True):
        assert word["start"] == pytest.approx(other["start"], abs=0.13)
        assert word["start"] < word["end"]
    assert found["align_score"] > 0.5
    assert {**found, **_digits()} == found


def test_a_wrong_text_has_a_low_score(tmp_path: Path) -> None:
    right = _one(FULL, _digits(), tmp_path)
    words = TEXT.rstrip(".").split()
    wrong = _one(FULL, _digits(" ".join(reversed(words))), tmp_path)
    assert wrong["align_score"] < 0.1 < right["align_score"]
    one_off = _one(
        FULL, _digits(" ".join(["zero" if i == 3 else w for i, w in enumerate(words)])), tmp_path
    )
    assert min(range(len(words)), key=lambda i: one_off["words"][i]["confidence"]) == 3
    assert wrong["align_score"] < one_off["align_score"] < right["align_score"]


def test_case_and_punctuation_are_kept_in_the_words(tmp_path: Path) -> None:
    """The vocabulary has lower-case letters only: what is aligned is the plain text."""
    text = " - ".join(word.strip(".,").title() for word in TEXT.split()) + "!"
    found = _one(FULL, _digits(text), tmp_path)
    plain = _one(FULL, _digits(), tmp_path)
    assert [w["word"] for w in found["words"]] == [w for w in text.split() if w != "-"]
    assert [w["start"] for w in found["words"]] == [w["start"] for w in plain["words"]]


def test_trimmed_to_its_words(tmp_path: Path) -> None:
    whole = len(audio.read(SPEECH / "digits.flac")) / 16_000
    aligned = _one(FULL, _digits(duration=whole), tmp_path)
    (found,) = work(Trim(before=0.05, after=0.05), [aligned], tmp_path)
    assert isinstance(found, dict)
    first, last = aligned["words"][0], aligned["words"][-1]
    assert found["offset"] == pytest.approx(max(0.0, first["start"] - 0.05))
    end = min(whole, last["end"] + 0.05)
    assert found["duration"] == pytest.approx(end - found["offset"], abs=1e-3)
    (roomy,) = work(Trim(), [aligned], tmp_path)
    hear = Transcribe(str(DIGITS), precision="fp32")
    (heard,) = work(hear, [{**roomy, "text": TEXT}], tmp_path)  # type: ignore[dict-item]
    assert isinstance(heard, dict)
    assert heard["pred_text"].split() == plain(TEXT).split()  # no word was cut into


def test_batch_and_one_by_one_agree(tmp_path: Path) -> None:
    words = TEXT.split()
    items = [
        _digits(),
        _digits(" ".join(words[:3]), duration=1.4),
        _digits(" ".join(words[-2:]), offset=2.0),
    ]
    together = work(FULL, items, tmp_path)
    for item, one in zip(items, together, strict=True):
        alone = _one(FULL, item, tmp_path)
        assert isinstance(one, dict)
        assert [w["start"] for w in one["words"]] == [w["start"] for w in alone["words"]]
        assert one["align_score"] == pytest.approx(alone["align_score"], abs=2e-4)


def test_texts_that_cannot_be_aligned(tmp_path: Path) -> None:
    items = [
        _digits(),
        _digits(""),
        _digits("..."),
        _digits(" ".join([TEXT] * 20)),
        _digits("один два три"),
        {**_digits(), "text": None},
        {**_digits(), "audio_filepath": str(tmp_path / "missing.wav")},
        _digits(),
    ]
    found = work(FULL, items, tmp_path)
    assert isinstance(found[0], dict) and found[0] == found[-1]
    reasons = [(type(one), one.reason) for one in found[1:-1] if not isinstance(one, dict)]
    assert reasons == [
        (Filtered, NO_TEXT),
        (Filtered, NO_TEXT),
        (Filtered, TOO_LONG),
        (Quarantined, UNKNOWN),
        (Filtered, NO_TEXT),
        (Quarantined, "no such file"),
    ]
    assert isinstance(found[4], Quarantined)
    assert "д" in found[4].detail
    for item, one in zip(items[1:-1], found[1:-1], strict=True):
        assert not isinstance(one, dict) and one.item == item


def test_sound_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auricle.curation.steps.align.MOST_SECONDS", 2.0)
    found = _one(FULL, _digits(), tmp_path)
    assert isinstance(found, Filtered)
    assert found.reason == TOO_MUCH


@pytest.mark.parametrize("name", ["quartznet_char", "hybrid_rnnt_ctc", "conformer_ctc"])
def test_other_vocabularies(name: str, tmp_path: Path) -> None:
    """Characters, unigrams, word pieces: random weights, so only that all words are there."""
    step = Align(str(GOLDEN / "nemo" / f"{name}.nemo"), precision="fp32", into="spans", score="s")
    item = {"item_id": "0", "audio_filepath": str(GOLDEN / "wav" / "talk.wav"), "text": "on a tee"}
    found = _one(step, item, tmp_path)
    assert isinstance(found, dict), found
    assert [word["word"] for word in found["spans"]] == ["on", "a", "tee"]
    times = [t for word in found["spans"] for t in (word["start"], word["end"])]
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] <= 4.6
    assert 0 <= found["s"] <= 1
    assert check_examples(step, tmp_path) == check_examples(FULL, tmp_path) == 1


def test_models_without_a_ctc_head(tmp_path: Path) -> None:
    for name in ("fastconformer_rnnt", "parakeet_tdt"):
        with pytest.raises(ConfigError, match="has no head 'ctc'"):
            Align(str(GOLDEN / "nemo" / f"{name}.nemo")).open(Place(tmp_path))


def test_what_is_measured_and_chosen(tmp_path: Path) -> None:
    assert FULL.budget(Place(tmp_path)).seconds in (*LADDER, 60.0)
    assert replace(FULL, batch_seconds=30.0).budget(Place(tmp_path)) == Batch(seconds=30.0)
    settled, reason = Align("auto").settled(Facts(3600.0, {"en": 3600.0}, "cuda"))
    assert settled == Align("nvidia/parakeet-ctc-0.6b")
    assert "a ctc head" in reason


def test_a_worker_loads_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    held = FULL.open(Place(tmp_path))
    FULL.budget(Place(tmp_path))
    assert len(loaded) == 1 and callable(held)
