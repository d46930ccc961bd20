"""What transformers makes of our folders: `generate` and its pipeline give our tokens and texts."""

# ruff: noqa: E402 (what the imports need is asked for first)
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("transformers.models.nemotron3_5_asr", reason="needs a newer transformers")

import numpy as np

import auricle
from auricle.checkpoints import load
from auricle.checkpoints.huggingface import save_huggingface

from .goldens import GOLDEN, clip

pytestmark = pytest.mark.filterwarnings("ignore:.*max_length")
MODELS = [
    ("nemo/fastconformer_rnnt.nemo", "rnnt"),
    ("nemo/parakeet_tdt.nemo", "tdt"),
    ("nemo/hybrid_tdt_ctc.nemo", "ctc"),
    ("nemo/streaming_hybrid.nemo", "rnnt"),
    ("nemo/streaming_factor4.nemo", "rnnt"),
    ("huggingface/parakeet_ctc_hf", "ctc"),
    ("huggingface/nemotron_prompt_hf", "rnnt"),
]


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def folders(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """Where a model is, the head to write, and the folder that we wrote."""
    name, head = request.param
    folder = tmp_path_factory.mktemp("exported") / "model"
    save_huggingface(load(GOLDEN / name), folder, head=head)
    return GOLDEN / name, head, folder


def samples() -> list[np.ndarray]:
    """Over a second: shorter ones are centred in silence here, which transformers does not do."""
    return [clip(name)[0].numpy() for name in ("phrase", "talk")]


def tokens(generated: Any, blank: int, ctc: bool) -> list[int]:
    """What is left without blanks, padding and, of CTC, repetitions."""
    ids = [int(i) for i in generated]
    if ctc:
        ids = [i for before, i in zip([blank, *ids], ids, strict=False) if i != before]
    return [i for i in ids if i != blank]


def test_generate_gives_our_tokens(folders: tuple[Path, str, Path]) -> None:
    source, head, folder = folders
    asr = auricle.load(str(source), head=head)
    ours = [[token.id for token in asr.transcribe(x, sample_rate=16000).tokens] for x in samples()]
    assert any(ours)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = _model(folder)
    blank = model.config.vocab_size - 1
    for batch in [[0], [1]], [[0, 1]]:
        for rows in batch:
            inputs = processor([samples()[row] for row in rows], sampling_rate=16000)
            generated = model.generate(**inputs)
            found = generated if head == "ctc" else generated.sequences
            for row, ids in zip(rows, found, strict=True):
                assert tokens(ids, blank, head == "ctc") == ours[row]


def test_the_pipeline_gives_our_texts(folders: tuple[Path, str, Path]) -> None:
    source, head, folder = folders
    asr = auricle.load(str(source), head=head)
    tokenizer = load(source).tokenizer
    unknown = list(tokenizer.pieces).index("<unk>")
    pipeline = transformers.pipeline("automatic-speech-recognition", model=str(folder))
    for x in samples():
        ours = asr.transcribe(x, sample_rate=16000)
        shown = [token.id for token in ours.tokens if token.id != unknown]
        theirs = pipeline(x.copy())["text"]
        if head != "ctc" and len(shown) < len(ours.tokens):  # unknown tokens, which it leaves out
            assert theirs == tokenizer.decode(shown)
        else:
            assert theirs == ours.text


@pytest.mark.parametrize("name", ["streaming_hybrid", "streaming_factor4"])
def test_each_lookahead_gives_the_tokens_of_our_stream(name: str, tmp_path: Path) -> None:
    source = GOLDEN / "nemo" / f"{name}.nemo"
    save_huggingface(load(source), tmp_path / "model", head="rnnt")
    asr = auricle.load(str(source), head="rnnt")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "model")
    model = _model(tmp_path / "model")
    listed = processor.supported_num_lookahead_tokens
    assert listed == [lookahead.steps for lookahead in asr.lookaheads]
    for steps in listed:
        processor.set_num_lookahead_tokens(steps)
        for x in samples():
            stream = asr.stream(lookahead=steps)
            stream.push(x)
            ours = [token.id for token in stream.finish().tokens]
            found = model.generate(**processor(x, sampling_rate=16000)).sequences[0]
            assert tokens(found, model.config.blank_token_id, ctc=False) == ours


def test_the_files_say_where_generation_starts(folders: tuple[Path, str, Path]) -> None:
    _, head, folder = folders
    generation = json.loads((folder / "generation_config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    blank = config["vocab_size"] - 1
    assert generation["pad_token_id"] == blank
    durations = [blank + 1 + i for i in range(len(config.get("durations", [])))]
    assert generation.get("suppress_tokens", []) == durations
    if head == "ctc":
        assert generation.keys() == {"pad_token_id"}
    else:
        assert generation["decoder_start_token_id"] == blank
        assert generation["eos_token_id"] not in (*range(blank + 1), *durations)


def _model(folder: Path) -> Any:
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder).eval()
