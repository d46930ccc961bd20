"""Adapters at inference: views of one model, side by side, that hold nothing but their own."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import auricle
from auricle import checkpoints
from auricle.checkpoints.adapters import load_adapter, merged, save_adapter
from auricle.recognizer import Recognizer
from tests.checkpoints.random_adapters import random_adapter
from tests.conftest import GOLDEN

MODEL = GOLDEN / "nemo" / "streaming_hybrid.nemo"
RATE = 16000
CLIPS = [
    np.random.default_rng(seed).normal(0, 0.1, size).astype("float32")
    for seed, size in enumerate((40000, 16000, 64000, 24000))
]


@pytest.fixture(scope="module")
def base() -> Recognizer:
    return auricle.load(MODEL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters, "low" and "dora", of all linear layers."""
    checkpoint, room = checkpoints.load(MODEL), tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("low", "dora")):
        adapter = random_adapter(checkpoint, dora=name == "dora", seed=seed)
        save_adapter(adapter, room / name, checkpoint.config)
    return room / "low", room / "dora"


def ids(transcript: Any) -> list[int]:
    return [token.id for token in transcript.tokens]


def heard(asr: Recognizer, **options: Any) -> list[list[int]]:
    return [ids(t) for t in asr.transcribe(CLIPS, sample_rate=RATE, **options)]


@pytest.fixture(scope="module")
def wanted(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the plain model hears, and the models with each adapter in their weights."""
    checkpoint, room = checkpoints.load(MODEL), tmp_path_factory.mktemp("merged")
    found = [heard(auricle.load(MODEL))]
    for folder in folders:
        changed = merged(checkpoint, load_adapter(folder, checkpoint.config))
        checkpoints.save(changed, room / folder.name)
        found.append(heard(auricle.load(room / folder.name)))
    return found


def test_a_view_hears_what_the_merged_model_hears(
    base: Recognizer, folders: tuple[Path, Path], wanted: list[Any]
) -> None:
    low = base.with_adapter(folders[0])
    dora = low.with_adapter(str(folders[1]))  # not upon the other
    assert [heard(base), heard(low), heard(dora)] == wanted
    assert len({str(w) for w in wanted}) == 3
    assert low.model == f"{base.model}+low" and dora.model == f"{base.model}+dora"
    assert low.transcribe(CLIPS[0], sample_rate=RATE).model == low.model
    assert low.heads == base.heads


def test_one_call_picks_an_adapter_by_path_or_name(
    base: Recognizer, folders: tuple[Path, Path], wanted: list[Any]
) -> None:
    assert heard(base, adapter=folders[0]) == wanted[1]
    both = base.with_adapter(folders[0]).with_adapter(folders[1])
    assert heard(both, adapter="low") == wanted[1]
    assert heard(both) == wanted[2]
    assert heard(base) == wanted[0]
    with pytest.raises(auricle.ModelNotFound, match="low does not exist; give the folder"):
        base.transcribe(CLIPS, sample_rate=RATE, adapter="low")


def test_a_mixed_batch_is_split_by_adapter(
    base: Recognizer, folders: tuple[Path, Path], wanted: list[Any]
) -> None:
    low, dora = folders
    mixed = heard(base, adapter=[low, None, dora, low])
    assert mixed == [wanted[which][i] for i, which in enumerate((1, 0, 2, 1))]
    view = base.with_adapter(low)
    assert heard(view, adapter=["low", None, dora, None]) == [
        wanted[which][i] for i, which in enumerate((1, 1, 2, 1))
    ]
    with pytest.raises(auricle.ConfigError, match="2 adapters for 4 inputs"):
        base.transcribe(CLIPS, sample_rate=RATE, adapter=[low, dora])


def test_an_adapter_of_a_folder_is_that_of_all_in_it(
    base: Recognizer, folders: tuple[Path, Path]
) -> None:
    wav = GOLDEN / "wav"
    mixed = base.transcribe([wav, wav / "talk.wav"], adapter=[folders[0], None])
    view = base.with_adapter(folders[0])
    assert [ids(t) for t in mixed] == [
        *(ids(t) for t in view.transcribe(wav)),
        ids(base.transcribe(wav / "talk.wav")),
    ]


def test_many_threads_and_adapters_at_once(
    base: Recognizer, folders: tuple[Path, Path], wanted: list[Any]
) -> None:
    views = [base, *(base.with_adapter(folder) for folder in folders)]
    work = [(which, i) for _ in range(4) for i in range(len(CLIPS)) for which in range(3)]

    def run(job: tuple[int, int]) -> list[int]:
        which, i = job
        if which and i % 2:  # views also come while others work
            return ids(base.transcribe(CLIPS[i], sample_rate=RATE, adapter=folders[which - 1]))
        return ids(views[which].transcribe(CLIPS[i], sample_rate=RATE))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, work))
    assert found == [wanted[which][i] for which, i in work]


def test_streams_of_views(base: Recognizer, folders: tuple[Path, Path], wanted: list[Any]) -> None:
    def streamed(asr: Recognizer) -> list[int]:
        stream = asr.stream()
        for start in range(0, len(CLIPS[2]), 4000):
            stream.push(CLIPS[2][start : start + 4000])
        return ids(stream.finish())

    view = base.with_adapter(folders[0])
    assert view.lookaheads == base.lookaheads != ()
    assert [streamed(asr) for asr in (base, view)] == [wanted[0][2], wanted[1][2]]
    stream = view.stream()
    stream.push(CLIPS[2][:32000])
    with pytest.raises(auricle.ConfigError, match="of another model"):
        base.stream(state=stream.state())
    going_on = base.with_adapter(folders[0]).stream(state=stream.state())  # the same adapter
    going_on.push(CLIPS[2][32000:])
    assert ids(going_on.finish()) == wanted[1][2]


def tensor_bytes() -> int:
    """Of all tensors that there are, memory that several share counted once."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    packed = sum(t.numel() * t.element_size() for t in tensors if t.is_mkldnn)
    plain = [t.untyped_storage() for t in tensors if not t.is_mkldnn]
    return packed + sum({s.data_ptr(): s.nbytes() for s in plain}.values())


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_a_view_holds_the_adapters_numbers_and_no_others(
    dora: bool, base: Recognizer, tmp_path: Path
) -> None:
    """Beside those of DoRA, one more number for each output; and nothing after it was used."""
    checkpoint = checkpoints.load(MODEL)
    attention = [f"encoder.layers.0.self_attn.linear_{leaf}" for leaf in ("q", "v", "out")]
    adapter = random_adapter(checkpoint, [*attention, "joint.enc", "ctc"], dora=dora)
    save_adapter(adapter, tmp_path / "a", checkpoint.config)
    numbers = sum(lora.a.numel() + lora.b.numel() for lora in adapter.tensors.values())
    outputs = sum(len(lora.b) for lora in adapter.tensors.values())
    heard(base)
    before = tensor_bytes()
    view = base.with_adapter(tmp_path / "a")
    heard(view)
    assert tensor_bytes() - before == 4 * (numbers + (2 * outputs if dora else 0))


def test_whisper_takes_none() -> None:
    whisper: Any = SimpleNamespace(name="tiny")
    with pytest.raises(auricle.ConfigError, match="tiny takes no adapter beside it: put it in by"):
        Recognizer(whisper).with_adapter("anything")
