"""Whisper checkpoints of any size: CTranslate2 form <-> Hugging Face form.

Holds the folders: which form one has, both conversions, the cache, and the JSON files; the weights
are `whisper_tensors`' and the tokenizer is `whisper_tokenizer`'s. Needs neither ctranslate2 nor
transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from auricle.checkpoints import ctranslate2
from auricle.checkpoints.reading import read_json
from auricle.checkpoints.sections import Section
from auricle.checkpoints.whisper_tensors import (
    EMBEDDING_TENSOR,
    EMBEDDINGS,
    PROJECTION,
    WhisperShape,
    check_shapes,
    check_variables,
    ctranslate2_variables,
    dtype_name,
    huggingface_tensors,
    is_tied,
    open_safetensors,
    save_safetensors,
    shape_from_binary,
    shape_from_config,
)
from auricle.checkpoints.whisper_tokenizer import (
    is_multilingual,
    language_ids,
    read_tokenizer,
    special_ids,
    tokenizer_settings,
    vocabulary,
)
from auricle.checkpoints.writing import folder_beside, write_json
from auricle.config import Within, shown_name
from auricle.errors import CheckpointError, ConfigError

FolderKind = Literal["ctranslate2", "huggingface"]

_SPEC, _REVISION = "WhisperSpec", 3
_MAX_LENGTH = 448


def folder_kind(folder: Path) -> FolderKind | None:
    """Which form of Whisper a folder holds; None if it holds no Whisper."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, CheckpointError):
        return None
    if config.get("model_type") == "whisper":
        return "huggingface"
    is_ctranslate2 = (folder / "model.bin").is_file() and "suppress_ids" in config
    return "ctranslate2" if is_ctranslate2 else None


def to_huggingface(src: Path, dst: Path) -> None:
    """Write the CTranslate2 folder `src` as a Hugging Face folder; quantised weights get float.

    Raises:
        CheckpointError: `src` is no CTranslate2 Whisper, or is damaged.
    """
    if folder_kind(src) != "ctranslate2":
        raise CheckpointError(f"{src} is no Whisper folder in CTranslate2 form")
    binary, shape = _opened(src)
    tokenizer = read_tokenizer(src)
    with folder_beside(dst) as folder:
        tensors = huggingface_tensors(binary, shape, src)
        save_safetensors(tensors, folder / "model.safetensors")
        dtype = dtype_name(tensors[EMBEDDING_TENSOR])
        ids = special_ids(tokenizer)
        decoding = _decoding(src, shape)
        tied = PROJECTION not in binary.variables
        config = _huggingface_config(shape, ids, decoding, dtype, tied)
        write_json(folder / "config.json", config)
        write_json(
            folder / "generation_config.json",
            _generation_config(ids, decoding, is_multilingual(tokenizer)),
        )
        write_json(folder / "preprocessor_config.json", _preprocessor(src, shape.num_mel_bins))
        write_json(folder / "tokenizer_config.json", tokenizer_settings(tokenizer))
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


def to_ctranslate2(src: Path, dst: Path, *, quantization: str | None = None) -> None:
    """Write the Hugging Face folder `src` as a CTranslate2 folder.

    `quantization` is one of `ctranslate2.QUANTIZATIONS`; None keeps the types as they are.
    The result's variables equal those of CTranslate2's own converter.

    Raises:
        CheckpointError: `src` is no Hugging Face Whisper, or is damaged.
        ConfigError: An unknown `quantization`.
    """
    if folder_kind(src) != "huggingface":
        raise CheckpointError(f"{src} is no Whisper folder in Hugging Face form")
    if quantization is not None and quantization not in ctranslate2.QUANTIZATIONS:
        raise ConfigError(
            f"unknown quantization {quantization!r}; use one of "
            f"{', '.join(ctranslate2.QUANTIZATIONS)}"
        )
    config = read_json(src / "config.json")
    shape = shape_from_config(config, src)
    tokenizer = read_tokenizer(src)
    with folder_beside(dst) as folder, ExitStack() as stack:
        tensors = open_safetensors(src, stack)
        tied = is_tied(tensors)
        plain = ctranslate2_variables(tensors, shape, tied, src)
        stored = (pair for item in plain for pair in ctranslate2.quantize(*item, quantization))
        aliases = {PROJECTION: EMBEDDINGS} if tied else {}
        ctranslate2.write(folder / "model.bin", _SPEC, _REVISION, stored, aliases)
        generation = read_json(src / "generation_config.json", missing_ok=True) or config
        ids = special_ids(tokenizer)
        write_json(folder / "config.json", _ctranslate2_config(generation, ids, shape))
        tokens = vocabulary(tokenizer, shape.vocab_size)
        (folder / "vocabulary.json").write_text(json.dumps(tokens, indent=2), encoding="utf-8")
        write_json(folder / "preprocessor_config.json", _preprocessor(src, shape.num_mel_bins))
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


def check_ctranslate2(folder: Path) -> None:
    """Look at a CTranslate2 folder before that library does, which trusts what it reads.

    Raises:
        CheckpointError: It is damaged, or no Whisper.
    """
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; copy the one of the original Whisper model there"
        )
    read_tokenizer(folder)
    binary, shape = _opened(folder)
    check_variables(binary, shape, folder)
    _decoding(folder, shape)


