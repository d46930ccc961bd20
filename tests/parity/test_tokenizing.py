"""Our tokenizer folders in NeMo, and NeMo's own beside ours for the same text."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from nemo.collections.asr.parts.mixins import ASRBPEMixin
from nemo.collections.common.tokenizers.sentencepiece_tokenizer import create_spt_model
from omegaconf import OmegaConf

from auricle.training.recipe import TokenizerRecipe
from auricle.training.tokenizing import BuildOptions, build, open_tokenizer, save
from tests.conftest import ROOT

pytestmark = pytest.mark.parity
TEXTS = [line for line in (ROOT / "README.md").read_text("utf-8").split("\n") if line.strip()]
KINDS = [("unigram", 200), ("bpe", 200), ("char", 120)]


class Model(ASRBPEMixin):
    """What NeMo's `setup_tokenizer` needs of a model."""

    def register_artifact(self, name: str, path: str, **_: object) -> str:
        return path


def in_nemo(folder: Path) -> Model:
    model = Model()
    model._setup_tokenizer(OmegaConf.create({"dir": str(folder), "type": "bpe"}))
    return model


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_nemo_takes_our_folder_and_gives_the_same_ids(kind, size, tmp_path: Path) -> None:
    ours = build(TEXTS, TokenizerRecipe(kind=kind, size=size, special=("<noise>",)))
    save(ours, tmp_path)
    theirs = in_nemo(tmp_path).tokenizer
    assert theirs.vocab_size == len(ours.pieces)
    assert theirs.vocab == list(ours.pieces)
    for text in [*TEXTS, "ünknown <noise> here", "", "  two  spaces "]:
        ids = ours.encode(text)
        assert theirs.text_to_ids(text) == ids
        assert theirs.ids_to_text(ids) == ours.decode(ids)


@pytest.mark.parametrize(("kind", "size"), KINDS)
@pytest.mark.parametrize("special", [(), ("<noise>",)])
def test_our_files_are_those_of_nemos_script(kind, size, special, tmp_path: Path) -> None:
    """The same pieces, scores and spellings; the models differ in what they record of the build."""
    data = tmp_path / "text.txt"
    data.write_text("\n".join(TEXTS), encoding="utf-8")
    create_spt_model(
        str(data),
        size,
        sample_size=-1,
        do_lower_case=True,
        tokenizer_type=kind,
        output_dir=str(tmp_path / "nemo"),
        user_defined_symbols=list(special),
        control_symbols=["<c>"],
        remove_extra_whitespaces=True,
    )
    ours = build(
        TEXTS,
        TokenizerRecipe(kind=kind, size=size, special=special),
        BuildOptions(fold_case=True, control=("<c>",)),
    )
    save(ours, tmp_path / "ours")
    for name in ("vocab.txt", "tokenizer.vocab"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "nemo" / name).read_text()
    theirs = open_tokenizer(tmp_path / "nemo")
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text)
