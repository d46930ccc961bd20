"""Tokenizers from text: sizes, special pieces, equal bytes, files, and every refusal."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auricle.checkpoints.sentencepiece_model import CHAR, USER_DEFINED, parse
from auricle.errors import CheckpointError, ConfigError, ManifestError
from auricle.tokenizers import (
    AggregateTokenizer,
    CharTokenizer,
    SentencePieceTokenizer,
)
from auricle.training.recipe import TokenizerRecipe
from auricle.training.tokenizing import BuildOptions, build, open_tokenizer, read_texts, save
from tests.conftest import GOLDEN, ROOT
from tests.test_tokenizers import hugging_face

TEXTS = [
    line
    for page in ("README.md", "docs/architecture.md", "docs/differences.md")
    for line in re.sub(r"[^a-z' \n]+", " ", (ROOT / page).read_text("utf-8").lower()).split("\n")
]
SMALL = ["hello world this is a test", "the quick brown fox", "ja", "x y"]


@pytest.mark.parametrize(("kind", "size"), [("unigram", 200), ("bpe", 200), ("char", 29)])
def test_the_text_comes_back(kind: str, size: int) -> None:
    tokenizer = build(TEXTS, TokenizerRecipe(kind=kind, size=200))
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert len(tokenizer.pieces) == size
    assert tokenizer.pieces[0] == "<unk>"
    for text in filter(None, (" ".join(line.split()) for line in TEXTS)):
        ids = tokenizer.encode(text)
        assert 0 not in ids
        assert tokenizer.decode(ids) == text
    if kind == "char":
        assert parse(tokenizer.model).algorithm == CHAR
        assert all(len(piece) == 1 for piece in tokenizer.pieces[1:])


def test_the_same_text_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """And in another folder: the model holds neither path nor time."""
    recipe = TokenizerRecipe(size=150, special=("<noise>",))
    first = build(TEXTS, recipe)
    (tmp_path / "text").write_text("\n".join(TEXTS), encoding="utf-8")
    program = (
        "from pathlib import Path; from auricle.training.tokenizing import *\n"
        "recipe = TokenizerRecipe(size=150, special=('<noise>',))\n"
        "save(build(read_texts(Path('text')), recipe), Path('tokenizer'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    model = (tmp_path / "tokenizer" / "tokenizer.model").read_bytes()
    assert model == first.files()["tokenizer.model"]
    for word in (str(tmp_path), str(Path.cwd()), "tokenizer.model"):
        assert word.encode() not in model


def test_special_pieces_are_never_cut_and_control_pieces_never_met() -> None:
    texts = [f"{text} <noise> more" for text in TEXTS]
    options = BuildOptions(control=("<c>",), eos=True, pad=True)
    tokenizer = build(texts, TokenizerRecipe(size=200, special=("<noise>", "|x|")), options)
    assert tokenizer.pieces[:6] == ("<unk>", "</s>", "<pad>", "<c>", "<noise>", "|x|")
    ids = tokenizer.encode("the <noise> word|x|")
    assert 4 in ids and ids[-1] == 5
    assert tokenizer.decode(ids) == "the <noise> word|x|"
    assert 3 not in tokenizer.encode("<c> a")


def test_case_is_folded_in_the_tokenizer_only_on_demand() -> None:
    recipe = TokenizerRecipe(size=60)
    plain = build(TEXTS, recipe)
    folding = build([text.upper() for text in TEXTS], recipe, BuildOptions(fold_case=True))
    assert folding.encode("The WORD") == folding.encode("the word")
    assert folding.decode(folding.encode("The WORD")) == "the word"
    assert 0 in plain.encode("The WORD")


def test_bytes_digits_and_lengths() -> None:
    texts = [*TEXTS, "in 1234 and 1234 and 1234"]
    tokenizer = build(
        texts,
        TokenizerRecipe(size=400),
        BuildOptions(byte_fallback=True, split_digits=True, max_piece_length=3),
    )
    assert tokenizer.decode(tokenizer.encode("a é 12")) == "a é 12"
    assert all(len(p) <= 3 for p in tokenizer.pieces if not p.startswith("<"))
    assert not any(re.search(r"\d.*\d", p) for p in tokenizer.pieces if not p.startswith("<"))


def test_rare_characters_go_below_full_coverage() -> None:
    texts = [*TEXTS * 3, "é"]
    assert "é" in "".join(build(texts, TokenizerRecipe(size=60)).pieces)
    rare = build(texts, TokenizerRecipe(size=60, character_coverage=0.99))
    assert "é" not in "".join(rare.pieces)


def test_long_texts_are_learnt_from() -> None:
    assert len(build(["abc de " * 1000], TokenizerRecipe(kind="char")).pieces) == 7


def test_a_sample_is_the_same_each_time_and_keeps_to_its_number() -> None:
    recipe = TokenizerRecipe(kind="char", size=100)
    texts = [chr(0x4E00 + n) for n in range(60)]
    first = build(texts, recipe, BuildOptions(sample=10))
    assert len(first.pieces) == 12  # <unk>, the space, and ten characters
    assert first.files() == build(iter(texts), recipe, BuildOptions(sample=10)).files()
    assert len(build(texts, recipe, BuildOptions(sample=1000)).pieces) == 62


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_size_too_large_is_refused_with_the_largest_possible(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"size 5000 is too large .* gives \d+ pieces") as error:
        build(SMALL * 5, TokenizerRecipe(kind=kind, size=5000))
    assert "\n" not in str(error.value)
    largest = int(re.search(r"gives (\d+)", str(error.value))[1])
    assert len(build(SMALL * 5, TokenizerRecipe(kind=kind, size=largest)).pieces) == largest
    with pytest.raises(ConfigError, match="too large"):
        build(SMALL * 5, TokenizerRecipe(kind=kind, size=largest + 1))


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_a_size_too_small_is_refused_with_the_smallest_possible(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"size 10 is too small .* take 23 pieces"):
        build(SMALL * 5, TokenizerRecipe(kind=kind, size=10))
    assert len(build(SMALL * 5, TokenizerRecipe(kind=kind, size=23)).pieces) == 23


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"size": 1}, {}, "size must be 2 or more, got 1"),
        ({"character_coverage": 0.5}, {}, "character_coverage must be from 0.98 to 1, got 0.5"),
        ({"special": ("a b",)}, {}, "'a b' is empty or holds a space"),
        ({"special": ("",)}, {}, "'' is empty"),
        ({"special": ("<x>", "<x>")}, {}, "<x> is there already"),
        ({"special": ("<x>",)}, {"control": ("<x>",)}, "<x> is there already"),
        ({"special": ("<unk>",)}, {}, "<unk> is there already"),
        ({}, {"sample": 0}, "the sample must be 1 text or more, got 0"),
        ({}, {"max_piece_length": 0}, "1 character or more, got 0"),
    ],
)
def test_options_that_cannot_be(change: dict, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        build(SMALL, TokenizerRecipe(**{"size": 30, **change}), BuildOptions(**options))


def test_no_text_and_half_characters_are_refused() -> None:
    with pytest.raises(ManifestError, match="there is no text to build a tokenizer from"):
        build(["", "  "], TokenizerRecipe())
    with pytest.raises(ManifestError, match=r"'\\ud800a' holds half a character"):
        build(["\ud800a"], TokenizerRecipe())


def test_sentencepiece_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    build(TEXTS, TokenizerRecipe(size=100))
    with pytest.raises(ConfigError):
        build(SMALL, TokenizerRecipe(size=5000))
    assert capfd.readouterr() == ("", "")


def test_a_saved_tokenizer_opens_by_folder_and_by_file(tmp_path: Path) -> None:
    made = build(TEXTS, TokenizerRecipe(size=100, special=("<noise>",)), BuildOptions(bos=True))
    save(made, tmp_path / "deep" / "folder")
    folder = tmp_path / "deep" / "folder"
    names = {"tokenizer.model", "tokenizer.vocab", "vocab.txt"}
    assert {path.name for path in folder.iterdir()} == names
    for path in (folder, folder / "tokenizer.model"):
        again = build(iter(()), TokenizerRecipe(path=str(path)))
        assert again.files() == made.files()
    scored = (folder / "tokenizer.vocab").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in scored] == list(made.pieces)
    words = (folder / "vocab.txt").read_text("utf-8").splitlines()
    assert len(words) == 97  # without <unk>, <s> and <noise>
    assert [p.text for p in parse(made.model).pieces if p.kind == USER_DEFINED] == ["<noise>"]


def test_other_tokenizers_open_too(tmp_path: Path) -> None:
    of_checkpoint = open_tokenizer(GOLDEN / "nemo" / "parakeet_tdt.nemo")
    assert isinstance(of_checkpoint, SentencePieceTokenizer)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("[UNK]\na\n##b\n")
    assert open_tokenizer(tmp_path / "words").pieces == ("[UNK]", "a", "##b")
    save(CharTokenizer("ab "), tmp_path / "labels")
    assert open_tokenizer(tmp_path / "labels").pieces == ("a", "b", " ")


def test_every_kind_that_a_checkpoint_has_is_saved(tmp_path: Path) -> None:
    """A run keeps the tokenizer it began with, whatever its kind, and opens it to go on."""
    letters = CharTokenizer("ab ")
    pieces = build(TEXTS, TokenizerRecipe(size=100))
    several = AggregateTokenizer({"de": letters, "en": pieces, "es": letters})
    for number, made in enumerate((several, hugging_face(blank_first=True))):
        save(made, tmp_path / str(number))
        again = open_tokenizer(tmp_path / str(number))
        assert (again.spec, again.pieces, again.files()) == (made.spec, made.pieces, made.files())
    assert open_tokenizer(tmp_path / "0").encode("ab", "es") == several.encode("ab", "es")
    (tmp_path / "0" / "auricle_tokenizer.json").write_text('{"kind": "aggregate"}')
    damaged = r"auricle_tokenizer\.json is damaged: tokenizer\.parts"
    with pytest.raises(CheckpointError, match=damaged):
        open_tokenizer(tmp_path / "0")


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no tokenizer at .*nowhere: no such file"):
        build(SMALL, TokenizerRecipe(path=str(tmp_path / "nowhere")))
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.model"):
        open_tokenizer(tmp_path)
    (tmp_path / "labels.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"labels\.json is no list of texts"):
        open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="sentencepiece model cannot be read"):
        open_tokenizer(tmp_path)


def test_texts_of_manifests_and_text_files(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "a.wav", "text": t} for t in ("one", "two")]
    rows.insert(1, {"audio_filepath": "b.wav"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "m.jsonl").write_text(lines)
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "t.txt").write_bytes("\ufeffone\r\ntwö\n".encode())
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(b"one\n"))
    assert list(read_texts(tmp_path / "m.jsonl")) == ["one", "two"]
    assert list(read_texts(tmp_path / "m.json.gz")) == ["one", "two"]
    assert list(read_texts(tmp_path / "t.txt")) == ["one", "twö"]
    assert list(read_texts(tmp_path / "t.txt.gz")) == ["one"]


def test_texts_that_cannot_be_read_say_where(tmp_path: Path) -> None:
    def refusal(name: str, content: bytes | None) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ManifestError) as error:
            list(read_texts(tmp_path / name))
        return str(error.value)

    assert "t.txt: no such file" in refusal("t.txt", None)
    assert "t.txt, line 2: not UTF-8" in refusal("t.txt", b"a\n\xff\n")
    assert "t.gz, line 1: damaged gzip" in refusal("t.gz", b"no gzip")
    assert "u.gz, line 101: damaged gzip" in refusal("u.gz", gzip.compress(b"a\n" * 100)[:-9])
    assert "m.jsonl, line 1: not JSON" in refusal("m.jsonl", b"{\n")
    (tmp_path / "folder").mkdir()
    assert "folder: cannot be read" in refusal("folder", None)
