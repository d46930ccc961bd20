"""Each format's text, the cutting of subtitles, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auricle.errors import ConfigError
from auricle.formats import SubtitleOptions, render
from auricle.formats.subtitles import columns, cues, join
from auricle.types import Segment, Token, Transcript, Word


def spoken(text: str, *, start: float = 0.0, pace: float = 0.3, speaker=None) -> Transcript:
    """A transcript of `text` in one segment, each word 0.2 s long."""
    words = tuple(
        Word(word, start + pace * i, start + pace * i + 0.2, 0.9, speaker)
        for i, word in enumerate(text.split())
    )
    segment = Segment(text, words[0].start, words[-1].end, words, 0.9, speaker)
    return Transcript(text, (segment,), words, (), "en", words[-1].end + 0.5, "m")


def blocks(srt: str) -> list[list[str]]:
    return [block.splitlines() for block in srt.strip().split("\n\n")]


def test_srt() -> None:
    assert render(spoken("Hello there.", start=1.234), "srt") == (
        "1\n00:00:01,234 --> 00:00:02,234\nHello there.\n"
    )


def test_vtt() -> None:
    assert render(spoken("Hello there.", start=3661.9996), "vtt") == (
        "WEBVTT\n\n01:01:02.000 --> 01:01:03.000\nHello there.\n"
    )


def test_ctm() -> None:
    transcript = spoken("Hello there.", start=1.0)
    assert render(transcript, "ctm", name="my talk") == (
        "my_talk 1 1.000 0.200 Hello 0.900\nmy_talk 1 1.300 0.200 there. 0.900\n"
    )
    bare = replace(transcript, words=tuple(replace(w, confidence=None) for w in transcript.words))
    assert render(bare, "ctm").splitlines()[0] == "audio 1 1.000 0.200 Hello"


def test_ctm_keeps_the_number_of_a_channel() -> None:
    words = tuple(Word(c, 0.0, 0.1, 0.5, f"channel {c}") for c in ("10", "2"))
    assert render(Transcript("10 2", (), words), "ctm").splitlines() == [
        "audio 3 0.000 0.100 2 0.500",  # also where channels 0 and 1 are silent
        "audio 11 0.000 0.100 10 0.500",
    ]
    named = (Word("b", 0.0, 0.1, None, "Bo"), Word("a", 0.2, 0.3, None, "Ann"))
    assert render(Transcript("b a", (), named), "ctm").splitlines() == [
        "audio 1 0.000 0.100 b",
        "audio 1 0.200 0.100 a",
    ]


def test_ctm_has_no_comments_and_no_empty_words() -> None:
    spelled = (";", ";;end", "a;b;", "", " ", "two words")
    words = tuple(Word(text, i, i + 0.5) for i, text in enumerate(spelled))
    assert render(Transcript("x", (), words), "ctm", name=";;x y").splitlines() == [
        "x_y 1 1.000 0.500 end",
        "x_y 1 2.000 0.500 a_b",
        "x_y 1 5.000 0.500 two_words",
    ]


def test_ctm_puts_each_speaker_on_a_channel() -> None:
    words = (Word("b", 0.0, 0.1, 0.5, "channel 1"), Word("a", 0.2, 0.3, 0.5, "channel 0"))
    assert render(Transcript("b a", (), words), "ctm").splitlines() == [
        "audio 1 0.200 0.100 a 0.500",
        "audio 2 0.000 0.100 b 0.500",
    ]


def test_tsv() -> None:
    assert render(spoken("A tab\there", start=0.0005), "tsv") == (
        "start\tend\ttext\n0\t800\tA tab here\n"
    )


def test_txt_names_speakers_where_there_are_any() -> None:
    assert render(spoken("Hello."), "txt") == "Hello.\n"
    two = Transcript("Hi. Ho.", (Segment("Hi.", 0, 1, speaker="Ann"), Segment("Ho.", 1, 2)))
    assert render(two, "txt") == "Ann: Hi.\nHo.\n"


def test_a_speaker_is_named_once_a_turn() -> None:
    turns = [("Ann", "Hi.", 0), ("Ann", "You?", 4), ("Bo", "Fine.", 8), ("Ann", "Bye.", 12)]
    segments = tuple(spoken(text, start=at, speaker=who).segments[0] for who, text, at in turns)
    transcript = Transcript("", segments)
    assert render(transcript, "txt") == "Ann: Hi. You?\nBo: Fine.\nAnn: Bye.\n"
    shown = [block[2] for block in blocks(render(transcript, "srt"))]
    assert shown == ["Ann: Hi.", "You?", "Bo: Fine.", "Ann: Bye."]
    assert render(transcript, "vtt").count("<v ") == 4  # of a voice that no player shows


def test_who_speaks_while_others_do_is_named_on_each_cue() -> None:
    one = spoken("abcdefgh " * 20, speaker="Ann").segments[0]
    other = spoken("Yes.", start=2.5, speaker="Bo").segments[0]
    options = SubtitleOptions(max_line_width=24)
    shown = blocks(render(Transcript("", (one, other)), "srt", subtitles=options))
    assert len(shown) > 4 and all(block[2].startswith(("Ann: ", "Bo: ")) for block in shown)


def test_another_speaker_shortens_no_cue() -> None:
    one, other = (spoken("Yes.", start=at, speaker=who) for at, who in ((0.0, "a"), (0.6, "b")))
    both = Transcript("", (*one.segments, *other.segments))
    times = [block[1] for block in blocks(render(both, "srt"))]
    assert times == ["00:00:00,000 --> 00:00:01,000", "00:00:00,600 --> 00:00:01,600"]


def test_json_is_the_transcript_again_without_arithmetic_dust() -> None:
    token = Token(3, "▁a", 0.1 + 0.2, 0.08 * 7, float("nan"))
    text = render(replace(spoken("naïve 日本"), tokens=(token,)), "json")
    assert "naïve 日本" in text and text.endswith("}\n")
    data = json.loads(text)
    assert data["tokens"] == [
        {"id": 3, "text": "▁a", "start": 0.3, "end": 0.56, "confidence": None}
    ]
    assert Transcript.from_dict(data).words[1] == Word("日本", 0.3, 0.5, 0.9)


@pytest.mark.parametrize("format_", ["srt", "vtt"])
def test_an_empty_transcript_is_an_empty_file(format_: str) -> None:
    assert render(Transcript(""), format_) == ("" if format_ == "srt" else "WEBVTT\n")


@pytest.mark.parametrize("format_", ["srt", "vtt", "tsv", "ctm"])
def test_formats_with_times_refuse_a_transcript_without(format_: str) -> None:
    with pytest.raises(ConfigError, match=f"{format_} needs .*timestamps=True"):
        render(Transcript("no times"), format_)


def test_unknown_format() -> None:
    with pytest.raises(ConfigError, match=r"unknown format 'doc'.*srt"):
        render(spoken("a"), "doc")


def test_vtt_escapes_what_would_be_markup() -> None:
    text = render(spoken("a <b> & c --> d", speaker="R&D <x>"), "vtt")
    assert "<v R&amp;D &lt;x&gt;>a &lt;b&gt; &amp; c --&gt; d\n" in text


def test_srt_names_speakers_and_cannot_be_cut_by_an_arrow() -> None:
    assert blocks(render(spoken("a --> b", speaker="Ann"), "srt"))[0][2] == "Ann: a -> b"


def test_the_speaker_takes_room_in_the_first_line_of_a_turn() -> None:
    transcript = spoken("abcdefgh " * 20, speaker="Ann")
    shown = blocks(render(transcript, "srt", subtitles=SubtitleOptions(max_line_width=24)))
    assert len(shown) > 3
    assert [block[2][:3] for block in shown] == ["Ann"] + ["abc"] * (len(shown) - 1)
    assert {len(line) for block in shown for line in block[2:]} <= {22, 17, 13, 8}


def test_lines_break_at_clauses_and_balance() -> None:
    text = (
        "Well, I really don't know what to say of the matter, except that it was the best of times."
    )
    lines = [line for block in blocks(render(spoken(text), "srt")) for line in block[2:]]
    assert lines == [
        "Well, I really don't know",
        "what to say of the matter,",
        "except that it was the best of times.",
    ]


def test_no_line_of_one_short_word_where_avoidable() -> None:
    text = "Nobody in the whole wide world expected an answer so"
    lines = [line for block in blocks(render(spoken(text), "srt")) for line in block[2:]]
    assert all(len(line) > 6 for line in lines), lines


def test_a_long_pause_ends_a_cue() -> None:
    first, second = spoken("one two"), spoken("three four", start=5.0)
    words = first.words + second.words
    both = Transcript("one two three four", (Segment("one two three four", 0, 5.5, words),), words)
    shown = cues(both.segments, SubtitleOptions())
    assert [(cue.start, cue.end) for cue in shown] == [(0.0, 1.0), (5.0, 6.0)]


def test_a_short_cue_stays_but_never_into_the_next() -> None:
    segments = (*spoken("Yes.").segments, *spoken("No.", start=0.6).segments)
    shown = cues(segments, SubtitleOptions(min_duration=1.0))
    assert [(cue.start, cue.end) for cue in shown] == [(0.0, 0.6), (0.6, 1.6)]


def test_max_duration() -> None:
    shown = cues(spoken("a b c d e f g h i j", pace=1.0).segments, SubtitleOptions(max_duration=3))
    assert all(cue.end - cue.start <= 3 for cue in shown)
    assert len(shown) >= 4


def test_scripts_without_spaces_break_too() -> None:
    text = "今天天气很好我们一起去公园散步吧然后晚上回家吃饭看电视睡觉明天继续工作学习生活"
    lines = [
        line
        for b in blocks(render(Transcript(text, (Segment(text, 0, 9),)), "srt"))
        for line in b[2:]
    ]
    assert all(columns(line) <= 42 for line in lines)
    assert "".join(lines) == text
    by_character = tuple(Word(c, 0.1 * i, 0.1 * i + 0.1) for i, c in enumerate(text))
    shown = cues((Segment(text, 0, 9, by_character),), SubtitleOptions())
    assert "".join(join(line) for cue in shown for line in cue.lines) == text


def test_highlighting_underlines_each_word_in_turn() -> None:
    text = render(spoken("One two."), "srt", subtitles=SubtitleOptions(highlight_words=True))
    assert [(b[1], b[2]) for b in blocks(text)] == [
        ("00:00:00,000 --> 00:00:00,200", "<u>One</u> two."),
        ("00:00:00,200 --> 00:00:00,300", "One two."),
        ("00:00:00,300 --> 00:00:00,500", "One <u>two.</u>"),
        ("00:00:00,500 --> 00:00:01,000", "One two."),
    ]


@pytest.mark.parametrize(
    "options", [{"max_line_width": 0}, {"max_line_count": 0}, {"min_duration": 9.0}]
)
def test_options_that_cannot_be(options: dict) -> None:
    with pytest.raises(ConfigError):
        SubtitleOptions(**options)


WORDS = st.lists(
    st.tuples(st.text(st.sampled_from("abcdé.,?日本")), st.floats(0, 3), st.floats(0, 2)).filter(
        lambda w: w[0].strip()
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(WORDS, st.integers(2, 50), st.integers(1, 3), st.booleans())
def test_cues_hold_every_word_within_their_bounds(words, width, count, marked) -> None:
    at, said = 0.0, []
    for text, gap, length in words:
        at += gap
        said.append(Word(text, at, at + length))
        at += length
    text = " ".join(w.text for w in said)
    segment = Segment(text, said[0].start, said[-1].end, tuple(said))
    options = SubtitleOptions(width, count, highlight_words=marked)
    shown = cues((segment,), options)
    kept = "".join(join(line) for cue in shown for line in cue.lines)
    assert kept.replace(" ", "") == text.replace(" ", "")
    for cue in shown:
        assert len(cue.lines) <= count
        assert all(columns(join(line)) <= width for line in cue.lines)
        assert cue.end >= cue.start
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(shown))
    times = re.findall(
        r"(\S+) --> (\S+)", render(Transcript(text, (segment,)), "vtt", subtitles=options)
    )
    starts = [start for start, _ in times]
    assert starts == sorted(starts)


def test_save_takes_the_format_from_the_suffix(tmp_path: Path) -> None:
    transcript = spoken("Hello there.")
    path = transcript.save(tmp_path / "talk.CTM")
    assert path.read_text().startswith("talk 1 0.000")
    assert transcript.save(str(tmp_path / "a.srt")) == tmp_path / "a.srt"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.srt", "talk.CTM"]
    with pytest.raises(ConfigError, match=r"a\.doc: the suffix"):
        transcript.save(tmp_path / "a.doc")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        spoken("new").save(path)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        spoken("a").save(tmp_path / "no" / "a.txt")
    assert caught.value.filename == str(tmp_path / "no" / "a.txt")


def test_warnings_of_the_sound_are_kept_in_json_and_left_out_where_there_are_none() -> None:
    said = Transcript("hi", warnings=("1.2 seconds are missing",))
    assert json.loads(render(said, "json"))["warnings"] == ["1.2 seconds are missing"]
    assert Transcript.from_dict(said.to_dict()) == said
    assert "warnings" not in Transcript("hi").to_dict()
    assert Transcript.from_dict({"text": "hi"}).warnings == ()
