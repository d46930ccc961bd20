"""AutoModel's files, written here from what is known of its eight recipes, and what they become."""

from __future__ import annotations

import copy
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from auricle.errors import ConfigError
from auricle.training.automodel import changed, is_automodel, overrides, translate
from auricle.training.automodel.values import leaves, plain
from auricle.training.reading import load_recipe, validated
from auricle.training.recipe import Recipe


class Published(NamedTuple):
    """A row of the published table."""

    clips: int
    batch: int
    lr: float
    min_lr: float
    lora: tuple[int, int, float] | None = None


PARAKEET, WHISPER = "nvidia/parakeet-ctc-", "openai/whisper-"
TABLE = {
    "parakeet_ctc_0.6b_sft": Published(32, 4, 1e-5, 1e-6),
    "parakeet_ctc_1.1b_sft": Published(32, 2, 1e-5, 1e-6),
    "parakeet_ctc_0.6b_lora": Published(64, 8, 1e-4, 1e-5, (16, 32, 0.05)),
    "parakeet_ctc_1.1b_lora": Published(64, 4, 5e-5, 5e-6, (32, 32, 0.1)),
    "whisper_small_sft": Published(32, 4, 1e-5, 1e-6),
    "whisper_medium_sft": Published(32, 2, 1e-5, 1e-6),
    "whisper_small_lora": Published(64, 8, 1e-4, 1e-5, (16, 32, 0.1)),
    "whisper_medium_lora": Published(64, 4, 5e-5, 5e-6, (32, 32, 0.1)),
}


def theirs(name: str, **sections: Any) -> dict[str, Any]:
    """The AutoModel-style file of one of the eight; `sections` take the place of its own."""
    row, whisper = TABLE[name], name.startswith("whisper")
    model, size = ("whisper", name.split("_")[1]) if whisper else ("parakeet", name.split("_")[2])
    auto = "SpeechSeq2Seq" if whisper else "CTC"
    asr = "nemo_automodel.components.datasets.asr"
    text = f"""
step_scheduler: {{global_batch_size: {row.clips}, local_batch_size: {row.batch},
  ckpt_every_steps: 100, val_every_steps: 50, max_steps: 1000}}
dist_env: {{backend: nccl, timeout_minutes: 10}}
model:
  _target_: nemo_automodel.NeMoAutoModelFor{auto}.from_pretrained
  pretrained_model_name_or_path: {WHISPER if whisper else PARAKEET}{size}
  torch_dtype: bfloat16
  {"attn_implementation: sdpa" if whisper else ""}
checkpoint: {{enabled: true, checkpoint_dir: ./asr_checkpoints/{name},
  model_save_format: safetensors, save_consolidated: true}}
distributed: {{dp_size: null, tp_size: 1, cp_size: 1}}
distributed_config:
  _target_: nemo_automodel.components.distributed.config.FSDP2Config
  sequence_parallel: false
loss_fn: {{_target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy}}
dataset: &data
  _target_: {asr}.datasets.make_librispeech_dataset
  path_or_dataset: librispeech_asr
  split: train.100
  streaming: false
  limit_dataset_samples: 10000
validation_dataset: {{<<: *data, split: validation, limit_dataset_samples: 1000}}
dataloader: &loader
  _target_: torchdata.stateful_dataloader.StatefulDataLoader
  num_workers: 4
  pin_memory: true
  collate_fn:
    _target_: {asr}.collate_fns.{model}_collate_fn
    {"max_length: 448" if whisper else ""}
validation_dataloader: {{<<: *loader, num_workers: 2}}
optimizer: {{_target_: torch.optim.AdamW, lr: {row.lr}, weight_decay: 0.01, betas: [0.9, 0.95]}}
lr_scheduler: {{lr_decay_style: cosine, min_lr: {row.min_lr}}}
"""
    made: dict[str, Any] = yaml.safe_load(text)
    if row.lora is not None:
        dim, alpha, dropout = row.lora
        targets = ["*.self_attn.*", "*.feed_forward.*"]
        made["peft"] = {
            "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
            "target_modules": [f"*.{x}_proj" for x in "qkvo"] if whisper else targets,
            "dim": dim,
            "alpha": alpha,
            "dropout": dropout,
            "use_triton": True,
        }
    return copy.deepcopy(made | sections)


def recipe(name: str = "parakeet_ctc_0.6b_lora", **sections: Any) -> dict[str, Any]:
    return translate(theirs(name, **sections), name).recipe


