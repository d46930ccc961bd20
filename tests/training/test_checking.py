"""The check before training: what it counts, what it shows, what it refuses, what it drops."""

from __future__ import annotations

import io
import json
import tarfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from auricle.errors import ConfigError, ManifestError
from auricle.models.asr import PromptConfig
from auricle.tokenizers import AggregateTokenizer, CharTokenizer, SentencePieceTokenizer
from auricle.training.alignment import ModelFacts
from auricle.training.check_report import CheckReport, some_of_each
from auricle.training.checking import bad_rows, check, sifted
from auricle.training.recipe import DataRecipe, JoinRecipe, SourceRecipe
from auricle.training.sources import Source, open_sources

LETTERS = CharTokenizer([" ", *"abcdefghijklmnopqrstuvwxyz'", "<noise>"])
CTC = ModelFacts(("ctc",), lambda seconds: int(seconds / 0.08))
RNNT = ModelFacts(("rnnt",), CTC.steps)


def recording(path: Path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * round(8000 * seconds)))


def row(folder: Path, name: str, text: str = "hello", seconds: float = 2.0, **other: Any) -> str:
    """A row of a manifest, whose recording is made."""
    recording(folder / name, seconds)
    data = {"audio_filepath": name, "duration": seconds, "text": text, **other}
    return json.dumps(data)


def manifest(folder: Path, rows: Sequence[str], name: str = "train.jsonl") -> SourceRecipe:
    (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return SourceRecipe(manifest=str(folder / name))


def opened(source: SourceRecipe, data: DataRecipe | None = None) -> list[Source]:
    return open_sources([source], data or DataRecipe(text="as_is"))


def found(report: CheckReport) -> Mapping[str, int]:
    return {problem.kind: problem.items for problem in report.problems}


def looked(folder: Path, rows: Sequence[str], **options: Any) -> CheckReport:
    facts = options.pop("model", CTC)
    tokenizer = options.pop("tokenizer", LETTERS)
    data = DataRecipe(text="as_is", invalid=options.pop("invalid", "skip"))
    return check(opened(manifest(folder, rows)), tokenizer, data, facts, **options)


def test_good_data_pass(tmp_path: Path) -> None:
    report = looked(tmp_path, [row(tmp_path, f"{i}.wav", seconds=2 + i) for i in range(3)])
    assert report.passed and not report.problems and not report.dropped
    assert (report.items, report.kept, report.seconds, report.kept_seconds) == (3, 3, 9, 9)
    assert dict(report.durations)[2.0] == 1 and dict(report.durations)[5.0] == 1
    report.refuse()


@pytest.mark.parametrize("deep", [False, True])
def test_missing_and_empty_files(tmp_path: Path, deep: bool) -> None:
    rows = [row(tmp_path, f"{name}.wav") for name in "abcd"]
    (tmp_path / "b.wav").unlink()
    (tmp_path / "c.wav").write_bytes(b"")
    (tmp_path / "d.wav").unlink()
    (tmp_path / "d.wav").mkdir()
    report = looked(tmp_path, rows, deep=deep)
    assert found(report) == {"missing": 1, "unreadable": 2}
    assert report.problems[0].examples == (str(tmp_path / "b.wav"),)
    assert report.kept == 1 and report.kept_seconds == 2.0


def test_headers_are_read_when_it_looks_deeper(tmp_path: Path) -> None:
    rows = [row(tmp_path, f"{name}.wav", seconds=3) for name in "abcd"]
    recording(tmp_path / "b.wav", 2.2)
    recording(tmp_path / "c.wav", 2.9)  # a tenth of a second is nothing
    (tmp_path / "d.wav").write_bytes(b"no sound at all")
    assert found(looked(tmp_path, rows)) == {}
    report = looked(tmp_path, rows, deep=True)
    assert found(report) == {"unreadable": 1, "header": 1}
    said = report.problems[1].examples[0]
    assert said == f"{tmp_path / 'b.wav'}: 3.00 s in the row, 2.20 s in the file"
    # A training does not read headers beforehand: it hears what there is.
    assert [problem.drops for problem in report.problems] == [True, False]
    assert report.kept == 3


def test_characters_that_labels_lack(tmp_path: Path) -> None:
    texts = ["hello <noise> you", "Straße 5", "fünf Straßen", "it's", "<laugh>"]
    report = looked(tmp_path, [row(tmp_path, f"{i}.wav", text) for i, text in enumerate(texts)])
    assert found(report) == {"characters": 3}
    assert report.characters == {"ß": 2, "5": 1, "ü": 1, "<": 1, ">": 1}
    assert report.problems[0].examples[0].endswith("1.wav: '5', 'ß'")
    assert "'ß' 2, " in report.text()


def pieces(texts: Sequence[str], **options: Any) -> SentencePieceTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, minloglevel=2, **options
    )
    return SentencePieceTokenizer(model.getvalue())


