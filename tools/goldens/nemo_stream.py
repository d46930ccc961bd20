"""What NeMo's cache-aware streaming computes with a model, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer

from goldens import nemo_record as rec

# Clips that stream alone or as a batch, with and without NeMo's `pad_and_drop_preencoded`.
GROUPS = ((("syllable",), False), (("talk", "phrase"), False), (("phrase",), True))
CACHES_AFTER = 3


@dataclass
class Stream:
    """One run: encodings and lengths by step, and what each decoder made of them."""

    encodings: list[np.ndarray] = field(default_factory=list)  # [B, D, T]
    lengths: list[list[int]] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    decoded: dict[str, list[Any]] = field(default_factory=dict)
    caches: dict[str, np.ndarray] = field(default_factory=dict)
    error: str | None = None


def record(
    model: Any, clips: Mapping[str, np.ndarray], prompt: str | None = None
) -> tuple[rec.Arrays, dict[str, Any]]:
    """Streams of every group under every lookahead, and the offline results beside them."""
    arrays: rec.Arrays = {}
    results: dict[str, Any] = {"caches_after": CACHES_AFTER}
    if prompt:
        model.set_inference_prompt(prompt)
        results["prompt"] = prompt
    for left, right in model.encoder.att_context_size_all:
        model.encoder.set_default_att_context_size([left, right])
        found: dict[str, Any] = {"cfg": _plain(model.encoder.streaming_cfg)}
        index = model.cfg.model_defaults.prompt_dictionary[prompt] if prompt else None
        for name, clip in clips.items():
            found[f"offline/{name}"] = offline(model, clip, index)
        for names, pad in GROUPS:
            key = f"{'+'.join(names)}/pad{int(pad)}"
            stream = run(model, [clips[name] for name in names], pad)
            found[key] = {"chunks": stream.chunks, **_decoded(stream)}
            if stream.error is not None:
                found[key]["error"] = stream.error
            where = f"s_{left}_{right}/{key}"
            arrays[f"{where}/enc"] = np.concatenate(stream.encodings, axis=2)
            arrays[f"{where}/enc_len"] = np.array(stream.lengths)  # [steps, B]
            arrays |= {f"{where}/{name}": value for name, value in stream.caches.items()}
        results[f"s_{left}_{right}"] = found
    return arrays, results


@torch.no_grad()
def run(model: Any, clips: Sequence[np.ndarray], pad: bool) -> Stream:
    """Stream `clips` as one batch, as far as NeMo gets.

    NeMo's CTC decoder is asked on each step for all steps so far; the transducer goes on from
    its hypotheses.
    """
    model.eval()
    buffer = CacheAwareStreamingAudioBuffer(model=model, pad_and_drop_preencoded=pad)
    for clip in clips:
        buffer.append_audio(clip)
    heads = [head for head in ("rnnt", "ctc") if has(model, head)]
    out = Stream(decoded={head: [] for head in heads})
    caches = model.encoder.get_initial_cache_state(batch_size=len(clips))
    before: dict[str, Any] = dict.fromkeys(heads)
    for step, (chunk, lengths) in enumerate(buffer):
        extra = model.encoder.streaming_cfg.drop_extra_pre_encoded
        options = {
            "processed_signal": chunk,
            "processed_signal_length": lengths,
            "cache_last_channel": caches[0],
            "cache_last_time": caches[1],
            "cache_last_channel_len": caches[2],
            "keep_all_outputs": buffer.is_buffer_empty(),
            "drop_extra_pre_encoded": extra if step > 0 or pad else 0,
        }
        try:
            encoded, steps, *caches = model.encoder.cache_aware_stream_step(**options)
        except RuntimeError as error:  # in regular style, where a chunk is shorter than its overlap
            out.error = str(error).splitlines()[0]
            return out
        out.encodings.append(encoded.numpy())
        out.lengths.append(steps.tolist())
        out.chunks.append({"frames": chunk.shape[2], "lengths": lengths.tolist()})
        if step == CACHES_AFTER:
            names = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")
            out.caches = {n: c.numpy().copy() for n, c in zip(names, caches, strict=True)}
        for head in heads:
            before[head] = _step(model, head, before[head], options)
            out.decoded[head].append(_state(before[head]))
    return out


def has(model: Any, head: str) -> bool:
    """Whether the model has a head "rnnt" (TDT too) or "ctc"."""
    if head == "rnnt":
        return hasattr(model, "joint")
    return hasattr(model, "ctc_decoder") or not hasattr(model, "joint")


def _step(model: Any, head: str, before: Any, options: Mapping[str, Any]) -> Any:
    if hasattr(model, "ctc_decoder"):
        model.cur_decoder = head
    result = model.conformer_stream_step(
        **options, previous_hypotheses=before, previous_pred_out=before
    )
    return result[1] if head == "rnnt" else result[0]


def _state(decoded: Sequence[Any]) -> list[Any]:
    """Of each row the ids and steps so far; for CTC the best id of each step."""
    return [
        row.tolist()
        if isinstance(row, torch.Tensor)
        else {"ids": _list(row.y_sequence), "timestamp": _list(row.timestamp), "text": row.text}
        for row in decoded
    ]


def _decoded(stream: Stream) -> dict[str, Any]:
    """The last state, and how many ids there were after each step."""
    found: dict[str, Any] = {}
    for head, states in stream.decoded.items():
        if head == "ctc":
            found[head] = {"argmax": states[-1]}
            continue
        counts = [[len(row["ids"]) for row in state] for state in states]
        found[head] = {"rows": states[-1], "counts": counts}
    return found


@torch.no_grad()
def offline(model: Any, clip: np.ndarray, prompt: int | None) -> dict[str, Any]:
    """What each head says of the whole clip: ids and steps, or for CTC the best id of each step."""
    _, _, encoded, lengths = rec.encode(model, [clip], prompt)
    found: dict[str, Any] = {"enc_len": lengths.tolist()}
    if has(model, "rnnt"):
        found["rnnt"] = _state(rec.transducer_hypotheses(model, encoded, lengths))[0]
    if has(model, "ctc"):
        scores = rec.ctc_scores(model, encoded)
        found["ctc"] = scores[0, : int(lengths[0])].argmax(-1).tolist()
    return found


def _list(values: Any) -> list[int]:
    return values.tolist() if isinstance(values, torch.Tensor) else list(values or ())


def _plain(config: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(config).items() if value is not None}