def notes(name: str = "parakeet_ctc_0.6b_lora", **sections: Any) -> str:
    return "\n".join(translate(theirs(name, **sections), name).notes)


def refusal(name: str = "parakeet_ctc_0.6b_lora", **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        translate(theirs(name, **sections), name)
    assert "\n" not in str(error.value)
    return str(error.value)


def put(name: str, *changes: str) -> dict[str, Any]:
    """One of the eight with changes from the command line."""
    return translate(changed(theirs(name), overrides(changes)), name).recipe


@pytest.mark.parametrize("name", TABLE)
def test_the_eight_recipes_keep_every_figure(name: str) -> None:
    row, whisper, made = TABLE[name], name.startswith("whisper"), recipe(name)
    size = name.split("_")[1 if whisper else 2]
    longest = 30.0 if whisper else 40.0
    language = {"language": "en"} if whisper else {}
    speech = {"dataset": "librispeech_asr", "subset": "clean", **language}
    assert made["name"] == name
    assert made["init_from"] == (WHISPER if whisper else PARAKEET) + size
    assert made["data"] == {
        "train": [{**speech, "split": "train.100", "limit": 10000}],
        "validation": [{**speech, "split": "validation", "limit": 1000}],
        "text": "lower",
        "max_seconds": longest,
        "max_batch": row.batch,
        "batch_seconds": row.batch * longest,
        "workers": 4,
    }
    betas = {"betas": [0.9, 0.95], "eps": 1e-8}
    assert made["optimizer"] == {"name": "adamw", "lr": row.lr, "weight_decay": 0.01, **betas}
    assert made["schedule"] == {"name": "cosine", "warmup": 100, "min_lr": row.min_lr}
    assert made["train"] == {
        "accumulate": row.clips // row.batch,
        "steps": 1000,
        "save_every": 100,
        "validate_every": 50,
        "precision": "bf16",
        "clip": 1.0,
        "seed": 42,
        **({} if whisper else {"freeze_batch_norm": True}),
    }
    assert made["loss"] == {"reduction": "mean_volume"}
    assert made["augment"] == {"spec": None}
    assert ("adapt" in made) == (row.lora is not None)


@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name].lora])
def test_lora_of_the_eight_recipes(name: str) -> None:
    rank, alpha, dropout = TABLE[name].lora or (0, 0, 0)
    targets = ["*.self_attn*", "*.feed_forward*"]
    if name.startswith("whisper"):
        targets = ["*.q_proj", "*.k_proj", "*.v_proj", "*.out_proj"]
    assert recipe(name)["adapt"] == {
        "lora": {
            "targets": targets,
            "exclude": [],
            "rank": rank,
            "alpha": alpha,
            "dropout": dropout,
            "dora": False,
        }
    }


def _said(value: object, made: object) -> bool:
    return any(value == leaf for _, leaf in leaves(made))


@pytest.mark.parametrize("name", TABLE)
def test_nothing_of_the_eight_recipes_is_dropped_silently(name: str) -> None:
    """Each value is in the recipe, or its key or its section is in a note."""
    translation = translate(theirs(name), name)
    told = "\n".join(translation.notes)
    assert len(set(translation.notes)) == len(translation.notes)
    assert all("\n" not in note and len(note) < 240 for note in translation.notes)
    used = {"_target_", "global_batch_size", "streaming", "enabled"}
    for key, value in leaves(plain(theirs(name))):
        parents = [key.rsplit(".", n)[0] for n in range(key.count(".") + 1)]
        named = any(re.search(rf"(^|, ){re.escape(p)}(:|,|=)", told, re.MULTILINE) for p in parents)
        assert named or key.split(".")[-1] in used or _said(value, translation.recipe), key


def test_what_the_notes_say() -> None:
    told = notes("whisper_small_lora")
    for text in (
        "*.o_proj is *.out_proj here",
        "here they and its state stay in float32",
        "train.precision=bf16",
        "train.accumulate=8 makes steps of 64 clips on one process",
        "data.workers=4 reads both",
        "peft.use_triton",
        "model.attn_implementation",
        "checkpoint.checkpoint_dir",
        "dist_env",
        "data.text=lower",
    ):
        assert told.count(text) == 1, text
    assert "BatchNorm" in notes() and "BatchNorm" not in told


