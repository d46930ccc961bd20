"""`text_language`: right on sentences, and unsure of what is too short."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auricle.curation.items import Item
from auricle.curation.step import Place, Work
from auricle.curation.steps.text_language import TextLanguage, _model
from auricle.errors import ConfigError, MissingExtra
from tests.curation.steps.examples import examples_hold

pytest.importorskip("py3langid", reason="needs the extra curate")

SENTENCES = {
    "en": ["We went down to the harbour before the shops had opened.", "I never said it was easy."],
    "de": ["Wir haben gestern noch lange am Tisch gesessen.", "Das hätte ich so nicht erwartet."],
    "fr": ["Le train de Paris a dix minutes de retard.", "Je ne m'attendais pas à ça."],
    "es": ["El tren de Madrid lleva diez minutos de retraso.", "No me lo esperaba así."],
    "it": ["Ieri sera siamo rimasti a parlare fino a tardi.", "Non me lo sarei mai aspettato."],
    "pt": ["Ontem à noite ficamos conversando até tarde.", "Eu não esperava por isso."],
    "nl": ["De trein naar Utrecht heeft tien minuten vertraging.", "Dat had ik niet verwacht."],
    "pl": ["Proszę do mnie oddzwonić jutro rano.", "Tego się nie spodziewałem."],
    "ru": ["Вчера вечером мы долго сидели за столом.", "Я этого совсем не ожидал."],
    "uk": ["Потяг до Києва запізнюється на десять хвилин.", "Я цього зовсім не очікував."],
    "tr": ["Lütfen yarın sabah beni geri arayın.", "Bunu hiç beklemiyordum."],
    "fi": ["Istuimme eilen illalla pitkään pöydän ääressä.", "En odottanut sitä lainkaan."],
    "ar": ["جلسنا مساء أمس طويلا حول الطاولة.", "من فضلك اتصل بي غدا صباحا."],
    "hi": ["कल शाम हम देर तक मेज पर बैठे रहे।", "कृपया मुझे कल सुबह फिर फोन कीजिए।"],
    "ja": ["昨日の夜は遅くまで話していました。", "明日の朝もう一度お電話ください。"],
    "zh": ["昨天晚上我们在桌边坐了很久。", "火车晚点十分钟。"],
    "ko": ["어제 저녁에 우리는 오랫동안 앉아 있었습니다.", "내일 아침에 다시 전화해 주세요."],
}


def work(**options: Any) -> Work:
    return TextLanguage(**options).open(Place(Path()))


def told(text: str, **options: Any) -> tuple[str | None, float]:
    (item,) = work(**options)([{"text": text}])
    assert isinstance(item, dict)
    found: Item = item
    return found["text_language"], found["text_language_confidence"]


def test_sentences_of_seventeen_languages() -> None:
    """All 34 are told right: in capitals too, and without punctuation."""
    wrong = [
        (language, text, told(text))
        for language, texts in SENTENCES.items()
        for sentence in texts
        for text in (sentence, sentence.upper(), sentence.lower().rstrip(".。।"))
        if told(text)[0] != language
    ]
    assert wrong == []


@pytest.mark.parametrize("text", ["ok", "no", "ja", "hm", "yes", "no no", "la la la", "two"])
def test_short_texts_have_no_language_and_little_confidence(text: str) -> None:
    language, confidence = told(text)
    assert language is None
    assert 0 < confidence < 0.25


@pytest.mark.parametrize("text", ["", " ", "...", "123 456", "♪♪"])
def test_texts_without_letters(text: str) -> None:
    assert told(text) == (None, 0.0)


def test_recorded_transcripts(shared: Callable[[str], Path]) -> None:
    """Of 645 English ones, from three words to forty, at most three are told wrong."""
    names = ("data/librispeech-eval.jsonl", "data/ljspeech.jsonl")
    rows = [json.loads(line) for n in names for line in shared(n).read_text("utf-8").splitlines()]
    found = [item["text_language"] for item in work()(rows) if isinstance(item, dict)]
    assert len(found) == len(rows) > 600
    assert sum(language != "en" for language in found) <= 3
    assert set(found) <= {"en", None}


def test_confidence_grows_with_the_text() -> None:
    words = SENTENCES["de"][0].split()
    confidences = [told(" ".join(words[:n]))[1] for n in (1, 3, 8)]
    assert confidences == sorted(confidences)
    assert confidences[-1] > 0.95


def test_a_choice_of_languages_makes_none_of_them_likelier() -> None:
    french = SENTENCES["fr"][0]
    assert told(french, languages=("en", "fr")) == told(french)
    language, confidence = told(french, languages=("en", "de"), least=0.0)
    assert language in ("en", "de")
    assert confidence < 0.01
    assert told(french, languages=("en", "de"))[0] is None


def test_refused() -> None:
    with pytest.raises(ConfigError, match="text_language: klingon not among the model's languages"):
        work(languages=("en", "klingon"))
    with pytest.raises(ConfigError, match=r"a list, such as \[en\]"):
        TextLanguage(languages="en")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        TextLanguage(least=30)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _model.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtra, match=r"pip install auricle\[curate\]"):
        TextLanguage().open(Place(Path()))


def test_its_results_depend_on_the_package_that_carries_the_weights() -> None:
    assert TextLanguage().options()["model"].startswith("py3langid 0.")


def test_its_examples_hold() -> None:
    assert examples_hold(TextLanguage()) == 4
    assert examples_hold(TextLanguage(languages=["en"], text="pred_text")) == 1
