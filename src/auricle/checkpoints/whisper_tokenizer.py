"""The tokenizer that lies beside a Whisper checkpoint, as the text of a `tokenizer.json`.

Timestamps are the ids after the last special token; old tokenizers do not list them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from auricle.checkpoints.reading import read_bytes
from auricle.config import Within, fitted
from auricle.errors import CheckpointError, first_line

_SPECIAL = re.compile(r"<\|[a-z]+\|>")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
_END = "<|endoftext|>"
_Id = Annotated[int, Within(0, 2**22)]


def read_tokenizer(folder: Path) -> str:
    """A folder's tokenizer; made from `vocab.json` and `merges.txt` where that is all there is.

    Raises:
        CheckpointError: No tokenizer, or not one of Whisper's.
    """
    path = folder / "tokenizer.json"
    try:
        text = read_bytes(path).decode() if path.exists() else _from_merges(folder)
        content = json.loads(text)
        fitted(content["model"]["vocab"], Mapping[str, int], "model.vocab")
        for token in fitted(content["added_tokens"], tuple[Mapping[str, Any], ...], "added_tokens"):
            fitted(token["id"], _Id, "id")
            fitted(token["content"], str, "content")
        special_ids(text)[_END]
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no Whisper tokenizer ({type(error).__name__}: {first_line(error)}); copy "
            "the one of the original Whisper model there"
        ) from None
    return text


def special_ids(tokenizer: str) -> dict[str, int]:
    """Every special token but the timestamps, by its spelling: "<|endoftext|>", "<|en|>" ..."""
    added = json.loads(tokenizer)["added_tokens"]
    return {a["content"]: a["id"] for a in added if _SPECIAL.fullmatch(a["content"])}


def language_ids(ids: dict[str, int]) -> dict[str, int]:
    """The language tokens among the special ones."""
    return {token: id for token, id in ids.items() if _LANGUAGE.fullmatch(token)}


def is_multilingual(tokenizer: str) -> bool:
    """Whether this is the multilingual vocabulary: the English one has no empty token.

    Language tokens are in both.
    """
    return "" in json.loads(tokenizer)["model"]["vocab"]


def vocabulary(tokenizer: str, size: int) -> list[str]:
    """Every token by id; the rows that the tokenizer does not name are timestamps, 20 ms apart.

    Raises:
        CheckpointError: The tokenizer leaves out ids.
    """
    content = json.loads(tokenizer)
    by_id = {id: token for token, id in content["model"]["vocab"].items()}
    by_id |= {added["id"]: added["content"] for added in content["added_tokens"]}
    named = min(len(by_id), size)
    if sorted(by_id)[:named] != list(range(named)):
        raise CheckpointError("the tokenizer leaves out ids; take the original model's tokenizer")
    timestamps = (f"<|{0.02 * step:.2f}|>" for step in range(size - named))
    return [by_id[id] for id in range(named)] + list(timestamps)


def tokenizer_settings(tokenizer: str) -> dict[str, Any]:
    """A `tokenizer_config.json`. Transformers 5 reads times wrongly unless specials are listed."""
    specials = [token for token in special_ids(tokenizer) if token != _END]
    return {
        "add_prefix_space": False,
        "bos_token": _END,
        "clean_up_tokenization_spaces": False,
        "eos_token": _END,
        "errors": "replace",
        "extra_special_tokens": specials,
        "model_max_length": 1024,
        "pad_token": _END,
        "processor_class": "WhisperProcessor",
        "tokenizer_class": "WhisperTokenizer",
        "unk_token": _END,
    }


def _from_merges(folder: Path) -> str:
    """Old Hugging Face folders spell the tokenizer in three files."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise CheckpointError(
            f"{folder} has no tokenizer.json; copy the one of the original Whisper model there"
        )
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added: dict[str, int] = {}
    if (folder / "added_tokens.json").is_file():
        added = json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))
    named = json.loads(vocab.read_text(encoding="utf-8")) | added
    specials = sorted((t for t in named if _SPECIAL.fullmatch(t)), key=lambda t: named[t])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in specials])
    rest = sorted((t for t in added if t not in specials), key=lambda t: added[t])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in rest])
    return str(tokenizer.to_str())
