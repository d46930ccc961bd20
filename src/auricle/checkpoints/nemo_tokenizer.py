"""The tokenizer section of a NeMo configuration and the artefacts it names, both ways."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from auricle.checkpoints.nemo_archive import NemoArchive
from auricle.checkpoints.sections import Section
from auricle.checkpoints.sentencepiece_model import tokenizer_folder
from auricle.checkpoints.tokenizer_json import to_sentencepiece
from auricle.config import shown, shown_name
from auricle.errors import CheckpointError
from auricle.tokenizers import (
    AggregateTokenizer,
    CharTokenizer,
    HFTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    read_vocabulary,
)

IGNORED = ("dir", "hf_kwargs", "special_tokens", "update_tokenizer", "spe_tokenizer_vocab", "name")

_KEYS = {
    "tokenizer.model": "model_path",
    "vocab.txt": "vocab_path",
    "tokenizer.vocab": "spe_tokenizer_vocab",
}


def read_tokenizer(section: Section, archive: NemoArchive) -> Tokenizer:
    """The tokenizer that `section` describes, from the artefacts beside it.

    Raises:
        CheckpointError: An artefact is missing, or the kind is one that Auricle does not know.
    """
    kind = section.take("type", "bpe", str).lower()
    section.ignore(IGNORED)
    if section.take("custom_tokenizer", None):
        raise CheckpointError(
            f"{section.where}: tokenizer.custom_tokenizer names Python code, which is not run; "
            "only bpe, wpe and agg tokenizers are"
        )
    if kind == "agg":
        return _read_aggregate(section, archive)
    section.ignore(["langs"])
    if kind == "bpe":
        section.ignore(["vocab_path"])
        model = _artefact(section, archive, "model_path", "tokenizer.model")
        section.finish()
        return SentencePieceTokenizer(model)
    if kind == "wpe":
        section.ignore(["model_path"])
        vocabulary = read_vocabulary(_artefact(section, archive, "vocab_path", "vocab.txt"))
        section.finish()
        return WordPieceTokenizer(vocabulary)
    raise CheckpointError(
        f"{section.where}: tokenizer.type {shown(kind)} is not one of bpe, wpe, agg"
    )


def write_tokenizer(tokenizer: Tokenizer) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """The tokenizer section, None for characters, and the artefacts that it names.

    Artefact names carry a hash of their content where NeMo puts a random number, so that equal
    checkpoints are equal files.

    Raises:
        CheckpointError: A kind that NeMo has no form of.
    """
    if isinstance(tokenizer, CharTokenizer):
        return None, {}
    if isinstance(tokenizer, AggregateTokenizer):
        sections: dict[str, Any] = {}
        artefacts: dict[str, bytes] = {}
        for language, part in tokenizer.parts.items():
            section, files = write_tokenizer(part)
            if section is None:
                raise CheckpointError(f"NeMo cannot join characters ({language}) with other pieces")
            sections[language] = section
            artefacts.update(files)
        return {"type": "agg", "langs": sections}, artefacts
    if isinstance(tokenizer, WordPieceTokenizer):
        return _section("wpe", {"vocab_path": ("vocab.txt", tokenizer.files()["vocab.txt"])})
    if isinstance(tokenizer, SentencePieceTokenizer):
        files = tokenizer_folder(tokenizer.model)
        return _section("bpe", {_KEYS[name]: (name, content) for name, content in files.items()})
    if isinstance(tokenizer, HFTokenizer):
        return write_tokenizer(to_sentencepiece(tokenizer))
    raise CheckpointError(f"a {tokenizer.spec['kind']} tokenizer has no form in NeMo")


def _read_aggregate(section: Section, archive: NemoArchive) -> AggregateTokenizer:
    section.ignore(["model_path", "vocab_path"])
    languages = section.section("langs")
    parts = {}
    for language in languages.values:
        parts[language] = read_tokenizer(languages.section(language), archive)
    if not parts:
        raise CheckpointError(f"{section.where}: tokenizer.langs is empty; fetch it again")
    section.finish()
    return AggregateTokenizer(parts)


def _artefact(section: Section, archive: NemoArchive, key: str, usual: str) -> bytes:
    reference = section.take(key, usual, str)
    name = archive.find(reference) or archive.find(usual)
    if name is None:
        raise CheckpointError(
            f"{archive.path} lacks the tokenizer's file {shown_name(reference)} "
            f"({section.name(key)}); fetch the checkpoint again"
        )
    return archive.read(name)


def _section(
    kind: str, files: Mapping[str, tuple[str, bytes]]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    section: dict[str, Any] = {"dir": None, "type": kind}
    artefacts = {}
    for key, (name, content) in files.items():
        hashed = f"{hashlib.sha256(content).hexdigest()[:32]}_{name}"
        section[key] = f"nemo:{hashed}"
        artefacts[hashed] = content
    return section, artefacts
