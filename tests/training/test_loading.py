"""Loading: the same tensors wherever they are made, and what becomes of sound that is gone."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from auricle.checkpoints import Checkpoint
from auricle.errors import AudioError, ConfigError, WorkerLost
from auricle.features import LogMel, LogMelConfig
from auricle.models.asr import ModelConfig, PromptConfig
from auricle.models.jasper import JasperConfig
from auricle.tokenizers import CharTokenizer
from auricle.training.augment import Waveform
from auricle.training.batching import Plan, sorted_batches
from auricle.training.items import Batch, Item
from auricle.training.loading import Loading, batches
from auricle.training.recipe import (
    AugmentRecipe,
    DataRecipe,
    GainRecipe,
    Recipe,
    SourceRecipe,
    SpeedRecipe,
)
from auricle.training.sounds import FileSound
from auricle.training.sources import open_sources
from tests.training.speech import manifest

DATA = DataRecipe(batch_seconds=2.0, buckets=2)
CHANGES = AugmentRecipe(speed=SpeedRecipe(prob=1.0), gain=GainRecipe(prob=1.0))
TOKENIZER = CharTokenizer("abc")


def loading(**options: object) -> Loading:
    return Loading(LogMel(LogMelConfig(n_mels=16)), TOKENIZER, **options)  # type: ignore[arg-type]


def plan(folder: Path, data: DataRecipe = DATA) -> Plan:
    return Plan(open_sources([SourceRecipe(manifest=str(manifest(folder)))], data), data, seed=7)


def equal(one: Batch, other: Batch) -> bool:
    tensors = ("features", "frames", "tokens", "lengths")
    return (one.items, one.seed, one.after, one.lost) == (
        other.items,
        other.seed,
        other.after,
        other.lost,
    ) and all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


def test_a_batch_holds_what_the_model_would_hear(tmp_path: Path) -> None:
    planned = next(plan(tmp_path).batches())
    batch = loading(training=False).load(planned)
    assert batch.items == planned.items
    for number, item in enumerate(batch.items):
        samples = torch.from_numpy(item.sound.read(16_000))[None]
        features, frames = LogMel(LogMelConfig(n_mels=16)).eval()(
            samples, torch.tensor([samples.shape[1]])
        )
        count = int(frames[0])
        assert int(batch.frames[number]) == count
        torch.testing.assert_close(
            batch.features[number, :, :count], features[0, :, :count], atol=1e-4, rtol=0
        )
        written = batch.tokens[number, : batch.lengths[number]]
        assert TOKENIZER.decode(written.tolist()) == item.text
    assert batch.prompt is None
    assert batch.seconds == pytest.approx(sum(item.duration for item in planned.items))


def test_workers_change_nothing(tmp_path: Path) -> None:
    changed = loading(augmentation=Waveform(CHANGES, 16_000))
    here, generator = plan(tmp_path), torch.random.get_rng_state()
    with batches(here.batches(), changed, 0) as made:
        alone = list(itertools.islice(made, 5))
    with batches(here.batches(), changed, 2) as made:
        helped = list(itertools.islice(made, 5))
    assert all(map(equal, alone, helped))
    # Nobody's dice but the batch's own were thrown.
    assert torch.equal(generator, torch.random.get_rng_state())


def test_an_error_of_a_worker_is_the_same_line(tmp_path: Path) -> None:
    here = plan(tmp_path)
    (tmp_path / "clips/2.wav").unlink()
    strict = loading(invalid="refuse")
    said = []
    for workers in (0, 1):
        with (
            batches(here.batches(), strict, workers) as made,
            pytest.raises(AudioError, match=r"2\.wav: no such file") as caught,
        ):
            list(itertools.islice(made, 6))
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]


def test_a_worker_that_is_killed_is_one_line(tmp_path: Path) -> None:
    """As by a system without memory; PyTorch says so in the midst of whatever is done then."""
    with (
        pytest.raises(WorkerLost, match=r"loads data is gone \(.*Killed.*data\.workers") as caught,
        batches(plan(tmp_path).batches(), loading(), 1) as made,
    ):
        next(made)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        for _ in range(100):
            time.sleep(0.05)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="of another kind"), batches([], loading(), 1):
        raise RuntimeError("of another kind")


def test_sound_that_vanishes_is_left_out_and_said(tmp_path: Path) -> None:
    planned = sorted_batches(
        open_sources([SourceRecipe(manifest=str(manifest(tmp_path)))], DATA)[0].items(),
        DataRecipe(),
    )[0]
    whole = loading(training=False).load(planned)
    (tmp_path / "clips/4.wav").unlink()
    (tmp_path / "clips/1.wav").write_bytes(b"no sound at all")
    batch = loading(training=False).load(planned)
    names = [Path(item.name).name for item in batch.items]
    assert names == ["5.wav", "3.wav", "2.wav", "0.wav"]
    assert [line.split(":")[0] for line in batch.lost] == [
        str(tmp_path / "clips/4.wav"),
        str(tmp_path / "clips/1.wav"),
    ]
    assert torch.equal(batch.frames, whole.frames[[0, 2, 3, 5]])
    for i in (0, 2, 3, 5):
        (tmp_path / f"clips/{i}.wav").unlink()
    empty = loading().load(planned)
    assert empty.items == ()
    assert empty.features.shape[:2] == (0, 16)
    assert len(empty.lost) == 6


def test_an_item_is_changed_by_its_own_dice(tmp_path: Path) -> None:
    """What is done to an item does not hang on the others of its batch."""
    planned = next(plan(tmp_path).batches())
    changed = loading(augmentation=Waveform(CHANGES, 16_000), training=False)
    seen: list[tuple[int, ...]] = []

    def watch(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(tuple(rng.integers(1 << 30, size=2)))
        return samples

    loading(augmentation=watch).load(planned)
    assert len(set(seen)) == len(planned.items)
    first = dataclasses.replace(planned, items=planned.items[:1])
    assert changed.load(first).frames[0] == changed.load(planned).frames[0]


def test_dither_is_drawn_by_the_seed_in_training_only(tmp_path: Path) -> None:
    planned = next(plan(tmp_path).batches())
    other = dataclasses.replace(planned, seed=(8, 0, 0))
    dithered = loading()
    assert torch.equal(dithered.load(planned).features, dithered.load(planned).features)
    assert not torch.equal(dithered.load(planned).features, dithered.load(other).features)
    plain = loading(training=False)
    assert torch.equal(plain.load(planned).features, plain.load(other).features)


def test_the_models_own_filters_are_used(tmp_path: Path) -> None:
    planned = next(plan(tmp_path).batches())
    config = LogMelConfig(n_mels=16, normalize=None, dither=0.0)
    own = LogMel(config)
    own.filterbank.mul_(2.0)
    louder, usual = (
        Loading(features, TOKENIZER).load(planned).features for features in (own, LogMel(config))
    )
    assert not torch.allclose(louder, usual)
    Loading(own, TOKENIZER, training=False)
    assert own.training  # the model's are left as they are


def test_a_recipe_says_what_is_done_to_sound(tmp_path: Path) -> None:
    """Of a checkpoint its features are taken, as they were stored; augmentation only to train."""
    planned = next(plan(tmp_path).batches())
    features = LogMelConfig(n_mels=16, dither=0.0, normalize=None)
    jasper = JasperConfig(feat_in=16, blocks=())
    config = ModelConfig(features, jasper, 3, ctc=True, transducer=None)
    stored = {"features.filterbank": 2 * LogMel(features).filterbank}
    checkpoint = Checkpoint(config, TOKENIZER, stored, "x")
    recipe = Recipe("x", augment=CHANGES)
    held_out = Loading.of(checkpoint, recipe, training=False).load(planned)
    own = LogMel(features)
    own.filterbank.mul_(2.0)
    assert torch.equal(
        held_out.features, Loading(own, TOKENIZER, training=False).load(planned).features
    )
    changed = Loading.of(checkpoint, recipe, training=True).load(planned)
    assert not torch.equal(changed.frames, held_out.frames)


def test_languages_become_numbers(tmp_path: Path) -> None:
    prompt = PromptConfig(languages={"en-US": 3, "de-DE": 5, "auto": 9})
    planned = next(plan(tmp_path).batches())
    items = [
        dataclasses.replace(item, language=language)
        for item, language in zip(planned.items, ["de-DE", None, "en-US"], strict=False)
    ]
    spoken = dataclasses.replace(planned, items=tuple(items))
    batch = loading(prompt=prompt).load(spoken)
    assert batch.prompt is not None
    assert batch.prompt.tolist() == [5, 9, 3][: len(items)]
    unknown = dataclasses.replace(items[0], language="xx")
    with pytest.raises(ConfigError, match="no number for the language 'xx'"):
        loading(prompt=prompt).load(dataclasses.replace(planned, items=(unknown,)))


def test_loading_can_be_sent_to_a_worker() -> None:
    sent = pickle.loads(pickle.dumps(loading(augmentation=Waveform(CHANGES, 16_000))))
    item = Item("gone", FileSound("/nowhere.wav"), 1.0, "a")
    assert pickle.loads(pickle.dumps(item)) == item
    assert isinstance(sent, Loading)


def test_a_negative_number_of_workers_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="workers must be 0 or more, got -1"),
        batches([], loading(), -1),
    ):
        pass