def test_figures_written_as_texts_are_figures() -> None:
    made = recipe(
        optimizer={"_target_": "torch.optim.AdamW", "lr": "1e-5", "betas": "[0.9, 0.99]"},
        lr_scheduler={"lr_decay_style": "linear", "lr_warmup_steps": "1_0", "min_lr": "0"},
        peft="none",
        validation_dataset="None",
    )
    assert made["optimizer"]["lr"] == 1e-5
    assert made["optimizer"]["betas"] == [0.9, 0.99]
    assert made["schedule"] == {"name": "linear", "warmup": 10, "min_lr": 0.0}
    assert "adapt" not in made
    assert "validation" not in made["data"]
    assert put("whisper_small_sft", "--dataset.streaming", "true")["data"]["train"][0]["streaming"]


@pytest.mark.parametrize("said", ["${HOME}", "${oc.env:HOME,x}", "${HOME,x}", "$HOME", "a/$HOME"])
def test_nothing_is_taken_from_the_environment(said: str) -> None:
    assert refusal(wandb={"project": said}).startswith("wandb.project is ")
    assert os.environ["HOME"] not in refusal(wandb={"project": said})
    assert refusal(checkpoint={"checkpoint_dir": said}).startswith("checkpoint.checkpoint_dir is ")


# What may stand in a file to be run, or in one of its corners.


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("model", {"_target_": "os.system", "pretrained_model_name_or_path": "touch ran"}),
        ("model", {"_target_": "{here}/evil.py:run", "pretrained_model_name_or_path": "x"}),
        ("optimizer", {"_target_": "evil.run", "lr": 1}),
        ("loss_fn", "evil.run"),
        ("loss_fn", {"_target_": "builtins.eval"}),
        ("dataset", {"_target_": "evil.py:run", "path_or_dataset": "x"}),
        ("dataloader", {"collate_fn": "evil.run"}),
        ("dataloader", {"worker_init_fn": "evil.run"}),
        ("processor", {"_target_": "evil.run"}),
        ("recipe", {"_target_": "evil.run"}),
        ("distributed", {"mp_policy": {"_target_": "evil.run"}}),
        ("slurm", {"deep": [{"_target_": "evil.run"}]}),
        ("peft", {"_target_": ["evil.run"]}),
        ("optimizer", {"_target_": "nemo_automodel.NeMoAutoModelForCTC.from_pretrained"}),
    ],
)
def test_targets_are_never_imported(
    section: str, values: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef run(*a, **k): open('ran', 'w')\n")
    said = yaml.safe_load(yaml.safe_dump(values).replace("{here}", str(tmp_path)))
    complaint = refusal(**{section: said})
    assert complaint.startswith(section)
    assert "nearest is " in complaint or "known are " in complaint
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_a_literal_is_never_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = "[__import__('os').system('touch ran')]"
    assert recipe(wandb={"project": said})["log"]["project"] == said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("section", "values", "near"),
    [
        ("step_schedular", {}, "step_scheduler"),
        ("step_scheduler", {"global_batchsize": 8}, "step_scheduler.global_batch_size"),
        ("peft", {"rank": 8}, "peft.dim"),
        ("peft", {"target_module": "*"}, "peft.target_modules"),
        ("optimizer", {"_target_": "torch.optim.AdamW", "learning_rate": 1}, "optimizer.lr"),
        ("lr_scheduler", {"warmup_steps": 5}, "lr_scheduler.lr_warmup_steps"),
        ("distributed", {"tp_sise": 2}, "distributed.tp_size"),
        ("checkpoint", {"checkpoint_directory": "x"}, "checkpoint.checkpoint_dir"),
        ("freeze_config", {"freeze_audio_towers": True}, "freeze_config.freeze_audio_tower"),
        ("clip_grad_norm", {"maxnorm": 1}, "clip_grad_norm.max_norm"),
        ("rng", {"sed": 1}, "rng.seed"),
        ("dataloader", {"num_worker": 1}, "dataloader.num_workers"),
    ],
)
def test_unknown_keys_name_the_nearest(section: str, values: Any, near: str) -> None:
    complaint = refusal(**{section: values})
    assert "is no key of AutoModel's known here" in complaint
    assert f"nearest is {near}" in complaint


