"""Whisper in training: what it hears and is asked for, against transformers; it learns by heart."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import auricle
from auricle.checkpoints.whisper import folder_kind, to_ctranslate2
from auricle.checkpoints.whisper_model import (
    POSITIONS,
    WhisperCheckpoint,
    build_whisper,
    load_whisper,
    save_whisper,
    shortened,
)
from auricle.errors import CheckpointError, ConfigError
from auricle.training.estimate import Largest, _kept_bytes, estimate
from auricle.training.items import Item, PlannedBatch, Position
from auricle.training.loop import train
from auricle.training.progress import Silent
from auricle.training.reading import load_recipe
from auricle.training.recipe import Recipe
from auricle.training.sounds import FileSound
from auricle.training.whisper import WhisperTrainee, whisper_trainee
from auricle.training.whisper_data import WhisperMel, WhisperTokenizer, prompts, shifted, window_of
from tests.tiny_whisper import write_tiny_whisper
from tests.training.tiny import Hearing
from tests.training.tones import corpus

transformers = pytest.importorskip("transformers", reason="the extra 'finetune' is not installed")

RECIPE = """
init_from: MODEL
adapt: {freeze: [encoder]}
data:
  train: [{manifest: MANIFEST, language: LANGUAGE}]
  validation: [{manifest: MANIFEST, language: LANGUAGE}]
  max_seconds: 2
  batch_seconds: 20
  workers: 0
