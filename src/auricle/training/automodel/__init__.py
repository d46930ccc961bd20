"""NeMo AutoModel's recipes in Auricle's own keys.

Total: every key of such a file becomes a key of the recipe, or a line in `notes`, or an error that
names the nearest known one. Nothing that a file names is imported, no file is read, and nothing is
taken from the environment. `values` reads a file's sections, `targets` is the table of what its
`_target_` strings mean, and each other module translates a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from auricle.training.automodel.adapting import adapt_of
from auricle.training.automodel.model import (
    LAUNCHER,
    QUANTISED,
    model_of,
    note_precision,
    sharing_of,
)
from auricle.training.automodel.speech import batches_of, sources_of
from auricle.training.automodel.steps import (
    clip,
    loss,
    optimizer_of,
    schedule_of,
    seed,
    steps_of,
)
from auricle.training.automodel.targets import meaning, refuse_unknown
from auricle.training.automodel.values import (
    Notes,
    Section,
    Values,
    changed,
    overrides,
    plain,
    refuse_variables,
)

__all__ = ["Translation", "changed", "is_automodel", "overrides", "translate"]

_OURS = ("data", "train", "schedule", "extends", "init_from", "adapt", "augment")
_THEIRS = (
    "recipe",
    "step_scheduler",
    "lr_scheduler",
    "validation_dataset",
    "distributed_config",
    "dist_env",
)


_NO_MEANING = {
    "dist_env": "the processes are set up by the launcher",
    "slurm": "start it by your cluster's own launcher",
    "skypilot": "start it by your cluster's own launcher",
    "nemo_run": "start it by your cluster's own launcher",
    "autopipeline": LAUNCHER,
    "pipeline": LAUNCHER,
    "packed_sequence": "clips of like length are put into a batch instead",
    "compile": "training runs without torch.compile",
    "quantization": QUANTISED,
    "quantization_config": QUANTISED,
    "qat": "training is not quantised",
    "fp8": "training is not quantised; train.precision is fp32, bf16 or fp16",
    "processor": "the model's own features and tokenizer are taken",
    "tokenizer": "the model's own tokenizer is taken; tokenizer.path sets another one",
    "comet": "has no tracker here; log.trackers takes tensorboard, wandb and mlflow",
    "mfu": "is not measured",
    "prewarm": "has no meaning here",
    "ema": "is not carried over; train.ema is the decay of averaged weights",
    "neftune": "has no meaning here",
    "benchmark": "has no meaning here",
    "profiling": "has no meaning here",
    "ci": "has no meaning here",
}


@dataclass(frozen=True)
class Translation:
    """A recipe for the schema, and what the reader of the old one has to know: a line each."""

    recipe: dict[str, Any]
    notes: tuple[str, ...]


def is_automodel(data: Mapping[str, Any]) -> bool:
    """Whether a YAML file is one of AutoModel's, and not a recipe of Auricle's."""
    if any(key in data for key in _OURS):
        return False
    sections = [value for value in data.values() if isinstance(value, Mapping)]
    model = data.get("model")
    return (
        any(key in data for key in _THEIRS)
        or any("_target_" in section for section in sections)
        or (isinstance(model, Mapping) and "pretrained_model_name_or_path" in model)
    )


def translate(data: Mapping[str, Any], name: str) -> Translation:
    """AutoModel's YAML as a recipe of Auricle's.

    Args:
        data: The file's mapping, command-line overrides already put in (`changed`).
        name: What to call the recipe.

    Raises:
        ConfigError: An unknown key or `_target_`, a value of the wrong type, an environment
            variable, or something that would train another model than was asked for.
    """
    values = plain(data)
    refuse_variables(values)
    refuse_unknown(values)
    notes = Notes()
    file = Section("", values, notes)
    _recipe_class(file)
    model = model_of(file)
    sharing = sharing_of(file)
    sources = sources_of(file, model)
    steps = steps_of(file, sources)
    optimizer = optimizer_of(file)
    train = {
        **steps.train,
        "precision": sharing.pop("precision", model.precision),
        "clip": clip(file),
        "seed": seed(file),
        **sharing,
    }
    if model.kind != "seq2seq":
        train["freeze_batch_norm"] = True
        file.note(
            "train.freeze_batch_norm: AutoModel lets BatchNorm follow small batches; here the "
            "encoder's statistics stay those of the base model"
        )
    recipe: Values = {
        "name": name,
        "init_from": model.name,
        "data": {**sources, **batches_of(file, model, steps.local, sources)},
        "augment": {"spec": None},
        "loss": {"reduction": loss(file)},
        "schedule": schedule_of(file, optimizer, steps),  # may move the optimiser's rate
        "optimizer": optimizer,
        "train": train,
    }
    note_precision(file, model, train)
    adapt = adapt_of(file, model)
    log = _log(file, steps.log_every)
    recipe |= {"adapt": adapt} if adapt else {}
    recipe |= {"log": log} if log else {}
    _checkpoint(file)
    for key, reason in _NO_MEANING.items():
        if file.get(key) is not None:
            notes.add(reason, [key])
    file.end()
    return Translation(recipe, notes.lines())


def _recipe_class(file: Section) -> None:
    said = file.get("recipe")
    if isinstance(said, Mapping):
        said = said.get("_target_")
    if said is not None:
        meaning("recipe", said, "recipe")


def _log(file: Section, every: int | None) -> Values:
    log: Values = {} if every is None else {"every": every}
    trackers = []
    for key, project in (("wandb", "project"), ("mlflow", "experiment_name")):
        section = file.section(key)
        if section is None:
            continue
        named, enabled = section.text(project), section.flag("enable")
        others = [k for k in section.values if k not in (project, "enable")]
        section.ignore(others, "is not carried over; the environment sets up the tracker")
        section.end()
        if enabled is False:
            section.note(f"{key}.enable=false: it is no tracker")
            continue
        trackers.append(key)
        if named and log.setdefault("project", named) != named:
            section.note(f"{section.key(project)}: log.project={log['project']} is used for both")
    if trackers:
        log["trackers"] = trackers
    return log


def _checkpoint(file: Section) -> None:
    """All of it is a matter of the command line, or of `auricle convert`."""
    section = file.section("checkpoint")
    if section is None:
        return
    if section.flag("enabled") is False:
        section.note("checkpoint.enabled=false: a training always saves, every train.save_every")
    section.ignore(["checkpoint_dir"], "-o names the run folder; else it is runs/NAME")
    section.ignore(["restore_from"], "--resume goes on with a run")
    section.ignore(
        ("model_save_format", "save_consolidated", "v4_compatible", "diffusers_compatible"),
        "models are saved whole, as safetensors; auricle convert makes other formats",
    )
    section.ignore(["best_metric_key"], "the best models are those with the lowest WER")
    section.ignore(["max_recent_checkpoints"], "the last two saves are kept")
    section.ignore(
        (
            *("is_async", "staging_dir", "wait_for_staging", "cpu_offload", "model_cache_dir"),
            *("single_rank_consolidation", "consolidation_timeout_minutes", "model_repo_id"),
            *("dequantize_base_checkpoint", "skip_task_head_prefixes_for_base_model", "is_peft"),
        ),
        "has no meaning here",
    )
    section.end()