@pytest.mark.parametrize(
    ("section", "values", "text"),
    [
        ("step_scheduler", {"max_steps": "many"}, "step_scheduler.max_steps is 'many'; it must be"),
        ("step_scheduler", {"max_steps": 0}, "above 0"),
        ("step_scheduler", {"global_batch_size": 9, "local_batch_size": 2}, "no multiple"),
        ("model", {"_target_": "transformers.AutoModelForCTC.from_pretrained"}, "is missing"),
        ("optimizer", None, "optimizer is missing"),
        ("optimizer", {"_target_": "torch.optim.AdamW", "betas": 0.9}, "optimizer.betas is 0.9"),
        ("optimizer", {"_target_": "torch.optim.AdamW", "lr": 0}, "above 0"),
        ("optimizer", {"_target_": "torch.optim.Adagrad"}, "nearest is torch.optim."),
        ("lr_scheduler", {"lr_decay_style": "cosin"}, "nearest is cosine"),
        ("lr_scheduler", {"min_lr": 1}, "at most the highest rate"),
        ("peft", {"match_all_linear": True, "target_modules": ["*"]}, "not several"),
        ("peft", {"exclude_modules": ["a"], "target_modules": ["*"]}, "not several"),
        ("peft", [1], "peft is [1]; it must be a mapping"),
        ("distributed", {"strategy": "fsdp"}, "fsdp2, ddp or megatron_fsdp"),
    ],
)
def test_wrong_values_are_refused(section: str, values: Any, text: str) -> None:
    assert text in refusal(**{section: values})


def test_other_models_are_refused() -> None:
    def model(target: str, **more: str) -> dict[str, str]:
        return {"_target_": target, "pretrained_model_name_or_path": "x", **more}

    complaint = refusal(model=model("nemo_automodel.NeMoAutoModelForMultimodalLM.from_pretrained"))
    assert "nearest is nemo_automodel.NeMoAutoModelFor" in complaint
    assert "random weights" in refusal(
        model=model("nemo_automodel.NeMoAutoModelForCTC.from_config")
    )
    pretrained = "nemo_automodel._transformers.auto_model.NeMoAutoModelForCTC.from_pretrained"
    assert "revision" in refusal(model=model(pretrained, revision="abc"))
    made = recipe(model=model("auricle.AutoModelForTDT.from_pretrained", torch_dtype="float32"))
    assert made["init_from"] == "x"
    assert made["train"]["precision"] == "fp32"


def test_both_forms_of_distributed() -> None:
    """The older one has its strategy in a section of its own."""
    home = "nemo_automodel.components.distributed.config"
    policy = {
        "_target_": "torch.distributed.fsdp.MixedPrecisionPolicy",
        "param_dtype": "bfloat16",
        "reduce_dtype": "float32",
    }
    options = {"activation_checkpointing": True, "mp_policy": policy}
    model = {**theirs("whisper_small_sft")["model"], "torch_dtype": "float32"}
    older = {
        "distributed": {"dp_size": "none", "tp_size": 2},
        "distributed_config": {"_target_": f"{home}.FSDP2Config", **options},
    }
    newer = {
        "distributed": {"strategy": "fsdp2", "tp_size": 2, **options},
        "distributed_config": None,
    }
    for form in (older, newer):
        made = recipe("whisper_small_sft", model=model, **form)
        assert made["train"]["gradient_checkpointing"] is True
        assert made["train"]["precision"] == "bf16"
        told = notes("whisper_small_sft", model=model, **form)
        assert "distributed.tp_size=2: a model is not split over GPUs here" in told
        assert "the launcher decides" in told
        assert "model.torch_dtype" not in told, "float32 stays what it is"
    assert older["distributed_config"] is not None
    ddp = recipe("whisper_small_sft", distributed={"strategy": "ddp"}, distributed_config=None)
    assert "gradient_checkpointing" not in ddp["train"]


def test_the_length_of_a_run() -> None:
    def steps(limit: int | None = 1000, **said: Any) -> dict[str, Any]:
        sizes = {"global_batch_size": 10, "local_batch_size": 5}
        data = theirs("whisper_small_sft")["dataset"] | {"limit_dataset_samples": limit}
        return recipe("whisper_small_sft", dataset=data, step_scheduler=sizes | said)

    def ends(made: Mapping[str, Any]) -> tuple[object, ...]:
        train = made["train"]
        return train.get("steps"), train.get("epochs"), made["schedule"]["warmup"]

    assert ends(steps(max_steps=700)) == (700, None, 70)
    assert ends(steps(max_steps=70_000)) == (70_000, None, 1000)
    assert ends(steps(num_epochs=3)) == (None, 3, 30)  # 100 steps an epoch
    assert ends(steps(num_epochs=3, max_steps=200)) == (200, 3, 20)
    assert ends(steps()) == (None, 10, 100)
    assert ends(steps(limit=None, num_epochs=3)) == (None, 3, 100)
    assert steps()["train"]["accumulate"] == 2
    assert steps(ckpt_every_steps=7)["train"]["validate_every"] == 7
    assert steps()["train"]["save_every"] == 100
    plain = recipe("whisper_small_sft", step_scheduler={"max_steps": 5})
    assert (plain["data"]["max_batch"], plain["train"]["accumulate"]) == (1, 32)
    told = notes("whisper_small_sft", step_scheduler={"max_steps": 50_000})
    assert "AutoModel would also end after 10 epochs" in told


