"""Folders of transformers read by us, and ours read by transformers, with the same numbers.

Needs transformers; `make parity` runs it. The models are tiny and random, of every class we read.
"""

# ruff: noqa: E402 (what the imports need is asked for first)
from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("transformers.models.parakeet", reason="needs a newer transformers")

import numpy as np
import sentencepiece
import torch
from transformers.models.nemotron3_5_asr.configuration_nemotron3_5_asr import Nemotron3_5AsrConfig
from transformers.models.nemotron3_5_asr.modeling_nemotron3_5_asr import Nemotron3_5AsrForRNNT
from transformers.models.nemotron_asr_streaming.configuration_nemotron_asr_streaming import (
    NemotronAsrStreamingConfig,
)
from transformers.models.nemotron_asr_streaming.feature_extraction_nemotron_asr_streaming import (
    NemotronAsrStreamingFeatureExtractor,
)
from transformers.models.nemotron_asr_streaming.modeling_nemotron_asr_streaming import (
    NemotronAsrStreamingForRNNT,
)

from auricle.checkpoints import Checkpoint, build, load
from auricle.checkpoints.huggingface import save_huggingface
from auricle.checkpoints.tokenizer_json import to_tokenizer_json
from auricle.models.asr import ASR
from auricle.tokenizers import SentencePieceTokenizer

pytestmark = pytest.mark.parity

V = 40
ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "subsampling_conv_channels": 8,
    "layerdrop": 0.0,
    "initializer_range": 0.3,
}
TRANSDUCER: dict[str, Any] = {
    "vocab_size": V + 1,
    "blank_token_id": V,
    "pad_token_id": V,
    "decoder_hidden_size": 24,
}
STREAMING = {"sliding_window": 9, "default_num_lookahead_tokens": 3}


def _ctc(**encoder: Any) -> Any:
    config = transformers.ParakeetCTCConfig(
        vocab_size=V + 1, pad_token_id=V, encoder_config=ENCODER | encoder
    )
    return transformers.ParakeetForCTC(config)


def _streaming() -> Any:
    config = NemotronAsrStreamingConfig(**TRANSDUCER, encoder_config=ENCODER | STREAMING)
    return NemotronAsrStreamingForRNNT(config)


def _prompted() -> Any:
    encoder = ENCODER | STREAMING | {"model_type": "nemotron_asr_streaming_encoder"}
    config = Nemotron3_5AsrConfig(
        **TRANSDUCER, encoder_config=encoder, num_prompts=8, prompt_intermediate_size=64
    )
    return Nemotron3_5AsrForRNNT(config)


MODELS = {
    "ctc": _ctc,
    "ctc of 128 mels without biases": lambda: _ctc(
        num_mel_bins=128, attention_bias=False, convolution_bias=False, scale_input=False
    ),
    "ctc with half the biases": lambda: _ctc(attention_bias=False),
    "ctc with the blank first": lambda: transformers.ParakeetForCTC(
        transformers.ParakeetCTCConfig(vocab_size=V + 1, pad_token_id=0, encoder_config=ENCODER)
    ),
    "rnnt": lambda: transformers.ParakeetForRNNT(
        transformers.ParakeetRNNTConfig(**TRANSDUCER, encoder_config=ENCODER)
    ),
    "tdt": lambda: transformers.ParakeetForTDT(
        transformers.ParakeetTDTConfig(**TRANSDUCER, durations=[0, 1, 2], encoder_config=ENCODER)
    ),
    "streaming": _streaming,
    "prompted": _prompted,
}
TOKENIZER = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the fox and the dog", "a sea shell by the sea shore"] * 9),
    model_writer=TOKENIZER,
    vocab_size=V,
    model_type="bpe",
    bos_id=-1,
    eos_id=-1,
    minloglevel=2,
)
SOUNDS = [
    0.1 * np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    for seed, size in ((0, 40000), (1, 23456))
]


def folder_of(name: str, path: Path) -> Path:
    """The folder transformers writes, with a tokenizer and a processor beside."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(path)
    extractor_class: Any = transformers.ParakeetFeatureExtractor
    if isinstance(model, (NemotronAsrStreamingForRNNT, Nemotron3_5AsrForRNNT)):
        extractor_class = NemotronAsrStreamingFeatureExtractor
    extractor_class(feature_size=model.config.encoder_config.num_mel_bins).save_pretrained(path)
    tokenizer = to_tokenizer_json(SentencePieceTokenizer(TOKENIZER.getvalue()), "<blank>")
    (path / "tokenizer.json").write_bytes(tokenizer)
    return path


def theirs(path: Path) -> tuple[Any, Any]:
    """The folder's model and feature extractor in transformers."""
    kind = transformers.AutoConfig.from_pretrained(path).architectures[0]
    found = {m.__name__: m for m in (NemotronAsrStreamingForRNNT, Nemotron3_5AsrForRNNT)}
    model = (found.get(kind) or getattr(transformers, kind)).from_pretrained(path).eval()
    streaming = kind in found
    extractor = NemotronAsrStreamingFeatureExtractor if streaming else None
    return model, (extractor or transformers.ParakeetFeatureExtractor).from_pretrained(path)


