"""`hallucination`: what recognisers invent is found, and what people say is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auricle.curation.items import Filtered
from auricle.curation.steps.hallucination import Hallucination
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept, outcome, outcomes, reason


def signs(text: str, **keys: Any) -> list[str]:
    found: list[str] = kept(Hallucination(), {"pred_text": text, **keys})["hallucination"]
    return found


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        # each of these is taken for a hallucination by a filter in use elsewhere
        ("Thank you for coming to our annual meeting of shareholders.", "en"),
        ("a internationalization", "en"),
        ("no no no no", "en"),
        # and these might be
        ("Thank you for watching the children while we were away.", "en"),
        ("Thanks for watching the shop. I will be back at noon.", "en"),
        ("the subtitles by themselves tell you nothing about the plot of this film", "en"),
        ("Subscribe to my channel of thought, he said, and laughed.", "en"),
        ("very very very very good", "en"),
        ("I know, I know, I know, I know.", "en"),
        ("hahaha", "en"),
        ("noooo", "en"),
        ("the antidisestablishmentarianism of the floccinaucinihilipilification", "en"),
        ("Rindfleischetikettierungsüberwachungsaufgabengesetz", "de"),
        ("epäjärjestelmällistyttämättömyydellänsäkään", "fi"),
        ("one billion is 1000000000000, no, 1000000000", "en"),
        ("five five five, four two", "en"),
        ("5 5 5 5 5 5 5", "en"),
        ("see https://www.example.com/a/very/long/address/that/goes/on", "en"),
        ("はいはいはい、そうですねそうですね", "ja"),
        ("ご視聴の皆様にお知らせがあります", "ja"),
        ("谢谢你昨天帮我搬家", "zh"),
        ("哈哈哈哈", "zh"),
        ("ไปๆ มาๆ ก็ไม่ได้ไป", "th"),
        ("Untertitel sind für Gehörlose wichtig.", "de"),
        ("Субтитры к фильму были плохие.", "ru"),
        ("字幕の位置を直してください", "ja"),
        ("", "en"),
        ("...", "en"),
    ],
)
def test_speech_is_no_hallucination(text: str, lang: str) -> None:
    assert signs(text, lang=lang) == []
    assert signs(text) == []


@pytest.mark.parametrize("corpus", ["commonvoice-en", "librispeech-train", "ljspeech", "digits"])
def test_no_recorded_transcript_is_a_hallucination(
    corpus: str, shared: Callable[[str], Path]
) -> None:
    """Of 7198 texts that people read aloud, with the true lengths of their recordings."""
    lines = shared(f"data/{corpus}.jsonl").read_text("utf-8").splitlines()
    found = outcomes(Hallucination(text="text"), [json.loads(line) for line in lines])
    assert len(found) > 300
    assert [item for item in found if not isinstance(item, dict) or item["hallucination"]] == []


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        # repeats, with and without spaces
        ("no no no no no no no no", "en", ["repeats"]),
        ("so I said " + "and then " * 9, "en", ["repeats"]),
        ("we are going to the shop " * 3, "en", ["repeats"]),
        ("and it was, " * 12 + "fine", "en", ["repeats"]),
        ("ご飯を食べました" * 4, "ja", ["repeats"]),
        ("ああああああああああああ", "ja", ["repeats"]),
        ("我不知道" * 6, "zh", ["repeats"]),
        ("ขอบคุณครับ" * 5, "th", ["repeats"]),
        ("네 " * 10, "ko", ["repeats"]),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "en", ["repeats"]),
        ("1 " * 20, "en", ["repeats"]),
        # words that no language has
        ("thequickbrownfoxjumpsoverthelazydogandcomesback", "en", ["long_word"]),
        # whole sentences, in any case
        ("Thank you for watching!", "en", ["phrase"]),
        ("THANKS FOR WATCHING", "en", ["phrase"]),
        ("Thank you. Thanks for watching! Bye-bye.", "en", ["phrase"]),
        ("thank you for watching", "de", ["phrase"]),
        ("Vielen Dank fürs Zuschauen.", "de", ["phrase"]),
        ("Merci d'avoir regardé cette vidéo !", "fr", ["phrase"]),
        ("¡Suscríbete al canal!", "es", ["phrase"]),
        ("ご視聴ありがとうございました。", "ja", ["phrase"]),
        ("请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "zh", ["phrase"]),
        ("시청해 주셔서 감사합니다.", "ko", ["phrase"]),
        ("Спасибо за просмотр!", "ru", ["phrase"]),
        ("شكرا للمشاهدة", "ar", ["phrase"]),
        # credits, wherever they stand
        ("Subtitles by the Amara.org community", "en", ["credits"]),
        ("and so it ends. Subtitles by the Amara.org community", "en", ["credits"]),
        ("Transcribed by https://otter.ai", "en", ["credits"]),
        ("Untertitel der Amara.org-Community", "de", ["credits"]),
        ("Untertitelung des ZDF, 2020", "de", ["credits"]),
        ("Untertitel im Auftrag des ZDF für funk, 2017", "de", ["credits"]),
        ("Sous-titres réalisés par la communauté d'Amara.org", "fr", ["credits"]),
        ("Subtítulos realizados por la comunidad de Amara.org", "es", ["credits"]),
        ("Sottotitoli e revisione a cura di QTSS", "it", ["credits"]),
        ("Legendas pela comunidade Amara.org", "pt", ["credits"]),
        ("Ondertitels ingediend door de Amara.org gemeenschap", "nl", ["credits"]),
        ("Napisy stworzone przez społeczność Amara.org", "pl", ["credits"]),
        ("Субтитры сделал DimaTorzok", "ru", ["credits"]),
        ("Редактор субтитров А.Семкин Корректор А.Егорова", "ru", ["credits"]),
        ("Altyazı M.K.", "tr", ["credits"]),
        ("字幕by索兰娅", "zh", ["credits"]),
        ("字幕 作成者 田中", "ja", ["credits"]),
        ("Υπότιτλοι AUTHORWAVE", "el", ["credits"]),
    ],
)
def test_hallucinations_are_found(text: str, lang: str, expected: list[str]) -> None:
    assert signs(text, lang=lang) == expected


def test_long_words_go_by_the_language() -> None:
    word = "x".join("abcdefghijklmnopqrstuvw")  # 45 letters
    assert signs(word, lang="en") == ["long_word"]
    assert signs(word, lang="en-US") == ["long_word"]
    assert signs(word, lang="de") == signs(word) == []


@pytest.mark.parametrize("text", ["Thank you.", "you", "Okay. Bye.", "감사합니다.", "Спасибо!"])
def test_what_people_say_too_needs_another_sign(text: str) -> None:
    assert signs(text) == signs(text, duration=1.2, confidence=0.9, silence_ratio=0.3) == []
    assert signs(text, confidence=0.31) == ["phrase"]
    assert signs(text, duration=30.0) == ["phrase"]  # half a minute of sound is more than that
    assert signs(text, duration=30.0, silence_ratio=0.97) == []  # a second of it is not
    assert signs(text, duration=3.0, silence_ratio=1.0) == ["phrase", "silence"]


@pytest.mark.parametrize("text", ["no no no no", "But... But... But...", "はいはいはい"])
def test_few_repetitions_need_doubt_and_the_whole_text(text: str) -> None:
    assert signs(text) == signs(text, confidence=0.8, duration=2.0) == []
    assert signs(text, confidence=0.4) == ["repeats"]
    assert signs(text, duration=12.0) == ["repeats"]
    assert signs(f"{text} 今 now", confidence=0.4, duration=12.0) == []


def test_a_word_more_is_no_phrase_however_unsure() -> None:
    assert signs("Thank you, Margaret.", confidence=0.1, duration=30.0) == []


@pytest.mark.parametrize(
    ("text", "seconds", "fast"),
    [
        ("so this is a sentence that is said in quite a hurry by somebody", 1.0, True),
        ("so this is a sentence that is said in quite a hurry by somebody", 2.0, False),
        ("yes", 0.1, False),
        ("今日はとても天気がいいので散歩に行きましょう", 0.8, True),
        ("今日はとても天気がいいので散歩に行きましょう", 1.6, False),
        ("今天天气很好我们一起出去散步吧", 0.8, True),
        ("今天天气很好我们一起出去散步吧", 1.6, False),
    ],
)
def test_too_fast_for_its_script(text: str, seconds: float, fast: bool) -> None:
    """The same number of characters is far more speech in Chinese than in English."""
    assert ("fast" in signs(text, duration=seconds)) is fast


def test_text_where_there_is_silence() -> None:
    text = "we have to go now"
    assert signs(text, duration=20.0, silence_ratio=0.9) == []
    assert signs(text, duration=20.0, silence_ratio=0.99) == ["silence"]
    assert signs("maybe", duration=5.0, silence_ratio=1.0) == ["silence"]
    assert signs("yes", duration=30.0, silence_ratio=0.99) == []  # said in 0.3 s
    assert signs("", duration=5.0, silence_ratio=1.0) == []


@pytest.mark.parametrize("value", [None, "x", True, float("nan"), -1, 7])
def test_keys_that_say_nothing_are_no_sign(value: Any) -> None:
    keys = {"duration": value, "silence_ratio": value, "confidence": value}
    if value == 7:
        keys["duration"] = None
    assert signs("thank you", **keys) == []


def test_it_marks_and_filters_only_if_told() -> None:
    item = {"pred_text": "Thank you for watching!", "item_id": "1"}
    assert kept(Hallucination(), item) == {**item, "hallucination": ["phrase"]}
    one = outcome(Hallucination(drop=True), item)
    assert isinstance(one, Filtered)
    assert (one.reason, one.detail) == ("hallucination: phrase", "Thank you for watching!")
    assert one.item["hallucination"] == ["phrase"]
    assert reason(Hallucination(drop=True), {"pred_text": "good morning"}) is None


def test_signs_and_phrases_can_be_chosen() -> None:
    item = {"pred_text": "Ding dong. " * 9}
    assert kept(Hallucination(signs=["phrase"]), item)["hallucination"] == []
    step = Hallucination(signs=["phrase"], phrases=["ding, dong!"])
    assert kept(step, item)["hallucination"] == ["phrase"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"signs": ["repeat"]}, "'repeat' is no sign; there are credits, fast"),
        ({"signs": "repeats"}, "signs is a list"),
        ({"phrases": "hello"}, "phrases is a list"),
        ({"unsure": 50}, "between 0 and 1"),
    ],
)
def test_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Hallucination(**options)


def test_its_examples_hold() -> None:
    assert examples_hold(Hallucination()) == 4
    assert examples_hold(Hallucination(drop=True, text="text")) == 4
    assert examples_hold(Hallucination(signs=["fast"], drop=True)) == 4