def _curve(made: Mapping[str, Any], step: int, total: int) -> float:
    from auricle.training.optimizing import learning_rate
    from auricle.training.recipe import ScheduleRecipe

    return learning_rate(ScheduleRecipe(**made["schedule"]), made["optimizer"]["lr"], step, total)


@pytest.mark.parametrize("style", ["constant", "linear", "cosine", "WSD", "inverse-square-root"])
def test_rates_after_the_warm_up_are_those_of_the_formula(style: str) -> None:
    """Against the formulas written out, for every step of a run."""
    high, low, warmup, total = 1e-4, 1e-6, 100, 1000
    said = {"lr_decay_style": style, "wsd_decay_steps": 200} if style == "WSD" else {}
    made = recipe(lr_scheduler={"lr_decay_style": style, "lr_wsd_decay_style": "linear"} | said)
    for step in range(warmup, total):
        gone = (step - warmup) / (total - warmup)
        wanted = {
            "constant": high,
            "linear": low + (high - low) * (1 - gone),
            "cosine": low + (high - low) * 0.5 * (1 + math.cos(math.pi * gone)),
            "WSD": low + (high - low) * min(1.0, (total - step) / 200),
            "inverse-square-root": max(low, high * math.sqrt(warmup / max(1, step))),
        }[style]
        assert _curve(made, step, total) == pytest.approx(wanted, rel=1e-9), step


def test_rates_that_are_not_given() -> None:
    bare = {"_target_": "torch.optim.AdamW"}
    made = recipe(optimizer=bare, lr_scheduler={})
    assert made["schedule"] == {"name": "cosine", "warmup": 100, "min_lr": 1e-5}
    wanted = {"lr": 1e-3, "weight_decay": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}
    assert made["optimizer"] == {"name": "adamw", **wanted}
    assert recipe(lr_scheduler=None)["schedule"] == {"name": "constant", "warmup": 0}
    made = recipe(lr_scheduler={"max_lr": 2e-4, "lr_decay_steps": 500, "init_lr": 0})
    assert made["optimizer"]["lr"] == 2e-4
    assert made["schedule"]["min_lr"] == 2e-6
    told = notes(lr_scheduler={"max_lr": 2e-4, "lr_decay_steps": 500, "end_wd": 0.1})
    assert "lr_scheduler.lr_decay_steps=500" in told
    assert "lr_scheduler.end_wd" in told
    assert "lr_scheduler.max_lr" in told
    assert "wsd_decay_steps is missing" in refusal(lr_scheduler={"lr_decay_style": "WSD"})


@pytest.mark.parametrize(
    ("target", "name", "decay"),
    [
        ("torch.optim.Adam", "adamw", 0.0),
        ("torch.optim.SGD", "sgd", 0.0),
        ("bitsandbytes.optim.AdamW8bit", "adamw8bit", 0.01),
        ("flashoptim.FlashAdamW", "adamw", 0.01),
    ],
)
def test_optimizers(target: str, name: str, decay: float) -> None:
    made = recipe(optimizer={"_target_": target, "lr": 0.5, "fused": True})["optimizer"]
    assert (made["name"], made["lr"], made["weight_decay"]) == (name, 0.5, decay)
    assert ("momentum" in made) == (name == "sgd")
    assert "optimizer.fused" in notes(optimizer={"_target_": target, "fused": True})


