"""A tiny random Whisper in Hugging Face form, written without transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

D_MODEL, HEADS, LAYERS, FFN = 16, 2, 2, 24
LANGUAGES = ("en", "zh", "de", "fr", "ja", "haw")
_AFTER = ("translate", "transcribe", "startoflm", "startofprev", "nocaptions", "notimestamps")


def tokenizer(multilingual: bool) -> Tokenizer:
    """Bytes, Whisper's special tokens, no merges and no timestamps."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + [""] * multilingual
    made = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    specials = ("endoftext", "startoftranscript", *LANGUAGES, *_AFTER)
    made.add_special_tokens([AddedToken(f"<|{s}|>", normalized=False) for s in specials])
    return made


def write_tiny_whisper(
    folder: Path,
    *,
    multilingual: bool = True,
    dtype: torch.dtype = torch.float32,
    n_mels: int = 80,
    seed: int = 0,
) -> Path:
    """Write the model to `folder`; tensors as OpenAI's checkpoints have them."""
    folder.mkdir(parents=True)
    words = tokenizer(multilingual)
    words.save(str(folder / "tokenizer.json"))
    special = {token.content: id for id, token in words.get_added_tokens_decoder().items()}
    end = special["<|endoftext|>"]
    tensors = _tensors(words.get_vocab_size() + 1501, n_mels, seed)
    save_file({k: v.to(dtype) for k, v in tensors.items()}, folder / "model.safetensors")
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    ids["decoder_start_token_id"] = special["<|startoftranscript|>"]
    config = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "d_model": D_MODEL,
        "num_mel_bins": n_mels,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "vocab_size": words.get_vocab_size() + 1501,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **{f"{side}_layers": LAYERS for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": HEADS for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": FFN for side in ("encoder", "decoder")},
        **ids,
    }
    generation = {
        "alignment_heads": [[1, 0], [1, 1]],
        "begin_suppress_tokens": [end],
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "prev_sot_token_id": special["<|startofprev|>"],
        "suppress_tokens": [],
        **ids,
    }
    if multilingual:
        generation["lang_to_id"] = {f"<|{c}|>": special[f"<|{c}|>"] for c in LANGUAGES}
        generation["task_to_id"] = {t: special[f"<|{t}|>"] for t in ("translate", "transcribe")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def _tensors(vocab: int, n_mels: int, seed: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    made: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int, mean: float = 0.0, std: float = 0.4) -> None:
        values = random.normal(mean, std, shape).astype(np.float32)
        made[f"model.{name}"] = torch.from_numpy(values)

    def norm(name: str) -> None:
        add(f"{name}.weight", D_MODEL, mean=1.0, std=0.1)
        add(f"{name}.bias", D_MODEL)

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        add(f"{name}.weight", rows, columns)
        if bias:
            add(f"{name}.bias", rows)

    add("encoder.conv1.weight", D_MODEL, n_mels, 3, std=0.1)
    add("encoder.conv1.bias", D_MODEL)
    add("encoder.conv2.weight", D_MODEL, D_MODEL, 3)
    add("encoder.conv2.bias", D_MODEL)
    add("encoder.embed_positions.weight", 1500, D_MODEL)
    add("decoder.embed_positions.weight", 448, D_MODEL)
    add("decoder.embed_tokens.weight", vocab, D_MODEL)
    for side, attentions in (
        ("encoder", ["self_attn"]),
        ("decoder", ["self_attn", "encoder_attn"]),
    ):
        norm(f"{side}.layer_norm")
        for layer in range(LAYERS):
            at = f"{side}.layers.{layer}"
            for attention in attentions:
                norm(f"{at}.{attention}_layer_norm")
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    bias = projection != "k_proj"
                    linear(f"{at}.{attention}.{projection}", D_MODEL, D_MODEL, bias)
            norm(f"{at}.final_layer_norm")
            linear(f"{at}.fc1", FFN, D_MODEL)
            linear(f"{at}.fc2", D_MODEL, FFN)
    return made