def test_characters_that_pieces_lack(tmp_path: Path) -> None:
    tokenizer = pieces(
        ["the cat sat", "a dog and a cat"] * 10, vocab_size=17, user_defined_symbols="<noise>"
    )
    texts = ["the cat", "the zebra: yes", "<noise> cat", "<noise> x", "the\u2003cat"]
    rows = [row(tmp_path, f"{i}.wav", text) for i, text in enumerate(texts)]
    report = looked(tmp_path, rows, tokenizer=tokenizer)
    assert found(report) == {"characters": 2}  # a wide space is written as a space
    assert {"z", "x", ":"} <= set(report.characters) and "\u2003" not in report.characters


def test_a_language_without_a_vocabulary(tmp_path: Path) -> None:
    tokenizer = AggregateTokenizer({"en": LETTERS, "es": CharTokenizer([" ", *"abcño"])})
    rows = [
        row(tmp_path, "a.wav", "go", lang="en"),
        row(tmp_path, "b.wav", "go", lang="fr"),
        row(tmp_path, "c.wav", "año", lang="es"),
        row(tmp_path, "d.wav", "año", lang="en"),
    ]
    report = looked(tmp_path, rows, tokenizer=tokenizer)
    assert found(report) == {"text": 1, "characters": 1}
    assert report.characters == {"ñ": 1}
    assert "language 'fr' has no vocabulary" in report.problems[0].examples[0]


def test_languages_that_the_model_is_not_told(tmp_path: Path) -> None:
    told = replace(RNNT, prompt=PromptConfig(2, {"en": 0, "German": 1}, default_language=""))
    rows = [
        row(tmp_path, "a.wav"),
        row(tmp_path, "b.wav", lang="en"),
        row(tmp_path, "c.wav", lang="xx"),
    ]
    report = looked(tmp_path, rows, model=told)
    assert (found(report), report.kept) == ({"language": 2}, 1)
    (problem,) = report.problems
    assert "no language, and the model knows en, German" in problem.examples[0]
    assert "'xx', and the model knows" in problem.examples[1]