def test_rates_of_parts_of_the_model() -> None:
    groups = [{"pattern": "encoder", "lr_mult": "0.1"}, {"pattern": "norm", "wd_mult": 0.0}]
    said = {"_target_": "adamw", "param_group_overrides": groups}
    made = recipe("whisper_small_sft", optimizer=said)
    assert made["adapt"] == {"lr": {"*encoder*": 0.1}}
    assert made["optimizer"]["lr"] == 1e-4
    assert "optimizer.param_group_overrides.1.wd_mult" in notes(optimizer=said)
    regular = {"_target_": "adamw", "param_group_overrides": [{"pattern": "^a(b|c)"}]}
    assert "only a part of a name is taken" in refusal(optimizer=regular)


def test_an_optimizer_by_its_name() -> None:
    said = {"name": "torch.optim.AdamW", "lr": 1, "extra_kwargs": {"betas": [0.5, 0.6]}}
    assert recipe(optimizer=said)["optimizer"]["betas"] == [0.5, 0.6]


@pytest.mark.parametrize(
    ("split", "subset", "there"),
    [
        ("train.100", "clean", "train.100"),
        ("train.clean.360", "clean", "train.360"),
        ("train.500", "other", "train.500"),
        ("train.other.500", "other", "train.500"),
        ("test.other", "other", "test"),
        ("validation.clean", "clean", "validation"),
        ("test", "clean", "test"),
        ("train.100[:10%]", "clean", "train.100[:10%]"),
        ("train.100+train.360", "clean", "train.100+train.360"),
        ("train.360+train.other.500", "all", "train.clean.360+train.other.500"),
    ],
)
def test_librispeech_finds_the_subset_of_a_split(split: str, subset: str, there: str) -> None:
    data = theirs("whisper_small_sft")["dataset"] | {"split": split}
    source = recipe("whisper_small_sft", dataset=data)["data"]["train"][0]
    assert (source["subset"], source["split"]) == (subset, there)


@pytest.mark.parametrize("split", ["train.other.100", "train", "train.200", "dev", "train.other"])
def test_splits_that_librispeech_has_not(split: str) -> None:
    data = theirs("whisper_small_sft")["dataset"] | {"split": split}
    near = "known are " if split == "dev" else "nearest is "  # only what is like it
    assert f"no split of LibriSpeech; {near}" in refusal(dataset=data)


def _dataset(maker: str, **values: Any) -> dict[str, Any]:
    home = "audio" if maker in ("hf_audio", "multi_en") else "asr"
    target = f"nemo_automodel.components.datasets.{home}.datasets.make_{maker}_dataset"
    if home == "audio":
        target = target.replace("_dataset", "_asr_dataset")
    return {"_target_": target, "path_or_dataset": "some/corpus", **values}


def test_other_makers_of_data() -> None:
    def sources(name: str, dataset: Mapping[str, Any]) -> dict[str, Any]:
        data = recipe(name, dataset=dataset, validation_dataset=None)["data"]
        assert "text" not in data
        return {key: data[key] for key in data if key in ("train", "min_seconds", "max_seconds")}

    voice = _dataset("common_voice", language="cy", split="train", limit_dataset_samples=0)
    entry = {"dataset": "some/corpus", "split": "train"}
    cut = {"max_seconds": 40.0}
    welsh = {**entry, "subset": "cy", "text_column": "sentence"}
    assert sources("parakeet_ctc_0.6b_sft", voice) == {"train": [welsh], **cut}
    spoken = sources("whisper_small_sft", voice)["train"]
    assert spoken == [{**welsh, "language": "cy"}]
    custom = _dataset("custom_asr", split="dev", audio_column="sound", text_column="words")
    assert sources("parakeet_ctc_0.6b_sft", custom)["train"] == [
        {**entry, "split": "dev", "audio_column": "sound", "text_column": "words"}
    ]
    bounds = {"min_audio_duration_seconds": 1.0, "max_audio_duration_seconds": 20}
    audio = _dataset("hf_audio", name="ihm", user_prompt="Write!", sampling_rate=16000, **bounds)
    heard = {"train": [{**entry, "subset": "ihm"}], "min_seconds": 1.0, "max_seconds": 20.0}
    assert sources("parakeet_ctc_0.6b_sft", audio) == heard
    assert "dataset.user_prompt" in notes(dataset=audio)
    several = _dataset("multi_en", sources=[{"repo": "a/b", "config": "c", "limit": 5}])
    assert sources("parakeet_ctc_0.6b_sft", several)["train"] == [
        {"dataset": "a/b", "split": "train", "subset": "c", "limit": 5}
    ]
    gone = _dataset("common_voice") | {
        "path_or_dataset": "mozilla-foundation/common_voice_17_0",
        "language_code": "de",
    }
    assert "datacollective.mozillafoundation.org" in notes(dataset=gone)
    assert recipe(dataset=gone)["data"]["train"][0]["subset"] == "de"


