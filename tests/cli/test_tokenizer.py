"""`auricle tokenizer`: what it writes and shows, and what it refuses."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from auricle.training.tokenizing import open_tokenizer
from tests.cli.conftest import Run, start
from tests.conftest import GOLDEN, ROOT
from tests.patience import PATIENCE

TEXTS = ["Hello World, this is it!", "The quick brown fox", "Jumps over the lazy dog", "Is it?"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl.gz"
    rows = [{"audio_filepath": f"{n}.wav", "text": text} for n, text in enumerate(TEXTS * 5)]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def test_build_from_manifests_and_text(run: Run, manifest: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("Zebra\n")
    folder = tmp_path / "out" / "tokenizer"
    code, out, err = run("tokenizer", "build", manifest, more, "-o", folder, "--size", "34")
    assert (code, out) == (0, f"{folder}\tunigram\t34 pieces\n")
    assert err == "auricle: building from 21 texts\n"
    tokenizer = open_tokenizer(folder)
    assert "Z" not in "".join(tokenizer.pieces) and "z" in "".join(tokenizer.pieces)
    assert tokenizer.decode(tokenizer.encode("Zebra FOX")) == "zebra fox"


@pytest.mark.parametrize(
    ("style", "said", "characters"),
    [
        ("lower", "the fox, it", "!,?"),
        ("plain", "the fox it", ""),
        ("upper", "THE FOX, IT", "!,?"),
        ("as_is", "The fox, it", "!,?"),
    ],
)
def test_styles_of_text(
    run: Run, manifest: Path, tmp_path: Path, style: str, said: str, characters: str
) -> None:
    run("tokenizer", "build", manifest, "-o", tmp_path / "t", "--kind", "char", "--text", style)
    tokenizer = open_tokenizer(tmp_path / "t")
    assert tokenizer.decode(tokenizer.encode(said)) == said
    pieces = "".join(tokenizer.pieces[1:])
    assert "".join(sorted(c for c in pieces if c in "!,?")) == characters
    upper = any(c.isupper() for c in pieces)
    assert upper == (style in ("upper", "as_is"))


def test_all_options_reach_the_builder(run: Run, manifest: Path, tmp_path: Path) -> None:
    options = ["--special", "<n>", "--special", "<m>", "--control", "<c>", "--bos", "--eos"]
    options += ["--pad", "--byte-fallback", "--split-digits", "--max-piece-length", "2"]
    options += ["--sample", "10", "--coverage", "0.999", "--size", "320", "--kind", "bpe", "-q"]
    code, _, err = run("tokenizer", "build", manifest, "-o", tmp_path / "t", *options)
    assert (code, err) == (0, "")
    pieces = open_tokenizer(tmp_path / "t").pieces
    assert pieces[:7] == ("<unk>", "<s>", "</s>", "<pad>", "<c>", "<n>", "<m>")
    assert "<0xFF>" in pieces
    code, out, _ = run("tokenizer", "show", tmp_path / "t", "--json")
    facts = json.loads(out)
    assert (facts["kind"], facts["size"], facts["byte_fallback"]) == ("bpe", 320, True)
    assert facts["special"] == list(pieces[:7])
    assert len(facts["longest"]) == 2


def test_a_tokenizer_is_replaced_only_on_demand(run: Run, manifest: Path, tmp_path: Path) -> None:
    command = ("tokenizer", "build", manifest, "-o", tmp_path / "t", "--kind", "char")
    assert run(*command)[0] == 0
    code, _, err = run(*command)
    assert code == 2 and "holds a tokenizer already: --overwrite replaces it" in err
    assert run(*command, "--overwrite")[0] == 0
    (tmp_path / "file").touch()
    code, _, err = run("tokenizer", "build", manifest, "-o", tmp_path / "file")
    assert code == 2 and "is a file" in err


def test_mistakes_are_one_line(run: Run, manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    empty = tmp_path / "empty.txt"
    empty.touch()
    for arguments, said in (
        ((manifest, "--size", "9000"), "too large for this text, which gives"),
        ((manifest, "--size", "5"), "too small for the characters of this text"),
        ((empty,), "there is no text to build a tokenizer from"),
        ((tmp_path / "none.txt",), "none.txt: no such file"),
        ((manifest, "--special", "<N>"), "--special <N> is never met: --text lower writes it"),
        ((manifest, "--kind", "wpe"), "wpe"),
    ):
        code, out, err = run("tokenizer", "build", *arguments, "-o", folder, "-q")
        assert (code, out) == (2, "")
        assert said in err and err.count("\n") == 1
    assert not folder.exists()


def test_the_commands_of_the_page(
    run: Run, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ auricle (tokenizer .*)$", page, re.MULTILINE)
    (tmp_path / "train.jsonl").write_bytes(gzip.decompress(manifest.read_bytes()))
    shutil.copy(manifest, tmp_path / "more.json.gz")
    shutil.copy(ROOT / "docs" / "streaming.md", tmp_path / "notes.txt")
    monkeypatch.chdir(tmp_path)
    assert len(commands) == 3
    for command in commands:
        code, out, err = run(*shlex.split(command))
        assert code == 0, err
    assert "round_trip  yes" in out


def test_the_terminal_is_not_flooded(manifest: Path, tmp_path: Path) -> None:
    process = start("tokenizer", "build", manifest, "-o", tmp_path / "t", "--size", "34")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.splitlines() == [f"{tmp_path / 't'}\tunigram\t34 pieces"]
    assert err.splitlines() == ["auricle: building from 20 texts"]


def test_show_says_what_a_tokenizer_is(run: Run) -> None:
    code, out, _ = run("tokenizer", "show", GOLDEN / "nemo" / "parakeet_tdt.nemo")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    tokenizer = open_tokenizer(GOLDEN / "nemo" / "parakeet_tdt.nemo")
    assert code == 0
    assert lines["kind"] in ("bpe", "unigram")
    assert int(lines["size"]) == len(tokenizer.pieces)
    assert lines["special"] == "<unk>"
    assert "a b c" in lines["characters"]
    code, out, _ = run("tokenizer", "show", GOLDEN / "nemo" / "stateless_rnnt.nemo")
    assert code == 0 and "languages" in out and "en es" in out


def test_show_cuts_a_text(run: Run, manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    run("tokenizer", "build", manifest, "-o", folder, "--size", "34", "--special", "<n>")
    code, out, _ = run("tokenizer", "show", folder / "tokenizer.model", "the fox <n>", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["ids"] == open_tokenizer(folder).encode("the fox <n>")
    assert "".join(facts["pieces"]) == "▁the▁fox▁<n>"
    assert facts["round_trip"] is True and facts["unknown"] == []
    _, out, _ = run("tokenizer", "show", folder, "The föx")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (lines["unknown"], lines["round_trip"]) == ("ö", "no")


def test_show_refuses_what_is_no_tokenizer(run: Run, tmp_path: Path) -> None:
    code, _, err = run("tokenizer", "show", tmp_path)
    assert code == 2 and "holds no tokenizer.model" in err and err.count("\n") == 1


def test_a_text_that_is_no_text_is_refused(run: Run) -> None:
    name = ROOT / "examples" / "digits"
    code, out, err = run("tokenizer", "show", name, "a\udcffb")
    assert (code, out, err) == (2, "", "auricle: error: the text is not UTF-8; give it in UTF-8\n")


@pytest.mark.parametrize("length", ["0", "513", "9" * 30])
def test_a_piece_has_a_length_that_can_be(run: Run, tmp_path: Path, length: str) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one two three\n" * 20)
    words = ("tokenizer", "build", texts, "-o", tmp_path / "tokenizer", "--size", "12")
    code, _, err = run(*words, "--max-piece-length", length)
    assert code == 2 and "the length of a piece must be" in err


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_a_size_that_no_tokenizer_has_is_refused(run: Run, manifest: Path, kind: str) -> None:
    words = ("-o", manifest.parent / "new", "--kind", kind, "--size", "9" * 20)
    code, _, err = run("tokenizer", "build", manifest, *words)
    assert code == 2 and "a tokenizer's size must be 2147483647 or less" in err