def their_outputs(path: Path) -> dict[str, torch.Tensor]:
    """Encodings, and logits of the CTC head, or of the joint on a few tokens."""
    model, extractor = theirs(path)
    inputs = extractor(SOUNDS, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        encoded = model.encoder(inputs["input_features"], inputs["attention_mask"])
        encodings = encoded.last_hidden_state
        if hasattr(model, "prompt_projector"):
            one_hot = torch.nn.functional.one_hot(torch.tensor([3, 5]), 8).float()
            shown = one_hot[:, None].expand(-1, encodings.shape[1], -1)
            encodings = model.prompt_projector(torch.cat([encodings, shown], dim=-1))
        if hasattr(model, "ctc_head"):
            logits = model.ctc_head(encodings)
        else:
            tokens = torch.tensor([[V, 3, 5], [V, 1, 1]])
            decoded = model.decoder(tokens)  # [B, U, J]
            projected = model.encoder_projector(encodings)
            logits = model.joint(decoded[:, None], projected[:, :, None])
    return {"encodings": encodings, "logits": logits, "lengths": encoded.attention_mask.sum(-1)}


def our_outputs(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The same by our networks."""
    model: ASR = build(checkpoint)
    samples = torch.zeros(2, len(SOUNDS[0]))
    for row, sound in zip(samples, SOUNDS, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    lengths = torch.tensor([len(sound) for sound in SOUNDS])
    prompt = torch.tensor([3, 5]) if checkpoint.config.prompt else None
    with torch.no_grad():
        encodings, steps = model.encode(samples, lengths, prompt=prompt)
        if model.ctc is not None:
            logits = model.ctc(encodings)
        else:
            assert model.predictor is not None and model.joint is not None
            out, _ = model.predictor(torch.tensor([[V, 3, 5], [V, 1, 1]]))
            f = model.joint.project_encodings(encodings)[:, :, None]
            logits = model.joint(f, model.joint.project_predictions(out)[:, None])
    return {"encodings": encodings, "logits": logits, "lengths": steps}


def assert_close(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    assert ours["lengths"].tolist() == reference["lengths"].tolist()
    for key in ("encodings", "logits"):
        for row, length in enumerate(reference["lengths"].tolist()):
            a, b = ours[key][row, :length], reference[key][row, :length]
            assert (a - b).abs().max() <= 1e-4 * b.abs().max(), key
            assert a.argmax(-1).tolist() == b.argmax(-1).tolist()


@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_wrote_gives_the_same_here(name: str, tmp_path: Path) -> None:
    path = folder_of(name, tmp_path / "theirs")
    checkpoint = load(path)
    reference = their_outputs(path)
    if "blank first" in name:
        reference["logits"] = reference["logits"][..., [*range(1, V + 1), 0]]
    assert_close(our_outputs(checkpoint), reference)


@pytest.mark.parametrize("name", MODELS)
def test_what_we_wrote_gives_the_same_in_transformers(name: str, tmp_path: Path) -> None:
    checkpoint = load(folder_of(name, tmp_path / "theirs"))
    if "blank first" in name:
        sentences = SentencePieceTokenizer(TOKENIZER.getvalue())
        checkpoint = dataclasses.replace(checkpoint, tokenizer=sentences)
    save_huggingface(checkpoint, tmp_path / "ours")
    assert_close(our_outputs(checkpoint), their_outputs(tmp_path / "ours"))
    again = load(tmp_path / "ours")
    assert again.config.encoder == checkpoint.config.encoder
    assert again.tokenizer.pieces == checkpoint.tokenizer.pieces


@pytest.mark.parametrize("name", ["ctc", "rnnt", "tdt"])
def test_transformers_reads_our_processor_and_decodes_alike(name: str, tmp_path: Path) -> None:
    checkpoint = load(folder_of(name, tmp_path / "theirs"))
    save_huggingface(checkpoint, tmp_path / "ours")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "ours")
    model, _ = theirs(tmp_path / "ours")
    inputs = processor(SOUNDS, sampling_rate=16000)
    ids = checkpoint.tokenizer.encode("the fox by the sea")
    assert processor.tokenizer("the fox by the sea")["input_ids"] == ids
    assert processor.decode(ids, skip_special_tokens=True) == checkpoint.tokenizer.decode(ids)
    if name == "ctc":
        generated = model.generate(**inputs)
        raw = our_outputs(checkpoint)["logits"].argmax(-1)
        for row, length in enumerate(our_outputs(checkpoint)["lengths"].tolist()):
            assert generated[row, :length].tolist() == raw[row, :length].tolist()