def test_english_whisper_is_not_told_a_language() -> None:
    model = theirs("whisper_small_sft")["model"]
    model["pretrained_model_name_or_path"] = "openai/whisper-small.en"
    assert "language" not in recipe("whisper_small_sft", model=model)["data"]["train"][0]


@pytest.mark.parametrize(
    ("peft", "targets", "exclude"),
    [
        ({}, ["*_proj"], []),
        ({"match_all_linear": True}, ["*"], []),
        ({"exclude_modules": ["*.fc1"]}, ["*"], ["*.fc1"]),
        ({"target_modules": "o_proj"}, ["*.out_proj"], []),
        ({"target_modules": ["model.decoder.*.fc1"]}, ["model.decoder*.fc1"], []),
    ],
)
def test_lora_patterns(peft: dict[str, Any], targets: list[str], exclude: list[str]) -> None:
    lora = recipe("whisper_small_sft", peft=peft)["adapt"]["lora"]
    assert (lora["targets"], lora["exclude"]) == (targets, exclude)
    assert (lora["rank"], lora["alpha"], lora["dropout"], lora["dora"]) == (8, 32, 0.0, False)


def test_freezing() -> None:
    config = {"freeze_audio_tower": True, "freeze_embeddings": False, "freeze_vision_tower": True}
    assert recipe("whisper_small_sft", freeze_config=config)["adapt"] == {
        "freeze": ["model.encoder.*"]
    }
    assert recipe("whisper_small_sft", freeze_config={})["adapt"] == {"freeze": ["*.embed_tokens"]}
    assert recipe("parakeet_ctc_0.6b_sft", freeze_config=config)["adapt"] == {
        "freeze": ["encoder.*"]
    }
    both = translate(theirs("whisper_small_lora", freeze_config=config), "x")
    assert list(both.recipe["adapt"]) == ["lora"]
    assert "freeze_config: with peft the base model does not move anyway" in both.notes
    told = notes("parakeet_ctc_0.6b_sft", freeze_config={"freeze_language_model": True})
    assert "a CTC model has none" in told


def test_trackers_seed_and_clip() -> None:
    made = recipe(
        wandb={"project": "mine", "entity": "us", "name": "first"},
        mlflow={"experiment_name": "other"},
        rng={"_target_": "nemo_automodel.components.training.rng.StatefulRNG", "seed": 7},
        seed=3,
        clip_grad_norm={"max_norm": 0.5},
    )
    assert made["log"] == {"project": "mine", "trackers": ["wandb", "mlflow"]}
    assert (made["train"]["seed"], made["train"]["clip"]) == (7, 0.5)
    assert "rng.seed=7 is taken" in notes(rng={"seed": 7}, seed=3)
    assert "log" not in recipe(wandb={"project": "x", "enable": False})
    assert recipe(seed=0)["train"]["seed"] == 0


@pytest.mark.parametrize(
    "section", ["packed_sequence", "compile", "quantization", "fp8", "qat", "processor", "comet"]
)
def test_what_has_no_meaning_is_named(section: str) -> None:
    told = notes(**{section: {"enabled": True, "api_key": "secret"}})
    assert len(re.findall(rf"(?:^|, ){section}[,:]", told, re.MULTILINE)) == 1
    assert "secret" not in told


@pytest.mark.parametrize(
    "said",
    [
        "FinetuneRecipeForASR",
        "nemo_automodel.recipes.asr.finetune.FinetuneRecipeForASR",
        {"_target_": "FinetuneRecipeForASR"},
    ],
)
def test_the_class_of_a_recipe(said: Any) -> None:
    assert recipe(recipe=said) == recipe()
    assert "FinetuneRecipeForASR" in refusal(recipe="FinetuneRecipeForASRs")


