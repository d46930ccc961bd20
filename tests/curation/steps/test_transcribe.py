"""What models hear, as a step: the trained digits, tiny goldens and a tiny Whisper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_whisper import write_tiny_whisper

import auricle
from auricle import audio
from auricle.checkpoints import embedded
from auricle.curation.choosing import Facts, Wanted
from auricle.curation.items import Item, Quarantined
from auricle.curation.step import Batch, Place
from auricle.curation.steps import memory
from auricle.curation.steps.memory import LADDER, MOST, UNMEASURED
from auricle.curation.steps.transcribe import Transcribe, confidence_of
from auricle.curation.steps.wer import Wer
from auricle.errors import CheckpointError, ConfigError, ModelNotFound
from tests.conftest import GOLDEN, ROOT
from tests.curation.steps.hearing import check_examples, work

DIGITS = ROOT / "examples" / "digits"
SPEECH = ROOT / "examples" / "speech"
FULL = Transcribe(str(DIGITS), precision="fp32")


def _items() -> list[Item]:
    text = (SPEECH / "digits.txt").read_text(encoding="utf-8").strip()
    digits = {"audio_filepath": str(SPEECH / "digits.flac"), "text": text}
    clips = [{"audio_filepath": str(GOLDEN / "wav" / f"{n}.wav")} for n in ("phrase", "talk")]
    return [{"item_id": f"{i:032d}", **item} for i, item in enumerate([digits, *clips])]


def test_the_digits_are_heard_and_counted(tmp_path: Path) -> None:
    """Real weights on speech: every digit, where it is, and a WER of 0."""
    (found, *_) = work(replace(FULL, timestamps=True), _items()[:1], tmp_path)
    assert isinstance(found, dict)
    (scored,) = work(Wer(), [found], tmp_path)
    assert isinstance(scored, dict)
    assert (scored["wer"], scored["cer"], scored["end_cer"]) == (0.0, 0.0, 0.0)
    assert scored["wer_words"] == len(found["words"]) > 5
    words = found["words"]
    assert [word["word"] for word in words] == found["pred_text"].split()
    assert all(0 <= word["start"] < word["end"] <= 3.6 for word in words)
    mean = sum(word["confidence"] for word in words) / len(words)
    assert found["confidence"] == pytest.approx(mean, abs=1e-4)
    assert 0.3 < found["confidence"] < 1


def test_a_stretch_is_heard_alone(tmp_path: Path) -> None:
    (whole,) = work(replace(FULL, timestamps=True), _items()[:1], tmp_path)
    assert isinstance(whole, dict)
    third, later = whole["words"][2], whole["words"][3]
    cut = (third["end"] + later["start"]) / 2
    before, behind = [
        work(FULL, [{**_items()[0], **stretch}], tmp_path)[0]
        for stretch in ({"duration": cut}, {"offset": cut, "duration": 1.0})
    ]
    assert isinstance(before, dict) and isinstance(behind, dict)
    assert before["pred_text"].split() == whole["pred_text"].split()[:3]
    assert behind["pred_text"].split()[1] == whole["pred_text"].split()[4]


def test_rows_keep_what_they_have_and_agree_with_transcribe(tmp_path: Path) -> None:
    items = _items()
    step = replace(FULL, into="fast", tier=2)
    found = work(step, items, tmp_path)
    model = auricle.load(DIGITS, device="cpu", precision="fp32")
    expected = model.transcribe([item["audio_filepath"] for item in items], batch_seconds=1e6)
    for item, one, transcript in zip(items, found, expected, strict=True):
        assert one == {
            **item,
            "fast": transcript.text,
            "fast_confidence": confidence_of(transcript),
            "tier": 2,
        }
    assert set(step.outputs) == {"fast", "fast_confidence", "tier"}
    assert set(replace(FULL, timestamps=True).outputs) == {"pred_text", "confidence", "words"}
    assert found == work(step, items, tmp_path)


def test_nothing_heard_has_no_confidence() -> None:
    assert confidence_of(auricle.Transcript("")) == 0.0
    words = (auricle.Word("a", 0, 1, 0.5), auricle.Word("b", 1, 2, 0.25))
    assert confidence_of(auricle.Transcript("a b", words=words)) == 0.375
    assert confidence_of(auricle.Transcript("a", words=(auricle.Word("a", 0, 1),))) is None


def test_damaged_sound_is_quarantined_alone(tmp_path: Path) -> None:
    good = _items()[0]
    (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty.wav").write_bytes(b"")
    bad = [
        {"item_id": name, "audio_filepath": str(tmp_path / name)}
        for name in ("noise.wav", "empty.wav", "missing.wav")
    ]
    found = work(FULL, [bad[0], good, *bad[1:]], tmp_path)
    (heard,) = work(FULL, [good], tmp_path)
    assert found[1] == heard
    for item, one in zip(bad, [found[0], *found[2:]], strict=True):
        assert isinstance(one, Quarantined)
        assert one.item == item
        assert one.reason and one.detail


def test_examples(tmp_path: Path) -> None:
    assert check_examples(FULL, tmp_path) == 2
    assert check_examples(replace(FULL, language_key="lang"), tmp_path) == 1
    assert Transcribe("auto").examples == ()


@pytest.mark.parametrize(
    ("name", "head"),
    [("hybrid_rnnt_ctc", "ctc"), ("hybrid_rnnt_ctc", "rnnt"), ("parakeet_tdt", None)],
)
def test_nemo_files_and_heads(name: str, head: str | None, tmp_path: Path) -> None:
    path = GOLDEN / "nemo" / f"{name}.nemo"
    step = Transcribe(str(path), head=head, precision="fp32")
    found = work(step, _items(), tmp_path)
    model = auricle.load(path, head=head, device="cpu", precision="fp32")
    for item, one in zip(_items(), found, strict=True):
        assert isinstance(one, dict)
        assert one["pred_text"] == model.transcribe(item["audio_filepath"]).text
    assert check_examples(step, tmp_path) == 2


def test_each_item_in_its_own_language(tmp_path: Path) -> None:
    """A prompted model: items of a batch go by language; one that it does not know stays out."""
    path = GOLDEN / "nemo" / "prompt_rnnt.nemo"
    step = Transcribe(str(path), language_key="lang", precision="fp32")
    model = auricle.load(path, device="cpu", precision="fp32")
    one, other = model.languages[0], model.languages[-1]
    assert one != other
    clip = _items()[2]
    items = [{**clip, "lang": lang} for lang in (one, "xx-XX", other, one)]
    found = work(step, items, tmp_path)
    assert isinstance(found[1], Quarantined)
    assert found[1].reason == "language not known to the model"
    for i in (0, 2, 3):
        row = found[i]
        assert isinstance(row, dict)
        heard = model.transcribe(clip["audio_filepath"], language=items[i]["lang"])
        assert row["pred_text"] == heard.text
    assert step.inputs == ("audio_filepath", "lang")
    with pytest.raises(ConfigError, match="xx-XX"):
        work(Transcribe(str(path), language="xx-XX"), items, tmp_path)


def test_a_whisper(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="needs the extra whisper")
    folder = write_tiny_whisper(tmp_path / "tiny")
    step = Transcribe(str(folder), language="de", precision="fp32")
    found = work(step, _items()[1:], tmp_path)
    model = auricle.load(folder, device="cpu", precision="fp32")
    for item, one in zip(_items()[1:], found, strict=True):
        assert isinstance(one, dict)
        assert one["pred_text"] == model.transcribe(item["audio_filepath"], language="de").text
    assert step.budget(Place(tmp_path)) == Batch(seconds=MOST["cpu"])


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Transcribe(str(tmp_path / "no.nemo")).open(Place(tmp_path))
    (tmp_path / "bad.nemo").write_bytes(b"not a model")
    with pytest.raises(CheckpointError):
        Transcribe(str(tmp_path / "bad.nemo")).open(Place(tmp_path))
    with pytest.raises(ConfigError, match="no head 'tdt'"):
        replace(FULL, head="tdt").open(Place(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "en", "language_key": "lang"}, "not both"),
        ({"batch_seconds": 0}, "batch_seconds is 0"),
        ({"batch_seconds": "many"}, "batch_seconds is 'many'"),
        ({"device": "cuda:1"}, "device is 'cuda:1': use auto"),
        ({"wanted": Wanted()}, "for model: auto"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Transcribe("embedded", **options)


def test_the_batch_is_measured_once(tmp_path: Path) -> None:
    assert replace(FULL, batch_seconds=45.0).budget(Place(tmp_path)) == Batch(seconds=45.0)
    assert FULL.batch == Batch(seconds=60.0)
    found = FULL.budget(Place(tmp_path))
    assert found.seconds in (*LADDER, UNMEASURED)
    if memory._resident_peak(lambda: None, "cpu") is not None:
        assert found.seconds == MOST["cpu"]  # some 10 MB a clip
        with pytest.raises(ConfigError, match="take a smaller model"):
            replace(FULL, memory_gb=0.001).budget(Place(tmp_path))


def test_a_model_is_chosen_by_the_rows() -> None:
    step = Transcribe("auto", wanted=Wanted(quality="fast"), head="ctc", into="fast")
    assert step.unsettled
    settled, reason = step.settled(Facts(7200.0, {"en": 7200.0}, "cuda"))
    assert settled == Transcribe("nvidia/parakeet-tdt_ctc-110m", head="ctc", into="fast")
    assert "2.0 h of en on cuda, a ctc head" in reason
    on_cpu, reason = replace(step, device="cpu").settled(Facts(7200.0, {"en": 7200.0}, "cuda"))
    assert "on cpu" in reason
    assert not on_cpu.unsettled
    assert FULL.settled(Facts()) == (FULL, "")


def test_another_model_under_the_same_name_is_another_step(tmp_path: Path) -> None:
    """What a stage is found again by: not memory, but the weights."""
    path = tmp_path / "model.nemo"
    path.write_bytes((GOLDEN / "nemo" / "fastconformer_ctc.nemo").read_bytes())
    step = Transcribe(str(path))
    before = step.options()
    assert replace(step, memory_gb=3.0).options() == before
    assert replace(step, head="ctc").options() != before
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert step.options() != before
    assert Transcribe("nvidia/parakeet-ctc-0.6b").options()["identity"] == [None, None]


def test_memory_goes_by_the_weights() -> None:
    assert FULL.needs.accelerator
    assert not replace(FULL, device="cpu").needs.accelerator
    assert 0.5 < FULL.needs.memory_gb < 0.6
    assert Transcribe("nvidia/parakeet-tdt-0.6b-v2").needs.memory_gb == 4.1
    tiny = Transcribe("embedded").needs.memory_gb
    assert (0.5 < tiny < 1.0) == embedded.installed()
    assert Transcribe("who/knows").needs.memory_gb == 0.0
    assert replace(FULL, memory_gb=7.5).needs.memory_gb == 7.5


def test_sound_at_another_rate(tmp_path: Path) -> None:
    samples = audio.read(SPEECH / "digits.flac", sample_rate=22_050)
    path = tmp_path / "at_22k.wav"
    with path.open("wb") as file:
        audio.write(file, [np.asarray(samples)], 22_050, "wav")
    (found,) = work(FULL, [{"item_id": "0", "audio_filepath": str(path)}], tmp_path)
    (expected,) = work(FULL, _items()[:1], tmp_path)
    assert isinstance(found, dict) and isinstance(expected, dict)
    assert found["pred_text"] == expected["pred_text"]