augment: {spec: null}
loss: {reduction: mean_volume}
optimizer: {lr: 5.0e-3, weight_decay: 0.0}
schedule: {name: constant, warmup: 5}
train: {steps: 150, validate_every: 25, save_every: 1000}
log: {trackers: [], every: 1}
"""


@pytest.fixture(scope="module", params=[False, True], ids=["english", "multilingual"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(
        tmp_path_factory.mktemp("whisper") / "model", multilingual=request.param
    )


@pytest.fixture(scope="module")
def start(folder: Path) -> WhisperCheckpoint:
    return load_whisper(folder, name="tiny")


def recipe_for(tmp_path: Path, model: Path, *overrides: str, count: int = 4) -> Recipe:
    """A recipe on `count` clips of tones, with `model` to begin from."""
    manifest = tmp_path / "data" / "rows.jsonl"
    if not manifest.exists():
        corpus(manifest.parent, count)
    path = tmp_path / "whisper.yaml"
    text = RECIPE.replace("MODEL", str(model)).replace("MANIFEST", str(manifest))
    path.write_text(text.replace("LANGUAGE", "en"))
    return load_recipe(path, overrides)


def trainee_for(tmp_path: Path, model: Path, *overrides: str) -> WhisperTrainee:
    made = load_whisper(model, name="tiny")
    return whisper_trainee(made, recipe_for(tmp_path, model, *overrides), Silent())


def planned(manifest: Path) -> PlannedBatch:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    items = tuple(
        Item(
            row["audio_filepath"],
            FileSound(str(manifest.parent / row["audio_filepath"])),
            row["duration"],
            row["text"],
            "en",
        )
        for row in rows
    )
    return PlannedBatch(items, (0,), Position())


# Features


@pytest.mark.parametrize("n_mels", [80, 128])
def test_features_are_those_of_transformers(n_mels: int) -> None:
    random = np.random.default_rng(0)
    clips = [random.normal(0, 0.1, n).astype(np.float32) for n in (16000, 50001, 480000)]
    theirs = transformers.WhisperFeatureExtractor(feature_size=n_mels)
    expected = theirs(clips, sampling_rate=16000, return_tensors="np").input_features
    samples = torch.zeros(3, 480000)
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    features, frames = WhisperMel(n_mels)(samples, torch.tensor([len(c) for c in clips]))
    assert np.abs(features.numpy() - expected).max() < 1e-4
    assert frames.tolist() == [100, 313, 3000]
    alone, _ = WhisperMel(n_mels)(samples[:1, :16000], torch.tensor([16000]))
    assert torch.equal(alone, features[:1])


def test_a_short_window_is_the_beginning_of_the_long_one() -> None:
    samples = torch.randn(2, 16000) / 10
    lengths = torch.tensor([16000, 16000])
    whole, _ = WhisperMel(80)(samples, lengths)
    short, _ = WhisperMel(80, 200)(samples, lengths)
    assert short.shape == (2, 80, 200)
    assert torch.allclose(short, whole[..., :200], atol=1e-4)


@pytest.mark.parametrize(
    ("seconds", "slowest", "positions"), [(30.0, 1.0, 1500), (30.0, 0.9, 1500), (9.0, 1.0, 450)]
)
def test_windows(seconds: float, slowest: float, positions: int) -> None:
    assert window_of(seconds, slowest, 1500) == positions
    assert window_of(9.0, 0.9, 1500) == 500


def test_clips_longer_than_whisper_hears_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"30 s at once: set data\.max_seconds"):
        window_of(31.0, 1.0, 1500)


# Labels


def test_labels_are_the_input_shifted_once() -> None:
    prompt = torch.tensor([[50, 51], [50, 51]])
    tokens = torch.tensor([[1, 2, 3, 99], [4, 99, 0, 0]])
    inputs, labels = shifted(prompt, tokens, torch.tensor([4, 2]), 99)
    assert inputs.tolist() == [[50, 51, 1, 2, 3], [50, 51, 4, 99, 99]]
    assert labels.tolist() == [[-100, 1, 2, 3, 99], [-100, 4, 99, -100, -100]]
    scored = labels != -100
    assert torch.equal(labels[:, :-1][scored[:, :-1]], inputs[:, 1:][scored[:, :-1]])


def test_the_prompt_is_that_of_transformers_tokenizer(start: WhisperCheckpoint) -> None:
    ids = start.special
    multilingual = "lang_to_id" in start.generation
    language = torch.tensor([ids["<|de|>"], ids["<|en|>"]]) if multilingual else None
    rows = prompts(start, language, 2).tolist()
    begin, plain = ids["<|startoftranscript|>"], ids["<|notimestamps|>"]
    if multilingual:
        assert rows[0] == [begin, ids["<|de|>"], ids["<|transcribe|>"], plain]
        assert rows[1] == [begin, ids["<|en|>"], ids["<|transcribe|>"], plain]
    else:
        assert rows == [[begin, plain]] * 2


def test_text_begins_with_a_space_and_has_an_end(start: WhisperCheckpoint) -> None:
    tokenizer = WhisperTokenizer(start)
    ids = tokenizer.encode("ab c")
    assert ids[-1] == start.special["<|endoftext|>"]
    assert [tokenizer.pieces[i] for i in ids[:-1]] == ["Ġ", "a", "b", "Ġ", "c"]
    assert tokenizer.decode(ids).strip() == "ab c"
    assert tokenizer.decode(tokenizer.encode("你", "zh")) == "你"


def test_the_loss_is_the_sum_that_transformers_has_the_mean_of(
    tmp_path: Path, folder: Path
) -> None:
    """With labels made by hand as transformers wants them, from a batch with padding."""
    trainee = trainee_for(tmp_path, folder, "adapt=null")
    batch = trainee.loading(training=True).load(planned(tmp_path / "data" / "rows.jsonl"))
    model, objective = trainee.objective.model.eval(), trainee.objective.eval()
    ours = objective(batch.features, batch.frames, batch.tokens, batch.lengths, batch.prompt)
    before = prompts(trainee.start, batch.prompt, 4)
    end = trainee.start.special["<|endoftext|>"]
    rows = [[*p, *t[:n]] for p, t, n in zip(
        before.tolist(), batch.tokens.tolist(), batch.lengths.tolist(), strict=True
    )]  # fmt: skip
    longest = max(map(len, rows))
    inputs = torch.tensor([row[:-1] + [end] * (longest - len(row)) for row in rows])
    masked = [[-100] * (before.shape[1] - 1) + row[before.shape[1] :] for row in rows]
    labels = torch.tensor([row + [-100] * (longest - 1 - len(row)) for row in masked])
    theirs = model(input_features=batch.features, decoder_input_ids=inputs, labels=labels)
    count = int(batch.lengths.sum())
    assert int((labels != -100).sum()) == count
    assert float(ours["loss"]) / count == pytest.approx(float(theirs.loss), rel=1e-5)


def test_padding_changes_no_loss(tmp_path: Path, folder: Path) -> None:
    trainee = trainee_for(tmp_path, folder, "adapt=null")
    batch = trainee.loading(training=True).load(planned(tmp_path / "data" / "rows.jsonl"))
    objective = trainee.objective.eval()

    def loss(rows: slice, tokens: torch.Tensor) -> float:
        prompt = None if batch.prompt is None else batch.prompt[rows]
        lengths = batch.lengths[rows]
        return float(
            objective(batch.features[rows], batch.frames[rows], tokens, lengths, prompt)["loss"]
        )

    everything = slice(0, 4)
    whole = loss(everything, batch.tokens)
    padded = F.pad(batch.tokens, (0, 7), value=3)
    assert loss(everything, padded) == pytest.approx(whole, rel=1e-5)
    alone = [
        loss(slice(i, i + 1), batch.tokens[i : i + 1, : int(batch.lengths[i])]) for i in range(4)
    ]
    assert sum(alone) == pytest.approx(whole, rel=1e-5)


def test_a_batch_of_nothing_has_a_loss_of_nothing(tmp_path: Path, folder: Path) -> None:
    """What a rank learns from whose batch was lost: gradients of 0 for all that moves."""
    trainee = trainee_for(tmp_path, folder, "adapt=null")
    prompt = torch.zeros(1, dtype=torch.int64) if "lang_to_id" in trainee.start.generation else None
    losses = trainee.objective(
        torch.zeros(1, 80, 160),
        torch.tensor([160]),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.tensor([0]),
        prompt,
    )
    losses["loss"].backward()
    assert float(losses["loss"]) == 0
    parameters = [p for p in trainee.objective.parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in parameters)


# The encoder


def test_a_shortened_encoder_is_the_same_on_what_it_hears(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    model = build_whisper(config, load_whisper(folder, name="tiny").tensors).eval()
    before = dict(model.state_dict())[POSITIONS].clone()
    shortened(model, 100)
    assert model.model.encoder(torch.zeros(1, 80, 200)).last_hidden_state.shape == (1, 100, 16)
    assert torch.equal(model.state_dict()[POSITIONS], before[:100])
    assert not model.model.encoder.embed_positions.weight.requires_grad


def test_encodings_are_made_once_and_are_those_of_the_encoder(tmp_path: Path, folder: Path) -> None:
    trainee = trainee_for(tmp_path, folder)
    loading = trainee.loading(training=True)
    assert trainee.objective.encoded and loading.here
    plan = planned(tmp_path / "data" / "rows.jsonl")
    first = loading.load(plan)
    calls: list[int] = []
    encoder = trainee.objective.model.model.encoder
    encoder.register_forward_hook(lambda *_: calls.append(1))
    second = loading.load(plan)
    assert not calls
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.tokens, second.tokens)
    mels = trainee_for(tmp_path, folder, "adapt=null").loading(training=True).load(plan)
    expected = encoder(mels.features).last_hidden_state.transpose(1, 2)
    assert torch.allclose(first.features, expected, atol=1e-5)
    assert first.items == mels.items and torch.equal(first.lengths, mels.lengths)


@pytest.mark.parametrize(
    "override", ["adapt=null", "augment.gain={prob: 0.5}", "augment.spec.freq_masks=1"]
)
def test_an_encoder_that_moves_or_hears_changes_is_asked_each_time(
    tmp_path: Path, folder: Path, override: str
) -> None:
    trainee = trainee_for(tmp_path, folder, override)
    loading = trainee.loading(training=True)
    assert not trainee.objective.encoded and not loading.here


def test_lost_sound_and_long_text_are_left_out(tmp_path: Path, folder: Path) -> None:
    trainee = trainee_for(tmp_path, folder)
    plan = planned(tmp_path / "data" / "rows.jsonl")
    one, two, *others = plan.items
    bad = (replace(one, sound=FileSound("nowhere.wav")), replace(two, text="a" * 500), *others)
    batch = trainee.loading(training=True).load(replace(plan, items=bad))
    assert batch.items == tuple(others)
    assert len(batch.lost) == 2 and "501 tokens" not in batch.lost[0]
    assert "502 tokens, and Whisper writes 444 at most" in batch.lost[1]
    nothing = trainee.loading(training=True).load(replace(plan, items=bad[:2]))
    assert nothing.features.shape == (0, 16, 1)


# Decoding, and what is written


def test_greedy_is_that_of_transformers(tmp_path: Path, folder: Path) -> None:
    trainee = trainee_for(tmp_path, folder, "adapt=null", "data.max_seconds=30")
    batch = trainee.loading(training=False).load(planned(tmp_path / "data" / "rows.jsonl"))
    objective, model = trainee.objective.eval(), trainee.objective.model
    with torch.no_grad():
        ours = objective.greedy(objective.encoded_from(batch.features), batch.prompt)
    model.generation_config = transformers.GenerationConfig(**trainee.start.generation)
    spoken = {} if batch.prompt is None else {"language": "en", "task": "transcribe"}
    end = trainee.start.special["<|endoftext|>"]
    theirs = model.generate(
        batch.features, num_beams=1, do_sample=False, max_new_tokens=40,
        suppress_tokens=list(range(end + 1, model.config.vocab_size)), **spoken,
    )  # fmt: skip
    for row, expected in zip(ours, theirs.tolist(), strict=True):
        written = [t for t in expected if t < end]
        assert row[: len(written)] == written


def test_what_is_written_is_read_again(tmp_path: Path, folder: Path) -> None:
    start = load_whisper(folder, name="tiny")
    save_whisper(start, tmp_path / "saved")
    again = load_whisper(tmp_path / "saved", name="tiny")
    assert again.fingerprint() != "" and again.tensors.keys() == start.tensors.keys()
    assert all(torch.equal(again.tensors[n], t) for n, t in start.tensors.items())
    assert again.generation == start.generation
    to_ctranslate2(tmp_path / "saved", tmp_path / "ct2")
    assert folder_kind(tmp_path / "ct2") == "ctranslate2"
    back = load_whisper(tmp_path / "ct2", name="tiny")
    assert all(torch.equal(back.tensors[n], t) for n, t in start.tensors.items())


def test_a_folder_that_is_no_whisper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no Whisper"):
        load_whisper(tmp_path, name="none")


def test_a_damaged_folder_is_refused_in_a_line(tmp_path: Path, folder: Path) -> None:
    bad = tmp_path / "bad"
    save_whisper(load_whisper(folder, name="tiny"), bad)
    (bad / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="not a readable Whisper") as caught:
        load_whisper(bad, name="bad")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.average=true", "train.average"),
        ("data.max_seconds=31", "30 s at once"),
        ("adapt={lora: {targets: ['*.o_proj']}}", r"'\*\.o_proj', which fits no name.*out_proj"),
    ],
)
def test_what_a_whisper_has_not_is_refused(
    tmp_path: Path, folder: Path, override: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        trainee_for(tmp_path, folder, override)


def test_rows_without_a_language_are_refused_by_a_multilingual_whisper(tmp_path: Path) -> None:
    folder = write_tiny_whisper(tmp_path / "model", multilingual=True)
    trainee = trainee_for(tmp_path, folder)
    plan = planned(tmp_path / "data" / "rows.jsonl")
    items = tuple(replace(item, language=None) for item in plan.items)
    with pytest.raises(ConfigError, match="`language`"):
        trainee.loading(training=True).load(replace(plan, items=items))
    german = replace(plan, items=tuple(replace(item, language="German") for item in plan.items))
    prompt = trainee.loading(training=True).load(german).prompt
    assert prompt is not None and set(prompt.tolist()) == {trainee.start.special["<|de|>"]}


# The loop


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "frozen"])
def test_the_loop_learns_four_clips_by_heart(tmp_path: Path, folder: Path, frozen: bool) -> None:
    recipe = recipe_for(tmp_path, folder, *([] if frozen else ["adapt=null"]))
    hearing = Hearing()
    result = train(recipe, tmp_path / "run", progress=hearing)
    assert hearing.losses[-1] < 0.1 * hearing.losses[0]
    assert result.wer == 0.0
    assert any("windows of 2 s" in line for line in hearing.lines)
    assert any("encoded once" in line for line in hearing.lines) == frozen
    model = tmp_path / "run" / "model"
    saved = load_whisper(model, name="saved")
    start = load_whisper(folder, name="tiny")
    assert torch.equal(saved.tensors[POSITIONS], start.tensors[POSITIONS])
    assert saved.beside == start.beside
    encoder = "model.encoder.layers.0.fc1.weight"
    assert torch.equal(saved.tensors[encoder], start.tensors[encoder]) == frozen
    to_ctranslate2(model, tmp_path / "ct2")


def test_adapters_are_saved_for_peft_and_are_in_the_model(tmp_path: Path, folder: Path) -> None:
    peft = pytest.importorskip("peft")
    lora = "adapt={lora: {targets: ['*_proj', '*.fc1', '*.fc2'], rank: 4}}"
    changes = [lora, "optimizer.lr=0.01", "train.steps=40", "train.validate_every=40"]
    hearing = Hearing()
    train(recipe_for(tmp_path, folder, *changes), tmp_path / "run", progress=hearing)
    assert hearing.losses[-1] < 0.6 * hearing.losses[0]
    adapter = tmp_path / "run" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["task_type"] is None
    base = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    adapted = peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()
    merged = load_whisper(tmp_path / "run" / "model", name="merged").tensors
    theirs = adapted.state_dict()
    moved = [n for n, t in merged.items() if not torch.equal(t, base_tensors(folder)[n])]
    assert len(moved) == len({n for n in moved if n.endswith(("_proj.weight", "fc1.weight"))}) + 4
    for name, tensor in merged.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-5), name


def test_memory_is_told_by_windows_before_the_first_step(tmp_path: Path, folder: Path) -> None:
    said = []
    for name, adapt in {"all": "null", "frozen": "{freeze: [encoder]}"}.items():
        hearing = Hearing()
        recipe = recipe_for(tmp_path, folder, f"adapt={adapt}", "train.steps=1", "data.max_batch=3")
        train(recipe, tmp_path / name, progress=hearing)
        said += [line for line in hearing.lines if line.startswith("memory, an estimate")]
    assert all("activations of a batch of 3 windows of 2 s" in line for line in said)
    moving = [float(re.search(r"move \(([\d.]+) %\)", line)[1]) for line in said]  # type: ignore[index]
    assert moving[1] < 90 < moving[0] < 100  # the encoder's positions never move
    assert "data.max_batch up to about" in said[0]


def test_the_estimate_is_what_is_kept_of_more_windows(tmp_path: Path, folder: Path) -> None:
    kept = []
    for twice in ("false", "true"):
        changes = ("adapt=null", f"train.gradient_checkpointing={twice}")
        trainee = trainee_for(tmp_path, folder, *changes)
        largest = Largest(trainee.window, 5 * trainee.window, windows=True)
        given = (trainee.objective, trainee.noise, trainee.recipe, largest)
        found = estimate(*given, autocast=nullcontext())
        real = _kept_bytes(trainee.objective, trainee.noise(5, trainee.window))
        assert found.kept(largest.seconds) + found.fixed == pytest.approx(real, rel=0.05)
        kept.append(real)
    assert kept[1] < 0.8 * kept[0]


def test_layers_computed_twice_give_the_same_gradients(tmp_path: Path, folder: Path) -> None:
    losses, slopes = [], []
    for twice in ("true", "false"):
        changes = ("adapt=null", f"train.gradient_checkpointing={twice}")
        trainee = trainee_for(tmp_path, folder, *changes)
        torch.manual_seed(0)
        loss = trainee.objective.train()(*trainee.noise(2, 2.0))["loss"]
        loss.backward()
        losses.append(loss)
        slopes.append([p.grad for p in trainee.objective.parameters()])
    assert torch.equal(*losses)
    for one, other in zip(*slopes, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def base_tensors(folder: Path) -> Any:
    return load_whisper(folder, name="base").tensors


def test_gradients_do_not_hang_on_how_a_step_is_split(tmp_path: Path, folder: Path) -> None:
    """One batch of four, or four of one: the loss is per token, whatever `accumulate` says."""
    changes = ["adapt=null", "optimizer.name=sgd", "optimizer.lr=0.1", "schedule.warmup=0"]
    changes += ["train.steps=2", "train.validate_every=100", "train.clip=null", "data.buckets=1"]
    whole, split = Hearing(), Hearing()
    train(recipe_for(tmp_path, folder, *changes), tmp_path / "whole", progress=whole)
    parts = [*changes, "data.max_batch=1", "train.accumulate=4"]
    train(recipe_for(tmp_path, folder, *parts), tmp_path / "split", progress=split)
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)
    one, other = (base_tensors(tmp_path / run / "model") for run in ("whole", "split"))
    assert all(torch.allclose(t, other[n], atol=1e-5) for n, t in one.items())


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, folder: Path) -> None:
    changes = ["train.validate_every=4", "train.save_every=2"]
    whole = recipe_for(tmp_path, folder, *changes, "train.steps=4")
    train(whole, tmp_path / "whole")
    train(recipe_for(tmp_path, folder, *changes, "train.steps=2"), tmp_path / "parts")
    train(whole, tmp_path / "parts", resume=True)
    one, other = (base_tensors(tmp_path / run / "model") for run in ("whole", "parts"))
    assert all(torch.equal(t, other[n]) for n, t in one.items())


def test_a_run_is_a_model_to_load(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("faster_whisper")
    train(recipe_for(tmp_path, folder, "train.steps=1"), tmp_path / "run")
    assert auricle.load(tmp_path / "run").heads == ("whisper",)


def test_streams_and_columns_of_other_names_are_learnt_from(tmp_path: Path, folder: Path) -> None:
    """A dataset without a length, whose columns are called otherwise; on the CPU."""
    datasets = pytest.importorskip("datasets")
    recipe_for(tmp_path, folder)
    rows = [json.loads(line) for line in (tmp_path / "data" / "rows.jsonl").open()]
    table = datasets.Dataset.from_dict(
        {
            "sound": [str(tmp_path / "data" / row["audio_filepath"]) for row in rows],
            "transcription": [row["text"] for row in rows],
        }
    ).cast_column("sound", datasets.Audio(decode=False))
    table.to_parquet(str(tmp_path / "set" / "train.parquet"))
    source = (
        f"{{dataset: {tmp_path / 'set'}, streaming: true, audio_column: sound, "
        "text_column: transcription, language: en}"
    )
    changes = [f"data.train=[{source}]", "train.steps=2", "schedule.name=constant"]
    assert train(recipe_for(tmp_path, folder, *changes), tmp_path / "run").step == 2