def test_overrides() -> None:
    words = ["--optimizer.lr=2e-4", "--step_scheduler.max_steps", "50", "--peft.use_dora"]
    words += ["--lr_scheduler.min_lr", "-0", "--seed=1", "wandb.project=a=b"]
    said = overrides(words)
    assert said[1:4] == [
        "step_scheduler.max_steps=50",
        "peft.use_dora=true",
        "lr_scheduler.min_lr=-0",
    ]
    before = theirs("parakeet_ctc_0.6b_lora")
    kept = copy.deepcopy(before)
    made = translate(changed(before, said), "x").recipe
    assert before == kept
    assert made["optimizer"]["lr"] == 2e-4
    assert made["train"]["steps"] == 50
    assert made["train"]["seed"] == 1
    assert made["adapt"]["lora"]["dora"] is True
    assert made["schedule"]["min_lr"] == 0
    assert made["log"]["project"] == "a=b"
    targets = "--peft.target_modules=['*.q_proj', '*.v_proj']"
    assert put("whisper_small_lora", targets)["adapt"]["lora"]["targets"] == [
        "*.q_proj",
        "*.v_proj",
    ]
    assert "adapt" not in put("whisper_small_lora", "--peft", "none")


@pytest.mark.parametrize("word", ["stray", "--=3", "--a..b=1", "---a=1", "-c"])
def test_words_that_are_no_overrides(word: str) -> None:
    with pytest.raises(ConfigError, match="is no override"):
        overrides([word])


def test_overrides_are_checked_like_the_file() -> None:
    with pytest.raises(ConfigError, match=r"nearest is optimizer\.lr$"):
        put("whisper_small_sft", "--optimizer.lrr=1")
    with pytest.raises(ConfigError, match=r"os\.system"):
        put("whisper_small_sft", "--model._target_=os.system")
    with pytest.raises(ConfigError, match="leads into a list"):
        changed({"peft": {"target_modules": ["a"]}}, ["peft.target_modules.0=b"])


JUNK = [None, True, -1, 0, 1.5, float("nan"), 10**30, "", "x", [], [1], [{}], {}, {"a": 1}]


@pytest.mark.parametrize("name", ["parakeet_ctc_1.1b_lora", "whisper_medium_lora"])
def test_whatever_a_file_says_is_understood_or_refused_in_a_line(name: str) -> None:
    """Every section and every value of one in turn, with something else in its place."""
    wider = {
        "freeze_config": {"freeze_audio_tower": False},
        "clip_grad_norm": {"max_norm": 1.0},
        "wandb": {"project": "p", "enable": True},
        "rng": {"seed": 1},
        "seed": 1,
        "recipe": "FinetuneRecipeForASR",
    }
    data = theirs(name, **wider)
    data["optimizer"] |= {"param_group_overrides": [], "extra_kwargs": {}, "eps": 1e-8}
    data["lr_scheduler"] |= {"lr_warmup_steps": 1, "max_lr": 1, "wsd_decay_steps": 1}
    data["distributed"] |= {"strategy": "ddp", "mp_policy": {}, "activation_checkpointing": False}
    places = [(key,) for key in data]
    places += [(key, k) for key, held in data.items() if isinstance(held, dict) for k in held]
    refused = 0
    for place in places:
        for junk in JUNK:
            changed_data = copy.deepcopy(data)
            node = changed_data
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = junk
            try:
                translation = translate(changed_data, name)
            except ConfigError as error:
                assert "\n" not in str(error)
                refused += 1
            else:
                yaml.safe_dump(translation.recipe)
    assert refused > len(places)


def test_files_are_told_apart() -> None:
    assert all(is_automodel(theirs(name)) for name in TABLE)
    assert is_automodel({"model": {"pretrained_model_name_or_path": "x"}})
    assert is_automodel({"recipe": "FinetuneRecipeForASR"})
    assert not is_automodel({"extends": "citrinet_256", "model": {"family": "citrinet"}})
    assert not is_automodel({"data": {"train": []}, "optimizer": {"lr": 1}})
    assert not is_automodel({})
    assert not is_automodel(recipe())


def test_translating_needs_no_torch() -> None:
    program = "import sys, auricle.training.automodel; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", TABLE)
def test_the_shipped_recipes_are_the_translated_ones(name: str) -> None:
    """But for the data set's full name, and Parakeet's layers by their names."""
    shipped = load_recipe(name)
    made = recipe(name)
    for part in ("train", "validation"):
        made["data"][part][0]["dataset"] = "openslr/librispeech_asr"
    if "adapt" in made and name.startswith("parakeet"):
        layers = ("self_attn", "feed_forward1", "feed_forward2")
        made["adapt"]["lora"]["targets"] = [f"*.{layer}.*" for layer in layers]
    made["train"].pop("freeze_batch_norm", None)  # the default with init_from
    assert shipped == validated(Recipe, made | {"tokenizer": None})