def check_huggingface(folder: Path) -> None:
    """Look at a Hugging Face folder before transformers builds what its configuration asks for.

    Raises:
        CheckpointError: It is damaged, or no Whisper.
    """
    check_shapes(folder, shape_from_config(read_json(folder / "config.json"), folder))


def _opened(src: Path) -> tuple[ctranslate2.Binary, WhisperShape]:
    binary = ctranslate2.read(src / "model.bin")
    if (binary.spec, binary.revision) != (_SPEC, _REVISION):
        raise CheckpointError(
            f"{src} holds {shown_name(binary.spec)} revision {binary.revision}; only {_SPEC} "
            f"revision {_REVISION} is read"
        )
    return binary, shape_from_binary(binary, src)


def _decoding(folder: Path, shape: WhisperShape) -> dict[str, list[Any]]:
    """What a CTranslate2 folder's `config.json` says of decoding, its numbers checked."""
    section = Section(read_json(folder / "config.json"), "", str(folder / "config.json"))
    ids = tuple[Annotated[int, Within(-1, shape.vocab_size - 1)], ...]
    layer = Annotated[int, Within(0, shape.decoder_layers - 1)]
    head = Annotated[int, Within(0, shape.decoder_attention_heads - 1)]
    section.take("lang_ids", (), ids)
    heads = section.take("alignment_heads", kind=tuple[tuple[layer, head], ...])
    return {
        "alignment_heads": [list(pair) for pair in heads],
        "suppress_ids": list(section.take("suppress_ids", kind=ids)),
        "suppress_ids_begin": list(section.take("suppress_ids_begin", kind=ids)),
    }


def cached_ctranslate2(folder: Path) -> Path:
    """The CTranslate2 form of a Hugging Face folder, converted at its first use.

    Kept under $AURICLE_CACHE (else ~/.cache/auricle) by the SHA-256 of the folder's files.
    """
    target = _cached(folder, "*.json", "*.safetensors")
    if folder_kind(target) != "ctranslate2":
        to_ctranslate2(folder, target)
    return target


def cached_huggingface(folder: Path) -> Path:
    """The Hugging Face form of a CTranslate2 folder, kept as `cached_ctranslate2` keeps its."""
    target = _cached(folder, "*.json", "*.bin")
    if folder_kind(target) != "huggingface":
        to_huggingface(folder, target)
    return target


def _cached(folder: Path, *patterns: str) -> Path:
    root = Path(os.environ.get("AURICLE_CACHE") or Path.home() / ".cache" / "auricle")
    digest = hashlib.sha256()
    files = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return root / "whisper" / digest.hexdigest()[:32]


def _huggingface_config(
    shape: WhisperShape, ids: Mapping[str, int], decoding: Mapping[str, Any], dtype: str, tied: bool
) -> dict[str, Any]:
    return {
        **asdict(shape),
        "architectures": ["WhisperForConditionalGeneration"],
        "begin_suppress_tokens": decoding["suppress_ids_begin"],
        "dtype": dtype,
        "is_encoder_decoder": True,
        "max_length": _MAX_LENGTH,
        "model_type": "whisper",
        "num_hidden_layers": shape.encoder_layers,
        "suppress_tokens": decoding["suppress_ids"],
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        **_start_and_end(ids),
    }


def _start_and_end(ids: Mapping[str, int]) -> dict[str, int]:
    end = ids["<|endoftext|>"]
    return {
        "bos_token_id": end,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _generation_config(
    ids: dict[str, int], decoding: Mapping[str, Any], multilingual: bool
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "alignment_heads": decoding["alignment_heads"],
        "begin_suppress_tokens": decoding["suppress_ids_begin"],
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": _MAX_LENGTH,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": decoding["suppress_ids"],
        **_start_and_end(ids),
    }
    if multilingual:
        config["lang_to_id"] = language_ids(ids)
        config["task_to_id"] = {t: ids[f"<|{t}|>"] for t in ("transcribe", "translate")}
    return config


def _ctranslate2_config(
    generation: Mapping[str, Any], ids: dict[str, int], shape: WhisperShape
) -> dict[str, Any]:
    section = Section(generation, "", "generation_config.json")
    layer = Annotated[int, Within(0, shape.decoder_layers - 1)]
    head = Annotated[int, Within(0, shape.decoder_attention_heads - 1)]
    heads: Any = section.take("alignment_heads", (), tuple[tuple[layer, head], ...])
    if not heads:  # the last half of the layers, as CTranslate2's converter takes
        layers = range(shape.decoder_layers // 2, shape.decoder_layers)
        heads = [[layer, head] for layer in layers for head in range(shape.decoder_attention_heads)]
    token = Annotated[int, Within(-1, shape.vocab_size - 1)]
    tokens = tuple[token, ...]
    languages = section.take("lang_to_id", {}, Mapping[str, token]) or language_ids(ids)
    return {
        "alignment_heads": heads,
        "lang_ids": sorted(languages.values()),
        "suppress_ids": list(section.take("suppress_tokens", (), tokens)),
        "suppress_ids_begin": list(section.take("begin_suppress_tokens", (), tokens)),
    }


def _preprocessor(src: Path, n_mels: int) -> dict[str, Any]:
    """The folder's own feature settings, else Whisper's; faster-whisper needs the mel count."""
    own = read_json(src / "preprocessor_config.json", missing_ok=True)
    if not own:
        both = read_json(src / "processor_config.json", missing_ok=True)
        own = both.get("feature_extractor", {})
    return own or {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": n_mels,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16000,
    }