def test_texts_longer_than_the_output(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a.wav", "abcdefghijkl", 1), row(tmp_path, "b.wav", "abccdefghijk", 1)]
    report = looked(tmp_path, rows)
    assert found(report) == {"long": 1} and report.kept == 1
    assert "CTC needs 13 steps for 12 tokens, 1.00 s of sound make 12" in report.text()
    assert "skipped" in report.text()
    rows.append(row(tmp_path, "c.wav", "abcdefghijklm", 1))
    report = looked(tmp_path, rows, model=RNNT)
    assert found(report) == {"long": 1} and report.kept == 3
    assert "learnt from all the same" in report.text()


def test_sound_too_short_for_one_step_is_dropped_for_all_heads(tmp_path: Path) -> None:
    short = ModelFacts(("rnnt",), lambda seconds: int(seconds / 10))
    report = looked(tmp_path, [row(tmp_path, "a.wav", "a")], model=short)
    assert found(report) == {"duration": 1} and not report.kept


def test_empty_texts_are_counted_and_kept(tmp_path: Path) -> None:
    report = looked(tmp_path, [row(tmp_path, "a.wav", " "), row(tmp_path, "b.wav")])
    assert found(report) == {"empty": 1} and report.kept == 2 and report.passed


def test_rows_that_are_no_json_are_all_named_with_their_lines(tmp_path: Path) -> None:
    good = row(tmp_path, "a.wav")
    source = manifest(tmp_path, [good, "{not json", good, '{"duration": 3}'])
    other = manifest(tmp_path, [good, "[]"], "other.jsonl")
    rows = bad_rows([source, other, SourceRecipe(dataset="somewhere")])
    assert [line.partition(": ")[0] for line in rows] == [
        f"{tmp_path / 'train.jsonl'}, line 2",
        f"{tmp_path / 'train.jsonl'}, line 4",
        f"{tmp_path / 'other.jsonl'}, line 2",
    ]
    report = check([], LETTERS, DataRecipe(), CTC, rows=rows)
    assert found(report) == {"row": 3} and not report.passed
    with pytest.raises(ManifestError, match=r"rows that cannot be read: 3 \(.*line 2: not JSON"):
        report.refuse()


def test_many_bad_rows_are_counted_with_a_few_of_each_kind(tmp_path: Path) -> None:
    """Of manifests, tars and folders alike."""
    kinds = [
        '{"audio_filepath": "a.wav"',
        '{"duration": 3}',
        '{"audio_filepath": "a", "duration": -1}',
    ]
    source = manifest(tmp_path, [f"{kinds[i % 3]}" for i in range(3000)])
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "metadata.jsonl").write_text('{"text": "no name"}\n[]\n' * 2)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (
            ("a.wav", b"x"),
            ("a.json", b"{"),
            ("b.wav", b"x"),
            ("b.json", b"[]"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sources = [source, SourceRecipe(dataset=str(folder)), SourceRecipe(tar=str(tmp_path / "a.tar"))]
    rows = bad_rows(sources)
    assert len(rows) == 3000 + 4 + 2
    shown = list(some_of_each(rows))
    assert shown[:3] == rows[:3]
    assert shown[-3:] == [
        "and 996 more rows: not JSON",
        "and 995 more rows: needs audio_filepath, the recording's path",
        "and 995 more rows: duration must be 0 or more seconds",
    ]
    assert len(shown) < 30
    assert len(list(some_of_each(f"m.jsonl, line 1: {i} is odd" for i in range(9999)))) < 30


def test_what_the_recipe_left_out_is_said(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a.wav"), row(tmp_path, "b.wav", seconds=25)]
    report = looked(tmp_path, rows)
    assert report.sources[0].left_out == {"max_seconds (20)": 1}
    assert "max_seconds (20): 1" in report.text()


def test_the_recipe_decides_between_skipping_and_refusing(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a.wav"), row(tmp_path, "b.wav", "zwölf")]
    looked(tmp_path, rows).refuse()
    report = looked(tmp_path, rows, invalid="refuse")
    assert not report.passed and "refused" in report.text()
    with pytest.raises(ConfigError, match=r"tokenizer cannot write: 1 \(.*'ö'\): set data"):
        report.refuse()
    (tmp_path / "a.wav").unlink()
    report = check(opened(manifest(tmp_path, rows)), LETTERS, DataRecipe(invalid="refuse"), CTC)
    with pytest.raises(
        ManifestError, match=r"missing files: 1 \(.*a.wav\): check .*cannot write: 1$"
    ):
        report.refuse()


def test_nothing_left_is_refused_even_where_bad_items_are_skipped(tmp_path: Path) -> None:
    report = looked(tmp_path, [row(tmp_path, "a.wav", "ЯЯ")])
    with pytest.raises(ConfigError, match="cannot write"):
        report.refuse()


def test_json_and_a_few_examples_of_many(tmp_path: Path) -> None:
    rows = [row(tmp_path, f"{i}.wav", "ö\u00a0") for i in range(9)] + [row(tmp_path, "x.wav")]
    report = looked(tmp_path, rows)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["items"] == 10 and plain["kept"] == 1 and plain["passed"] is True
    (problem,) = plain["problems"]
    assert problem["items"] == 9 and len(problem["examples"]) == 5 and problem["drops"]
    assert problem["what"] == "texts that the tokenizer cannot write" and problem["cure"]
    assert plain["durations"] == [{"up_to": 2.0, "items": 10}]
    lines = report.text().splitlines()
    assert "    ..." in lines and "U+00A0 NO-BREAK SPACE 9" in report.text()
    assert lines[-1] == "1 of 10 items can be learnt from: 0.00 of 0.01 hours"


def test_hours_long_items_have_their_place_in_json(tmp_path: Path) -> None:
    data = DataRecipe(max_seconds=1e6)
    report = check(
        opened(manifest(tmp_path, [row(tmp_path, "a.wav", seconds=61)]), data), None, data
    )
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["durations"] == [{"up_to": None, "items": 1}]
    assert "over 60 s          1 #" in report.text()


def test_sifted_sources_leave_out_what_was_dropped(tmp_path: Path) -> None:
    rows = [row(tmp_path, f"{i}.wav", "ö" if i % 3 == 0 else "yes") for i in range(9)]
    (source,) = opened(manifest(tmp_path, rows))
    report = check([source], LETTERS, DataRecipe(), CTC)
    good = sifted(source, report)
    assert good.size == 6 and [item.text for item in good.items()] == ["yes"] * 6
    first, second = (
        [item.name for item in good.order(np.random.default_rng(seed))] for seed in (0, 1)
    )
    assert sorted(first) == sorted(second) and first != second and len(first) == 6


def test_of_equal_names_and_texts_only_what_is_bad_is_dropped(tmp_path: Path) -> None:
    """As of two stretches from the beginning of a file."""
    rows = [row(tmp_path, "a.wav", "abcdefghijklmnop", seconds) for seconds in (1.0, 2.0)]
    (source,) = opened(manifest(tmp_path, rows))
    report = check([source], LETTERS, DataRecipe(), CTC)
    assert [item.duration for item in sifted(source, report).items()] == [2.0]


def test_joined_sources_are_looked_at_part_by_part(tmp_path: Path) -> None:
    rows = [row(tmp_path, f"{i}.wav", "ö" if i == 0 else "yes", speaker="x") for i in range(7)]
    recipe = manifest(tmp_path, rows)
    (source,) = opened(SourceRecipe(manifest=recipe.manifest, join=JoinRecipe(count=(2, 2))))
    report = check([source], LETTERS, DataRecipe(), CTC)
    assert (report.items, report.kept) == (7, 6)
    assert all("ö" not in item.text for item in sifted(source, report).items())


def test_without_tokenizer_and_model_only_files_are_looked_at(tmp_path: Path) -> None:
    report = looked(tmp_path, [row(tmp_path, "a.wav", "ö" * 999)], tokenizer=None, model=None)
    assert report.passed and not report.problems
