"""Write the tiny checkpoints of tests/golden with the outputs of the programs they came from.

    python tools/make_goldens.py [--only NAME ...] [--output tests/golden]

Run where nemo-toolkit 3.0.0 and transformers are installed. Weights are random, so nothing that is
written says anything about speech; what counts is that another implementation computes the same.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nemo
import numpy as np
import torch
import transformers
from goldens import huggingface, inputs, nemo_stream
from goldens import nemo_models as nm
from goldens import nemo_record as rec
from nemo.collections.asr.models import ASRModel
from omegaconf import open_dict

ROOT = Path(__file__).resolve().parents[1]
CITRINET = {"separable": True, "se": True, "se_context_size": -1, "kernel_size_factor": 0.5}
NEAR = [[8, 3], [8, 1], [8, 0]]  # small windows, so that clips of a few seconds reach past them
STREAMED = {
    "causal_downsampling": True,
    "att_context_size": NEAR,
    "att_context_style": "chunked_limited",
    "conv_norm_type": "layer_norm",
    "conv_context_size": "causal",
}
LANGUAGES = {"en-US": 0, "es-ES": 3, "auto": 5}


@dataclass(frozen=True)
class Golden:
    """One checkpoint: how to make it, and what of it to record."""

    config: Callable[[Mapping[str, Path]], nm.Config]
    features_of: tuple[str, ...] = ()
    batch: bool = True
    prompt: str | None = None
    gzipped: bool = False
    run: int = 0  # this many tokens or more at one frame somewhere, but fewer than 25
    streams: bool = False
    finish: Callable[[Any], None] = field(default=lambda model: None)


def _null_limit(model: Any) -> None:
    """No max_symbols in the file: NeMo 3.0.0 then takes 10, unless CUDA graphs are off too."""
    with open_dict(model.cfg.decoding):
        model.cfg.decoding.greedy.max_symbols = None
        model.cfg.decoding.greedy.max_symbols_per_step = None
    model.change_decoding_strategy(model.cfg.decoding, verbose=False)


def _no_limit(model: Any) -> None:
    """Any number of tokens a frame; set last, since a search for a seed might never end."""
    with open_dict(model.cfg.decoding):
        model.cfg.decoding.greedy.use_cuda_graph_decoder = False
    _null_limit(model)


GOLDENS: dict[str, Golden] = {
    "fastconformer_ctc": Golden(
        lambda t: nm.ctc(
            nm.conformer(untie_biases=False), nm.preprocessor(), tokenizer=nm.spm(t["bpe"])
        ),
        features_of=("syllable", "phrase"),
    ),
    "fastconformer_rnnt": Golden(
        lambda t: nm.transducer(nm.conformer(), nm.preprocessor(), tokenizer=nm.spm(t["bpe"])),
        run=10,
    ),
    "parakeet_tdt": Golden(
        lambda t: nm.transducer(
            nm.conformer(128, use_bias=False, xscaling=False),
            nm.preprocessor(128),
            tokenizer=nm.spm(t["bpe"]),
            layers=2,
            durations=(0, 1, 2, 3, 4),
        ),
        features_of=("syllable",),
        run=2,
    ),
    "hybrid_rnnt_ctc": Golden(
        lambda t: nm.hybrid(
            nm.transducer(
                nm.conformer(conv_norm_type="group_norm4", conv_kernel_size=5),
                nm.preprocessor(),
                tokenizer=nm.spm(t["unigram"]),
                activation="tanh",
                joint_dropout=0.0,
                max_symbols=25,
            )
        ),
        run=11,
        finish=_no_limit,
        batch=False,  # group norm averages over padding too: NeMo's batch differs from its singles
    ),
    "hybrid_tdt_ctc": Golden(
        lambda t: nm.hybrid(
            nm.transducer(
                nm.conformer(),
                nm.preprocessor(),
                tokenizer=nm.spm(t["bpe"]),
                durations=(0, 2, 4),
                max_symbols=2,
                activation="sigmoid",
            )
        ),
        run=2,
    ),
    "conformer_ctc": Golden(
        lambda t: nm.ctc(
            nm.conformer(
                subsampling="striding",
                subsampling_factor=4,
                self_attention_model="abs_pos",
                conv_kernel_size=15,
                reduction="striding",
                reduction_position=0,
                reduction_factor=2,
            ),
            nm.preprocessor(),
            tokenizer=nm.wpe(t["wordpiece"]),
        ),
        gzipped=True,
    ),
    "conformer_rnnt": Golden(
        lambda t: nm.transducer(
            nm.conformer(subsampling="striding", subsampling_factor=4, conv_kernel_size=15),
            nm.preprocessor(normalize="all_features", preemph=None),
            labels=nm.CHARACTERS,
        ),
        features_of=("syllable",),
        gzipped=True,
        run=10,
        finish=_null_limit,
    ),
    "stateless_rnnt": Golden(
        lambda t: nm.transducer(
            nm.conformer(subsampling="stacking_norm", subsampling_factor=4, feat_out=24),
            nm.preprocessor(),
            tokenizer=nm.aggregate({"en": t["english"], "es": t["spanish"]}),
            context=2,
        ),
        batch=False,  # stacking counts the batch's padding into lengths in NeMo
    ),
    "citrinet": Golden(
        lambda t: nm.ctc(
            nm.jasper(
                [
                    {**CITRINET, "kernel": [5]},
                    {**CITRINET, "repeat": 2, "kernel": [11], "stride": [2], "stride_last": True}
                    | {"residual": True, "residual_mode": "stride_add"},
                    {**CITRINET, "repeat": 2, "kernel": [13], "residual": True},
                    {**CITRINET, "repeat": 2, "kernel": [15], "stride": [2], "stride_last": True}
                    | {"residual": True, "residual_mode": "stride_add"},
                    {**CITRINET, "kernel": [17], "stride": [2]},
                    {**CITRINET, "filters": 40, "kernel": [41]},
                ],
                80,
            ),
            nm.preprocessor(pad_to=16),
            tokenizer=nm.spm(t["bpe"]),
        ),
        gzipped=True,
    ),
    "quartznet_char": Golden(
        lambda t: nm.ctc(
            nm.jasper(
                [
                    {"separable": True, "kernel": [11], "stride": [2]},
                    {"separable": True, "repeat": 3, "kernel": [13], "residual": True},
                    {"separable": True, "kernel": [15], "dilation": [2]},
                    {"filters": 40, "kernel": [1]},
                ],
                64,
            ),
            nm.preprocessor(64, window_size=0.02, pad_to=..., n_fft=...),
            labels=nm.CHARACTERS,
        ),
        features_of=("syllable",),
        gzipped=True,
    ),
    "jasper_dense_char": Golden(
        lambda t: nm.ctc(
            nm.jasper(
                [
                    {"kernel": [5], "stride": [2], "filters": 24},
                    {"kernel": [5], "repeat": 2, "filters": 24, "residual": True}
                    | {"residual_dense": True},
                    {"kernel": [7], "repeat": 2, "filters": 32, "residual": True}
                    | {"residual_dense": True, "se": True, "se_context_size": 20},
                    {"kernel": [9], "filters": 32, "groups": 4},
                    {"filters": 40, "kernel": [1]},
                ],
                64,
                conv_mask=False,
                activation="selu",
            ),
            nm.preprocessor(64, window_size=0.02, normalize="per_feature", mag_power=1.0),
            labels=nm.CHARACTERS,
        ),
        features_of=("syllable",),
        gzipped=True,
        batch=False,  # conv_mask false: padding leaks into the clip in NeMo
    ),
    "local_asymmetric_ctc": Golden(
        lambda t: nm.ctc(
            nm.conformer(self_attention_model="rel_pos_local_attn", att_context_size=[6, 3]),
            nm.preprocessor(),
            tokenizer=nm.spm(t["bpe"]),
        )
    ),
    "local_global_ctc": Golden(
        lambda t: nm.ctc(
            nm.conformer(
                self_attention_model="rel_pos_local_attn",
                att_context_size=[4, 4],
                global_tokens=3,
                global_tokens_spacing=2,
                global_attn_separate=True,
                use_bias=False,
                subsampling_factor=4,
            ),
            nm.preprocessor(),
            tokenizer=nm.spm(t["bpe"]),
        ),
        batch=False,  # with two or more global tokens NeMo mixes the rows of a batch
    ),
    "streaming_hybrid": Golden(
        lambda t: nm.hybrid(
            nm.transducer(
                nm.conformer(**STREAMED),
                nm.preprocessor(normalize="NA"),
                tokenizer=nm.spm(t["bpe"]),
            )
        ),
        features_of=("syllable",),
        streams=True,
    ),
    "regular_context_ctc": Golden(
        lambda t: nm.ctc(
            nm.conformer(att_context_size=[6, 2], conv_context_size=[5, 3], use_bias=False),
            nm.preprocessor(normalize="NA", highfreq=7000, lowfreq=60),
            tokenizer=nm.spm(t["bpe"]),
        ),
        features_of=("syllable",),
    ),
    "prompt_rnnt": Golden(
        lambda t: nm.prompted(
            nm.transducer(
                nm.conformer(**STREAMED),
                nm.preprocessor(normalize="NA"),
                tokenizer=nm.spm(t["tagged"]),
            ),
            LANGUAGES,
            8,
        ),
        prompt="es-ES",
        streams=True,
    ),
    "streaming_regular": Golden(
        lambda t: nm.ctc(
            nm.conformer(
                **STREAMED
                | {
                    "att_context_size": [[6, 0], [6, 2]],
                    "att_context_style": "regular",
                    "conv_norm_type": "batch_norm",
                    "conv_kernel_size": 5,
                },
            ),
            nm.preprocessor(normalize="NA"),
            tokenizer=nm.spm(t["bpe"]),
        ),
        gzipped=True,
        streams=True,
    ),
    "streaming_factor4": Golden(
        lambda t: nm.transducer(
            nm.conformer(
                **STREAMED | {"att_context_size": [[8, 3], [8, 0]]},
                subsampling_factor=4,
                use_bias=False,
                xscaling=False,
            ),
            nm.preprocessor(normalize="NA"),
            tokenizer=nm.spm(t["bpe"]),
        ),
        gzipped=True,
        streams=True,
    ),
    "streaming_tdt": Golden(
        lambda t: nm.transducer(
            nm.conformer(128, **STREAMED),
            nm.preprocessor(128, normalize="NA"),
            tokenizer=nm.spm(t["bpe"]),
            layers=2,
            durations=(0, 1, 2, 3, 4),
        ),
        run=2,
        gzipped=True,
        streams=True,
    ),
    "prompt_hybrid": Golden(
        lambda t: nm.prompted(
            nm.hybrid(
                nm.transducer(
                    nm.conformer(
                        att_context_size=[-1, -1, -1],
                        att_context_style="chunked_limited_with_rc",
                    ),
                    nm.preprocessor(),
                    tokenizer=nm.spm(t["tagged"]),
                )
            ),
            LANGUAGES,
            8,
        ),
        prompt="en-US",
    ),
}


def main() -> None:
    """Write what was asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME")
    parser.add_argument("--output", type=Path, default=ROOT / "tests" / "golden")
    parser.add_argument(
        "--streams-only", action="store_true", help="record streams of the models that are there"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    output: Path = arguments.output.resolve()
    clips = inputs.write_clips(output / "wav")
    wanted = set(arguments.only or [*GOLDENS, *huggingface.GOLDENS])
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # NeMo writes the tokenizers' folder into the file: keep it relative
        tokenizers = write_tokenizers(Path("tokenizers"))
        for name in sorted(wanted & set(GOLDENS)):
            if not arguments.streams_only:
                make_nemo(name, GOLDENS[name], tokenizers, clips, output)
            if GOLDENS[name].streams:
                record_streams(name, GOLDENS[name], clips, output / "nemo")
        if arguments.streams_only:
            return
        for name in sorted(wanted & set(huggingface.GOLDENS)):
            huggingface.make(name, tokenizers, clips, output / "huggingface")
    versions = {
        "nemo": nemo.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    (output / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


def write_tokenizers(folder: Path) -> dict[str, Path]:
    """Every tokenizer that a golden asks for, by name."""
    both = f"{inputs.ENGLISH}\n{inputs.SPANISH}"
    return {
        "bpe": inputs.sentencepiece_folder(folder / "bpe", inputs.ENGLISH, 64),
        "padded": inputs.sentencepiece_folder(folder / "padded", inputs.ENGLISH, 64, pad=True),
        "unigram": inputs.sentencepiece_folder(
            folder / "unigram", inputs.ENGLISH, 72, kind="unigram"
        ),
        "english": inputs.sentencepiece_folder(folder / "english", inputs.ENGLISH, 60),
        "spanish": inputs.sentencepiece_folder(folder / "spanish", inputs.SPANISH, 56),
        "tagged": inputs.sentencepiece_folder(
            folder / "tagged", both, 80, tags=inputs.LANGUAGE_TAGS
        ),
        "wordpiece": inputs.wordpiece_folder(folder / "wordpiece"),
    }


def make_nemo(
    name: str,
    golden: Golden,
    tokenizers: Mapping[str, Path],
    clips: Mapping[str, np.ndarray],
    output: Path,
) -> None:
    """Build, choose a lively seed, save, load what was saved, and record what that gives."""
    seed, model = lively(golden, tokenizers, clips)
    folder = output / "nemo"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nemo"
    model.save_to(str(path))
    restored = type(model).restore_from(str(path), map_location="cpu").eval()
    arrays, results = rec.record(
        restored,
        clips,
        output / "wav",
        features_of=golden.features_of,
        batch=golden.batch,
        prompt=golden.prompt,
    )
    restored = type(model).restore_from(str(path), map_location="cpu").eval()
    arrays |= rec.other_contexts(restored, clips)
    if golden.gzipped:  # as the oldest published files are
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    np.savez_compressed(folder / f"{name}.ref.npz", **arrays)
    header = {"nemo": nemo.__version__, "torch": torch.__version__, "seed": seed}
    text = json.dumps(header | results, ensure_ascii=False)
    (folder / f"{name}.ref.json").write_text(text + "\n", encoding="utf-8")
    sizes = [(folder / f"{name}{end}").stat().st_size for end in (".nemo", ".ref.npz", ".ref.json")]
    print(name, "seed", seed, "bytes", *sizes, rec.summary(results), flush=True)


def record_streams(
    name: str, golden: Golden, clips: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Record how NeMo streams with a checkpoint of `folder`, in files beside it."""
    restored = ASRModel.restore_from(str(folder / f"{name}.nemo"), map_location="cpu").eval()
    arrays, results = nemo_stream.record(restored, clips, golden.prompt)
    np.savez_compressed(folder / f"{name}.stream.npz", **arrays)
    header = {"nemo": nemo.__version__, "torch": torch.__version__}
    text = json.dumps(header | results, ensure_ascii=False)
    (folder / f"{name}.stream.json").write_text(text + "\n", encoding="utf-8")
    sizes = [(folder / f"{name}.stream.{end}").stat().st_size for end in ("npz", "json")]
    print(name, "streams, bytes", *sizes, flush=True)


def lively(
    golden: Golden, tokenizers: Mapping[str, Path], clips: Mapping[str, np.ndarray]
) -> tuple[int, Any]:
    """The first seed whose results are varied, and do not hang on the last digits."""
    sounds = list(clips.values())
    config = golden.config(tokenizers)
    prompt = LANGUAGES[golden.prompt] if golden.prompt else None
    for seed in range(200):
        model = nm.build(config, seed)
        nm.enliven(model, sounds, prompt)
        if hasattr(model, "joint"):
            rate = nm.calibrate(model, sounds, prompt)
            if not 2.0 <= rate <= 8.0:
                continue
        lively = rec.is_lively(model, sounds, prompt, golden.run)
        contexts = model.encoder.att_context_size_all if golden.streams else ()
        if lively and rec.is_steady(model, sounds, prompt, contexts=contexts):
            golden.finish(model)
            return seed, model
    raise SystemExit(f"no seed in 0..199 gives a lively model for {config['encoder']}")


if __name__ == "__main__":
    main()
