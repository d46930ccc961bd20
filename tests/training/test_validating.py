"""Validation: what a perfect model gets, what is counted as a word, and which rows are left out."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece
import torch

from auricle.decoding.times import decode_text
from auricle.metrics import Errors
from auricle.tokenizers import CharTokenizer, SentencePieceTokenizer, Tokenizer
from auricle.training.items import Batch, Item, Position
from auricle.training.loop import train
from auricle.training.progress import Silent
from auricle.training.sounds import BytesSound
from auricle.training.validating import Validation, validate
from tests.training.speech import tone, wav
from tests.training.tiny import SMALLER, metrics, tiny

# What a tokenizer's normalisation changes, and what nobody sees.
TEXTS = [
    "mo\u0323\u0302t hai bo\u0302\u0301n",
    "sa\u0301u ba\u0309y ta\u0301m",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01",
    "wait\u2026 a \u00bd mile",
    "\uff21\uff22\uff23 \uff11\uff12 \ufb01ne \u2122",
    "\uff76\uff9e\uff77\uff9e \u30ab\u3099",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u05e9\u05dc\u05d5\u05dd\u200f \u200e(\u05d0\u05d1)",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "zero\u200bwidth soft\u00adhyphen\ufeff",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u200b\u0e04\u0e23\u0e31\u0e1a",
    "no\u00a0break \u3000 wide",
]


def pieces(texts: Sequence[str], kind: str = "unigram") -> SentencePieceTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts] * 20),
        model_writer=model,
        model_type=kind,
        vocab_size=140,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue())


class Writer:
    """A model that writes what it is told to; it has one head."""

    heads = ("ctc",)
    default_head = "ctc"
    layers = ()
    drops_layers = False

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def eval(self) -> None:
        pass

    def judged(
        self, batch: Batch, tokenizer: Tokenizer
    ) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
        """The loss 0 of each text."""
        return {"loss": torch.zeros(())}, {"ctc": self.texts}


def judged(tokenizer: Tokenizer, said: Sequence[str], heard: Sequence[str]) -> Validation:
    items = tuple(Item(str(i), BytesSound(b"", ""), 1.0, text) for i, text in enumerate(said))
    nothing = torch.zeros(len(items), 1, 1)
    counts = torch.ones(len(items), dtype=torch.int64)
    batch = Batch(
        nothing, counts, counts[:, None], counts, None, items, (0,), Position(), ("lost",)
    )
    return validate(Writer(*heard), [batch], tokenizer, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_a_model_that_writes_the_tokenizers_form_makes_no_errors(kind: str) -> None:
    tokenizer = pieces(TEXTS, kind)
    perfect = [decode_text(tokenizer.encode(text), tokenizer)[0] for text in TEXTS]
    assert perfect != TEXTS
    found = judged(tokenizer, TEXTS, perfect)
    assert found.errors["ctc"].total == found.characters["ctc"].total == 0
    for text, clip in zip(TEXTS, found.heard, strict=True):
        alone = judged(tokenizer, [text], [clip["hypothesis"]])
        assert alone.errors["ctc"].rate == alone.characters["ctc"].rate == 0.0


def test_the_shared_texts_are_at_0(shared: Callable[[str], Path]) -> None:
    cases = json.loads(shared("cases/unicode/texts.json").read_text(encoding="utf-8"))
    del cases["what"]
    for texts in cases.values():
        tokenizer = pieces(texts, "bpe")
        perfect = [decode_text(tokenizer.encode(text), tokenizer)[0] for text in texts]
        assert judged(tokenizer, texts, perfect).errors["ctc"].total == 0


def test_characters_of_one_spelling_and_case_are_compared_as_they_are() -> None:
    labels = CharTokenizer([" ", "h", "e", "l", "o", "A", "\u00e9"])
    assert judged(labels, ["Hello, hello!"], ["hello hello"]).errors["ctc"].total == 0
    assert judged(labels, ["A"], ["a"]).errors["ctc"].total == 1
    composed = ["\u00e9"]
    decomposed = [unicodedata.normalize("NFD", text) for text in composed]
    assert judged(labels, composed, decomposed).errors["ctc"].total == 0


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_words_that_cannot_be_written_are_errors(kind: str) -> None:
    """NeMo compares with what is left of them, as if the model had been asked for no more."""
    letters = CharTokenizer([" ", *"strae weg"])
    tokenizer = letters if kind == "char" else pieces(["strasse weg"], kind)
    heard = decode_text(tokenizer.encode("stra\u00dfe weg"), tokenizer)[0]
    found = judged(tokenizer, ["stra\u00dfe weg"], [heard])
    assert found.heard[0]["reference"] == "stra\u00dfe weg"
    assert found.errors["ctc"].total >= 1 and found.errors["ctc"].words == 2


def test_scripts_without_spaces_are_judged_by_characters() -> None:
    said = ["\u4f60\u597d\u4e16\u754c", "\u3042\u308a", "hello"]
    found = judged(pieces(said), said, ["\u4f60\u597d \u754c", "\u3042 \u308a", ""])
    assert found.errors["ctc"] == Errors(deletions=2, words=4 + 2 + 1)
    assert (found.unspaced, found.lost) == (2, 1)


def test_numbers_add_up_over_ranks() -> None:
    one = Validation(
        2.0,
        {"ctc": Errors(1, 2, 3, 4), "rnnt": Errors(words=9)},
        5,
        characters={"ctc": Errors(words=7), "rnnt": Errors(1, words=20)},
        lost=2,
        unspaced=1,
    )
    both = [a + b for a, b in zip(one.numbers(), one.numbers(), strict=True)]
    found = Validation.of_numbers(both, one.errors)
    assert (found.loss, found.counted, found.lost, found.unspaced) == (2.0, 10, 4, 2)
    assert found.errors["ctc"] == Errors(2, 4, 6, 8)
    assert found.values("ctc") == {
        "loss": 2.0,
        "wer": 1.5,
        "wer_rnnt": 0.0,
        "cer": 0.0,
        "cer_rnnt": 0.05,
    }


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(line)


def test_what_a_wer_leaves_out_is_said_and_cer_can_be_monitored(tmp_path: Path) -> None:
    """A text too long for CTC and sound too long to learn from are judged all the same."""
    recipe = tiny(tmp_path, *SMALLER)
    folder = tmp_path / "data"
    lengths = {"long": 5.0, "longer": 9.0, "broken": 1.0, "wordy": 0.5, "other": 1.0}
    rows = []
    for name, seconds in lengths.items():
        (folder / f"{name}.wav").write_bytes(wav(tone(seconds)) if name != "broken" else b"no")
        text = "do " * (90 if name == "wordy" else 1)
        row = {"audio_filepath": f"{name}.wav", "duration": seconds, "text": text.strip()}
        rows.append({**row, "set": name})
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = ("data.max_seconds=4", "data.batch_seconds=6", "train.monitor=cer")
    held_out = f"data.validation=[{{manifest: {folder / 'dev.jsonl'}, unless: {{set: [other]}}}}]"
    steps = ("train.steps=2", "train.validate_every=1")
    recipe, told = tiny(tmp_path, *SMALLER, *changes, held_out, *steps), Told()
    result = train(recipe, tmp_path / "run", progress=told)
    found = metrics(tmp_path / "run", "validation")
    assert [row["left_out"] for row in found] == [2, 2]
    assert result.wer == min(row["cer"] for row in found)
    line = (
        "validation WER: 2 of 4 held-out rows are left out: "
        "1 by batch_seconds (6), 1 by sound or a text that cannot be used"
    )
    assert told.lines.count(line) == 1
    assert sum("broken.wav" in line for line in told.lines) == 1
    kept = [path.name for path in (tmp_path / "run/best").iterdir()]
    assert kept and all("-cer-" in name for name in kept)
