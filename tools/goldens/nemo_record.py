"""What NeMo computes with a model: tensors for an .npz, results for a .json."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf, open_dict

Arrays = dict[str, np.ndarray]
Encoded = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
SAMPLE_RATE = 16000
PROBE_TOKENS = (1, 5, 9, 2, 7)
CONFIDENCES = {
    "max_prob": {"name": "max_prob", "alpha": 1.0},
    "entropy": {"name": "entropy", "entropy_type": "tsallis", "alpha": 0.33, "entropy_norm": "exp"},
}


@torch.no_grad()
def encode(model: Any, clips: Sequence[np.ndarray], prompt: int | None = None) -> Encoded:
    """Features [B, M, T] and encodings [B, D, T'] of one zero-padded batch, with their lengths."""
    model.eval()
    lengths = torch.tensor([len(c) for c in clips])
    samples = torch.zeros(len(clips), int(lengths.max()))  # [B, S]
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    features, feature_lengths = model.preprocessor(input_signal=samples, length=lengths)
    if prompt is not None:
        indices = torch.full((len(clips),), prompt, dtype=torch.long)
        encoded, encoded_lengths = model(
            input_signal=samples, input_signal_length=lengths, prompt_indices=indices
        )[:2]
    else:
        encoded, encoded_lengths = model.encoder(audio_signal=features, length=feature_lengths)
    return features, feature_lengths, encoded, encoded_lengths


@torch.no_grad()
def transducer_hypotheses(model: Any, encoded: torch.Tensor, lengths: torch.Tensor) -> list[Any]:
    """NeMo's greedy transducer results under the model's own decoding options."""
    return model.decoding.rnnt_decoder_predictions_tensor(encoded, lengths, return_hypotheses=True)


@torch.no_grad()
def ctc_scores(model: Any, encoded: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [B, T', V+1] of the CTC head."""
    head = model.ctc_decoder if hasattr(model, "ctc_decoder") else model.decoder
    scores: torch.Tensor = head(encoder_output=encoded)
    return scores


@torch.no_grad()
def ctc_hypotheses(
    model: Any, encoded: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, list[Any]]:
    """Log-probabilities [B, T', V+1] of the CTC head, and NeMo's greedy results."""
    decoding = model.ctc_decoding if hasattr(model, "ctc_decoder") else model.decoding
    scores = ctc_scores(model, encoded)
    hyps = decoding.ctc_decoder_predictions_tensor(scores, lengths, return_hypotheses=True)
    return scores, hyps


def record(
    model: Any,
    clips: Mapping[str, np.ndarray],
    wav_folder: Path,
    *,
    features_of: Sequence[str] = (),
    batch: bool = True,
    prompt: str | None = None,
) -> tuple[Arrays, dict[str, Any]]:
    """Everything the tests compare, for each clip alone and for all of them in one batch.

    `features_of` names the clips whose features are kept; they are the largest arrays by far.
    """
    if model.cfg.decoding.get("durations"):
        with open_dict(model.cfg.decoding):
            model.cfg.decoding.tdt_include_token_duration = True
        model.change_decoding_strategy(model.cfg.decoding, verbose=False)
    index = model.cfg.model_defaults.prompt_dictionary[prompt] if prompt else None
    arrays: Arrays = {}
    results: dict[str, Any] = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "state_dict": {key: list(value.shape) for key, value in model.state_dict().items()},
        "inputs": list(clips),
    }
    if prompt:
        results["prompt"] = prompt
    for name, clip in clips.items():
        features, feature_lengths, encoded, lengths = encode(model, [clip], index)
        if name in features_of:
            arrays[f"{name}/feat"] = features.numpy()
        arrays[f"{name}/feat_len"] = feature_lengths.numpy()
        arrays[f"{name}/enc"] = encoded.numpy()
        arrays[f"{name}/enc_len"] = lengths.numpy()
        results[name] = {"n_samples": len(clip)}
        arrays |= _heads(model, name, encoded, lengths, results[name])
    if batch:
        _, feature_lengths, encoded, lengths = encode(model, list(clips.values()), index)
        arrays |= {"batch/feat_len": feature_lengths.numpy(), "batch/enc_len": lengths.numpy()}
        arrays["batch/enc"] = encoded.numpy()
        if hasattr(model, "joint"):
            hyps = transducer_hypotheses(model, encoded, lengths)
            results["batch_rnnt"] = [_plain(h) for h in hyps]
    if hasattr(model, "joint"):
        arrays |= _probes(model, arrays[f"{next(iter(clips))}/enc"], next(iter(clips)))
    paths = [str(wav_folder / f"{name}.wav") for name in clips]
    results["transcribe_timestamps"] = transcribed(model, paths, prompt)
    return arrays, results


@torch.no_grad()
def transcribed(model: Any, audio: Sequence[str], language: str | None = None) -> list[Any]:
    """What `transcribe(timestamps=True)` says of each file, without its logits.

    Files are given by a manifest, the only way to tell NeMo a file's language.
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "files.json"
        has_pieces = hasattr(model, "tokenizer")
        # without `langID`, NeMo 3.0.0 tosses a coin between the language and "auto"
        common = {"duration": 100000, "text": "", "lang": language or "en", "prompt_mode": "langID"}
        lines = [json.dumps({"audio_filepath": path, **common}) for path in audio]
        manifest.write_text("\n".join(lines) + "\n")
        # NeMo 3.0.0 cannot build the words of an aggregate tokenizer
        timed = not hasattr(model.tokenizer, "tokenizers_dict") if has_pieces else True
        hyps = model.transcribe(
            str(manifest), batch_size=1, timestamps=timed, return_hypotheses=True, verbose=False
        )
    model.eval()
    kept = []
    for hyp in hyps:
        plain = _plain(hyp)
        if not hasattr(model, "joint"):
            plain.pop("y_sequence")  # the whole matrix of log-probabilities
        plain["timestamp"] = _jsonable(hyp.timestamp)
        if isinstance(hyp.timestamp, Mapping):
            kinds = ("timestep", "char", "word", "segment")
            plain["timestamp"] = {kind: _jsonable(hyp.timestamp[kind]) for kind in kinds}
        kept.append(plain)
    return kept


@torch.no_grad()
def other_contexts(model: Any, clips: Mapping[str, np.ndarray]) -> Arrays:
    """The offline encodings of a multi-lookahead model under each of its masks, by `s_L_R`."""
    contexts = getattr(model.encoder, "att_context_size_all", [])
    if len(contexts) < 2:
        return {}
    arrays: Arrays = {}
    for left, right in contexts:
        model.encoder.set_default_att_context_size([left, right])
        for name, clip in clips.items():
            encoded = encode(model, [clip])[2]
            arrays[f"s_{left}_{right}/offline/{name}/enc"] = encoded.numpy()
    return arrays


def is_lively(
    model: Any, clips: Sequence[np.ndarray], prompt: int | None = None, run: int = 0
) -> bool:
    """Tokens at several frames and of several kinds, and `run` or more at one frame."""
    longest = 0
    for clip in clips:
        _, _, encoded, lengths = encode(model, [clip], prompt)
        if not hasattr(model, "joint"):
            best = ctc_scores(model, encoded).argmax(-1)
            if len(best.unique()) < 5:
                return False
            continue
        hyp = transducer_hypotheses(model, encoded, lengths)[0]
        runs = Counter(_jsonable(hyp.timestamp)).values()
        longest = max(longest, *runs, 0)
        wanted = int(len(clip) / SAMPLE_RATE)  # one frame with tokens a second, at the least
        if len(set(_jsonable(hyp.timestamp))) < wanted or len(set(_jsonable(hyp.y_sequence))) < 2:
            return False
    return run <= longest < 25


@torch.no_grad()
def is_steady(
    model: Any,
    clips: Sequence[np.ndarray],
    prompt: int | None = None,
    error: float = 3e-5,
    contexts: Sequence[Sequence[int]] = (),
) -> bool:
    """Whether encodings that are wrong by `error` of their largest value give the same tokens.

    Under each of `contexts`, if there are any; the first of them is in force afterwards.
    """
    for context in reversed(contexts):
        model.encoder.set_default_att_context_size(list(context))
        if not is_steady(model, clips, prompt, error):
            model.encoder.set_default_att_context_size(list(contexts[0]))
            return False
    generator = torch.Generator().manual_seed(0)
    for clip in clips:
        _, _, encoded, lengths = encode(model, [clip], prompt)
        expected = _decoded(model, encoded, lengths)
        for _ in range(4):
            noise = torch.randn(encoded.shape, generator=generator)
            if _decoded(model, encoded + error * encoded.abs().max() * noise, lengths) != expected:
                return False
    return True


def summary(results: Mapping[str, Any]) -> str:
    """One line that shows how lively the recorded transducer is."""
    shown = []
    for name in results["inputs"]:
        hyp = results[name].get("rnnt") or results[name].get("ctc")
        seconds = results[name]["n_samples"] / SAMPLE_RATE
        count = len(hyp.get("y_sequence") or hyp["text"])
        shown.append(f"{name}: {count / seconds:.1f}/s {hyp['text']!r}")
    return "; ".join(shown)


def _decoded(model: Any, encoded: torch.Tensor, lengths: torch.Tensor) -> list[Any]:
    out: list[Any] = []
    if hasattr(model, "ctc_decoder") or not hasattr(model, "joint"):
        out.append(ctc_scores(model, encoded).argmax(-1).tolist())
    if hasattr(model, "joint"):
        hyp = transducer_hypotheses(model, encoded, lengths)[0]
        parts = (hyp.y_sequence, hyp.timestamp, hyp.token_duration)
        out.extend(_jsonable(part) for part in parts)
    return out


def _heads(
    model: Any, name: str, encoded: torch.Tensor, lengths: torch.Tensor, result: dict[str, Any]
) -> Arrays:
    arrays: Arrays = {}
    hybrid = hasattr(model, "ctc_decoder")
    if hybrid or not hasattr(model, "joint"):
        scores, hyps = ctc_hypotheses(model, encoded, lengths)
        arrays[f"{name}/aux_logprobs" if hybrid else f"{name}/logprobs"] = scores.numpy()
        hyp = hyps[0]
        result["aux_ctc" if hybrid else "ctc"] = {
            "text": hyp.text,
            "score": float(hyp.score),
            "argmax": scores[0, : int(lengths[0])].argmax(-1).tolist(),
            "timestamp": _jsonable(hyp.timestamp),
        }
        result["aux_ctc_confidence" if hybrid else "ctc_confidence"] = {
            method: _ctc_confidence(model, method, scores, lengths) for method in CONFIDENCES
        }
    if hasattr(model, "joint"):
        result["rnnt"] = _plain(transducer_hypotheses(model, encoded, lengths)[0])
        result["rnnt_confidence"] = {
            method: _rnnt_confidence(model, method, encoded, lengths) for method in CONFIDENCES
        }
    return arrays


def _probes(model: Any, encoded: np.ndarray, name: str) -> Arrays:
    """The predictor over SOS and a few tokens, and the joint over the first frames."""
    tokens = torch.tensor([PROBE_TOKENS])
    with torch.no_grad():
        out, state = model.decoder.predict(tokens, state=None, add_sos=True)  # [1, U+1, P]
        frames = torch.from_numpy(encoded[:, :, :10]).transpose(1, 2)  # [1, 10, D]
        probe = model.joint.joint(frames, out).log_softmax(-1)
    arrays = {f"{name}/pred_out": out.numpy(), f"{name}/joint_probe": probe.numpy()}
    for i, part in enumerate(state or ()):
        if part is not None:
            arrays[f"{name}/pred_state{i}"] = part.numpy()
    return arrays


def _confidence_config(method: str, words: bool) -> dict[str, Any]:
    return {
        "preserve_frame_confidence": False,
        "preserve_token_confidence": True,
        "preserve_word_confidence": words,
        "exclude_blank": True,
        "aggregation": "min",
        "method_cfg": CONFIDENCES[method],
    }


def _rnnt_confidence(model: Any, method: str, encoded: Any, lengths: Any) -> dict[str, Any]:
    def run(words: bool) -> Any:
        config = _with_confidence(model.cfg.decoding, method, words)
        decoding = _rebuilt(model.decoding, config, model, decoder=model.decoder, joint=model.joint)
        return decoding.rnnt_decoder_predictions_tensor(encoded, lengths, return_hypotheses=True)

    return _confidences(run)


def _ctc_confidence(model: Any, method: str, scores: Any, lengths: Any) -> dict[str, Any]:
    hybrid = hasattr(model, "ctc_decoder")
    section = model.cfg.aux_ctc.decoding if hybrid else model.cfg.decoding

    def run(words: bool) -> Any:
        config = _with_confidence(section, method, words)
        with open_dict(config):
            config.compute_timestamps = True
        decoding = _rebuilt(model.ctc_decoding if hybrid else model.decoding, config, model)
        return decoding.ctc_decoder_predictions_tensor(scores, lengths, return_hypotheses=True)

    return _confidences(run)


def _with_confidence(section: Any, method: str, words: bool) -> Any:
    config = OmegaConf.create(OmegaConf.to_container(section, resolve=True))
    with open_dict(config):
        config.confidence_cfg = _confidence_config(method, words)
    return config


def _rebuilt(decoding: Any, config: Any, model: Any, **parts: Any) -> Any:
    kind = type(decoding)
    if "BPE" in kind.__name__:
        return kind(decoding_cfg=config, tokenizer=model.tokenizer, **parts)
    vocabulary = model.joint.vocabulary if parts else _vocabulary(model)
    return kind(decoding_cfg=config, vocabulary=vocabulary, **parts)


def _vocabulary(model: Any) -> Any:
    return (model.ctc_decoder if hasattr(model, "ctc_decoder") else model.decoder).vocabulary


def _confidences(run: Callable[[bool], list[Any]]) -> dict[str, Any]:
    """Token and word confidences; NeMo 3.0.0 fails on words in some models, on both in others."""
    try:
        hyp = run(True)[0]
    except (RuntimeError, TypeError, IndexError):
        try:
            hyp = run(False)[0]
        except IndexError:
            return {}
    found = {"token": hyp.token_confidence, "word": hyp.word_confidence}
    return {key: [float(v) for v in values] for key, values in found.items() if values is not None}


def _plain(hyp: Any) -> dict[str, Any]:
    return {
        "text": hyp.text,
        "score": float(hyp.score),
        "y_sequence": _jsonable(hyp.y_sequence),
        "timestamp": _jsonable(hyp.timestamp),
        "token_duration": _jsonable(hyp.token_duration) or [],
    }


def _jsonable(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
