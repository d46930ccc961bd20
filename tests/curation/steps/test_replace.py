"""`replace`: what packs take out, what they leave, and rules of one's own."""

from __future__ import annotations

import time
from typing import Any

import pytest

from auricle.curation.steps.packs import PACKS
from auricle.curation.steps.replace import Replace
from auricle.errors import ConfigError
from tests.curation.steps.examples import examples_hold, kept


def by(pack: str, text: str, **keys: Any) -> str:
    result: str = kept(Replace(packs=[pack]), {"text": text, **keys})["text"]
    return result


@pytest.mark.parametrize(
    ("given", "gives"),
    [
        ("hello [noise] there", "hello there"),
        ("(laughs) well (he [coughs] twice), yes", "well, yes"),
        ("<unk> one {breath} two *sighs* three", "one two three"),
        ("♪ la la la ♪ so", "so"),
        ("はい（笑）そう【拍手】です", "はい そう です"),
        ("two * three * four", "two four"),  # what an asterisk means is not to be known
        ("a < b and b > c", "a < b and b > c"),
        ("an [open bracket", "an [open bracket"),
        ("nothing  to do ", "nothing  to do "),
    ],
)
def test_brackets(given: str, gives: str) -> None:
    assert by("brackets", given) == gives


@pytest.mark.parametrize(
    ("given", "lang", "gives"),
    [
        ("Um, I think, uh, it's er fine", "en", "I think, it's fine"),
        ("uh-huh, the umbrella, mm-hmm", "en", "uh-huh, the umbrella, mm-hmm"),
        ("er geht um acht, ähm, nach Hause", "de", "er geht um acht, nach Hause"),
        ("um dia, uma noite", "pt", "um dia, uma noite"),
        ("er, um, hmm, ähm, ok", None, "er, um, ok"),  # no language: only what is no word anywhere
        ("er, um, hmm, ok", "xx", "er, um, ok"),
        ("Uh... yes", "en-US", "yes"),
        ("euh, je ne sais pas", "fr", "je ne sais pas"),
        ("э-э, не знаю, ммм", "ru", "не знаю,"),
        ("えーと、今日はえっと雨です", "ja", "今日は雨です"),
        ("呃，我不知道", "zh", "我不知道"),
    ],
)
def test_fillers_go_by_the_language(given: str, lang: str | None, gives: str) -> None:
    assert by("fillers", given, lang=lang) == gives


@pytest.mark.parametrize(
    ("given", "gives"),
    [
        ("SPEAKER_00: hello", "hello"),
        ("Speaker 12: hello", "hello"),
        ("JANE DOE: hello\nQ: and?\nA: yes", "hello\nand?\nyes"),
        (">> hello\n>> MAN: hi", "hello\nhi"),
        ("- hello\n- hi", "hello\nhi"),
        ("Interviewer: hello", "hello"),
        ("Remember: it is late", "Remember: it is late"),
        ("I said: STOP: now", "I said: STOP: now"),
        ("HTTP://example.com", "HTTP://example.com"),
        ("-5 degrees", "-5 degrees"),
    ],
)
def test_speaker_labels(given: str, gives: str) -> None:
    assert by("speaker_labels", given) == gives


def test_quotes_and_whitespace() -> None:
    assert by("quotes", "„Ja“, ‘so’ « dit-il » it’s") == '"Ja", \'so\' "dit-il" it\'s'
    assert by("whitespace", "\ufeffa\u00a0b\u3000c\x07d\u200b\n e") == "a b c d e"
    assert by("whitespace", "می\u200cخواهم") == "می\u200cخواهم"


def test_french_spaces_before_marks_stay() -> None:
    assert by("brackets", "Quoi ? (rires) Non !") == "Quoi ? Non !"


@pytest.mark.parametrize("pack", sorted(PACKS))
@pytest.mark.parametrize("piece", [" ", "(", "( ", "*", "♪", "u", "A ", "A.", "- ", "um ", "<a"])
def test_packs_take_no_longer_than_texts_are_long(pack: str, piece: str) -> None:
    """Not the square of it, which a worker would take for hanging."""
    step = Replace(packs=[pack])

    def seconds(times: int) -> float:
        """The least of three: what other programs add is never negative."""
        taken = []
        for _ in range(3):
            started = time.process_time()
            kept(step, {"text": piece * times + "!", "lang": "en"})
            taken.append(time.process_time() - started)
        return min(taken)

    assert seconds(20_000) < 50 * seconds(2_000)  # ten times the text: 10, or 100 if squared


def test_rules_in_order_after_packs() -> None:
    step = Replace(
        packs=["brackets"],
        rules=[
            {"pattern": r"(\d+) ?%", "with": r"\1 percent"},
            {"pattern": "PERCENT", "with": "per cent", "ignore_case": True, "lang": ["en"]},
        ],
        into="clean",
    )
    item = {"text": "5% [noise] of 10 %", "lang": "en-GB"}
    assert kept(step, item) == {**item, "clean": "5 per cent of 10 per cent"}
    assert kept(step, {**item, "lang": "de"})["clean"] == "5 percent of 10 percent"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing to replace"),
        ({"packs": ["bracket"]}, "'bracket' is no pack; nearest is brackets"),
        ({"packs": "brackets"}, "are lists"),
        ({"rules": {"pattern": "a"}}, "are lists"),
        ({"rules": ["a"]}, "rules.0 is a mapping with a pattern"),
        ({"rules": [{"pattern": "("}]}, "rules.0: '('"),
        ({"rules": [{"pattern": "a", "with": r"\1"}]}, "invalid group reference 1"),
        ({"rules": [{"pattern": "a", "with": r"\g<x>"}]}, "rules.0"),
        ({"rules": [{"pattern": "a", "to": "b"}]}, "unknown key 'to'"),
        ({"rules": [{"pattern": "a", "with": 5}]}, "cannot be 5"),
    ],
)
def test_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Replace(**options)
    assert words in str(refused.value)


def test_a_pack_that_changed_is_another_step() -> None:
    """What a pack does is part of a step's options, by which results are found again."""
    said = Replace(packs=["quotes"]).options()["packs"]["quotes"]
    assert len(said) == len(PACKS["quotes"])
    assert said[0][1] == '"'


@pytest.mark.parametrize("pack", sorted(PACKS))
def test_its_examples_hold(pack: str) -> None:
    assert examples_hold(Replace(packs=[pack])) == 1
