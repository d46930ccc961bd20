"""Live comparison of streams with NeMo's: streaming models drawn at random, and the goldens.

Of each: offline encodings under every lookahead, encodings and tokens of our streams against
NeMo's offline forward, and against NeMo's own streams as far as those are right.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nemo.collections.asr", reason="needs nemo-toolkit, see `make parity`")

from goldens import inputs, nemo_stream
from goldens import nemo_models as nm
from goldens import nemo_record as rec
from nemo.collections.asr.models import ASRModel
from nemo.utils import logging as nemo_logging
from streamed import Samples, Streamed, until

from auricle import audio

nemo_logging.setLevel(nemo_logging.ERROR)
ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("AURICLE_SHARED", ROOT.parent / "shared"))
OURS = sorted((ROOT / "tests/golden/nemo").glob("*.stream.json"))
GOLDENS = [path.with_name(path.name.replace(".stream.json", ".nemo")) for path in OURS]
GOLDENS += sorted((SHARED / "golden/nemo").glob("streaming_*.nemo"))
RANDOM = range(24)
ENCODINGS = 1e-4  # of the largest value
LANGUAGES = {"en-US": 0, "es-ES": 3, "auto": 5}

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def clips() -> list[Samples]:
    speech = audio.read(ROOT / "examples/speech/shell.flac")
    made = [audio.read(ROOT / f"tests/golden/wav/{name}.wav") for name in inputs.CLIPS]
    return [*made, speech[30000 : 30000 + 16000 * 3 + 77]]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    both, tags = f"{inputs.ENGLISH}\n{inputs.SPANISH}", inputs.LANGUAGE_TAGS
    return {
        "bpe": inputs.sentencepiece_folder(folder / "bpe", inputs.ENGLISH, 64),
        "unigram": inputs.sentencepiece_folder(folder / "uni", inputs.ENGLISH, 72, kind="unigram"),
        "tagged": inputs.sentencepiece_folder(folder / "tagged", both, 80, tags=tags),
    }


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden(path: Path, clips: list[Samples]) -> None:
    compare(path, clips)


@pytest.mark.parametrize("seed", RANDOM)
def test_random_model(
    seed: int, tmp_path: Path, clips: list[Samples], tokenizers: dict[str, Path]
) -> None:
    config = draw(seed, tokenizers)
    path = tmp_path / "random.nemo"
    with torch.inference_mode(False):
        steady(config, clips).save_to(str(path))
    assert compare(path, clips) > 0, "nothing was emitted, nothing compared"


def compare(path: Path, clips: Sequence[Samples]) -> int:
    """Everything under every lookahead; gives the number of tokens that were compared."""
    theirs = ASRModel.restore_from(str(path), map_location="cpu").eval()
    ours = Streamed(path)
    language, index = None, None
    if ours.model.config.prompt is not None:
        language, index = next(iter(ours.model.config.prompt.languages.items()))
        theirs.set_inference_prompt(language)
    total = 0
    for context in ours.config.att_context_size:
        theirs.encoder.set_default_att_context_size(list(context))
        for clip in clips:
            _compare_encodings(theirs, ours, clip, context)
            frames = ours.features(clip).shape[2]
            stream = nemo_stream.run(theirs, [clip], pad=False)
            offline = nemo_stream.offline(theirs, clip, index)
            common = ours.common_steps(frames, context)
            if stream.error is not None:  # as with a left context of 0, or at the end if regular
                common = min(common, sum(length for (length,) in stream.lengths))
            for head in ours.model.heads:
                key = "ctc" if head == "ctc" else "rnnt"
                got = ours.tokens(head, clip, context, language)
                assert got == ours.expected(offline[key], clip)
                known = ours.expected(stream.decoded[key][-1][0], clip)
                assert until(got, common) == until(known, common)
                total += len(got)
    return total


def _compare_encodings(theirs: Any, ours: Streamed, clip: Samples, context: Any) -> None:
    _, _, encoded, lengths = rec.encode(theirs, [clip])
    expected = encoded[0, :, : int(lengths[0])].T  # [T, D]
    frames = ours.features(clip)
    whole, steps = ours.encoder(frames, torch.tensor([frames.shape[2]]), context=context)
    assert int(steps[0]) == len(expected)
    for got in (whole[0], ours.encodings(frames, context)):
        assert (got[: len(expected)] - expected).abs().max() <= ENCODINGS * expected.abs().max()


def draw(seed: int, tokenizers: dict[str, Path]) -> nm.Config:
    """The configuration of a model that streams; equal for equal seeds."""
    rng = random.Random(seed)
    mels = rng.choice([64, 80, 128])
    front = nm.preprocessor(
        mels,
        normalize="NA",
        window_size=rng.choice([0.02, 0.025]),
        preemph=rng.choice([0.97, None, ...]),
        log_zero_guard_value=rng.choice([2**-24, 1e-5, ...]),
    )
    encoder = nm.conformer(mels, **_changes(rng))
    prompted = rng.random() < 0.25
    tokenizer = nm.spm(tokenizers["tagged" if prompted else rng.choice(["bpe", "unigram"])])
    if rng.random() < 0.25 and not prompted:
        return nm.ctc(encoder, front, tokenizer=tokenizer)
    config = nm.transducer(
        encoder,
        front,
        tokenizer=tokenizer,
        layers=rng.choice([1, 2]),
        activation=rng.choice(["relu", "tanh"]),
        durations=rng.choice([(), (), (0, 1, 2, 3, 4), (1, 2, 3)]),
        max_symbols=rng.choice([1, 3, 10]),
    )
    config = nm.hybrid(config) if rng.random() < 0.3 else config
    return nm.prompted(config, LANGUAGES, 8) if prompted else config


def _changes(rng: random.Random) -> nm.Config:
    heads, kernel = rng.choice([2, 4]), rng.choice([3, 5, 9])
    regular = rng.random() < 0.35
    contexts = rng.choice(
        [[[6, 2], [6, 0], [6, 1]], [[4, 0], [4, 3]], [5, 1]]
        if regular
        else [[[8, 3], [8, 1], [8, 0]], [[6, 1], [6, 2]], [[12, 5], [12, 0]], [7, 6], [0, 3]]
    )
    both_ways = regular and rng.random() < 0.4
    return {
        "d_model": heads * rng.choice([4, 6, 8]),
        "n_heads": heads,
        "n_layers": rng.choice([1, 2, 3]),
        "ff_expansion_factor": rng.choice([1, 2, 4]),
        "subsampling": rng.choice(["dw_striding", "dw_striding", "striding"]),
        "subsampling_factor": rng.choice([2, 4, 4, 8, 8]),
        "subsampling_conv_channels": rng.choice([4, 8]),
        "causal_downsampling": True,
        "att_context_size": contexts,
        "att_context_style": "regular" if regular else "chunked_limited",
        "conv_kernel_size": kernel,
        "conv_context_size": [kernel - 2, 1] if both_ways else "causal",
        "conv_norm_type": rng.choice(["batch_norm", "layer_norm"]),
        "use_bias": rng.choice([True, False]),
        "xscaling": rng.choice([True, False]),
        "untie_biases": rng.choice([True, False]),
        "feat_out": rng.choice([-1, -1, 20]),
    }


def steady(config: nm.Config, clips: Sequence[np.ndarray[Any, Any]]) -> Any:
    """A model whose tokens do not hang on the last digits, under any of its lookaheads."""
    prompt = 0 if "num_prompts" in config.get("model_defaults", {}) else None
    for seed in range(30):
        model = nm.build(config, seed)
        nm.enliven(model, clips, prompt)
        if hasattr(model, "joint"):
            nm.calibrate(model, clips, prompt)
        contexts = model.encoder.att_context_size_all
        if rec.is_steady(model, clips, prompt, error=1e-5, contexts=contexts):
            return model
    raise AssertionError(f"no seed in 0..29 gives a steady model for {config['encoder']}")
