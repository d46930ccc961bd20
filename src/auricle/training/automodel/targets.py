"""The `_target_` strings of NeMo AutoModel's files that mean something here: a closed table.

A target is compared with these texts and never imported or run, so a file cannot make Auricle
execute anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auricle.config import hint, shown
from auricle.errors import ConfigError
from auricle.training.automodel.values import Section

_NEMO = "nemo_automodel.components"
_MODEL_HOMES = ("nemo_automodel", "nemo_automodel._transformers")


def _models() -> dict[str, str]:
    """Each model class by where it may be imported from, with the kind of its head."""
    kinds = {"CTC": "ctc", "SpeechSeq2Seq": "seq2seq"}
    ours = {**kinds, "RNNT": "rnnt", "TDT": "tdt"}
    classes = {
        f"{home}.NeMoAutoModelFor{name}": kind
        for home in (*_MODEL_HOMES, "nemo_automodel._transformers.auto_model")
        for name, kind in kinds.items()
    }
    for home in ("auricle", "transformers"):
        classes |= {f"{home}.AutoModelFor{name}": kind for name, kind in ours.items()}
    classes["transformers.ParakeetForCTC"] = "ctc"
    classes["transformers.WhisperForConditionalGeneration"] = "seq2seq"
    return {
        f"{name}.{how}": f"{kind} {how}"
        for name, kind in classes.items()
        for how in ("from_pretrained", "from_config")
    }


def _several(home: str, *names: str) -> dict[str, str]:
    return {f"{home}.{name}": name for name in names}


# What stands where: the place's name, and there each target with what it means.
TARGETS: Mapping[str, Mapping[str, str]] = {
    "model": _models(),
    "recipe": {
        "FinetuneRecipeForASR": "asr",
        "nemo_automodel.recipes.asr.finetune.FinetuneRecipeForASR": "asr",
    },
    "peft": {f"{_NEMO}._peft.lora.PeftConfig": "lora"},
    "distributed": {
        **_several(f"{_NEMO}.distributed.config", "FSDP2Config", "MegatronFSDPConfig", "DDPConfig"),
        f"{_NEMO}.distributed.fsdp2.FSDP2Manager": "FSDP2Config",
        f"{_NEMO}.distributed.megatron_fsdp.MegatronFSDPManager": "MegatronFSDPConfig",
        f"{_NEMO}.distributed.ddp.DDPManager": "DDPConfig",
    },
    "optimizer": {
        "adamw": "adamw",
        "adam": "adam",
        "fused_adam": "fused",
        "flash_adamw": "fused",
        "torch.optim.AdamW": "adamw",
        "torch.optim.adamw.AdamW": "adamw",
        "torch.optim.Adam": "adam",
        "torch.optim.adam.Adam": "adam",
        "torch.optim.SGD": "sgd",
        "torch.optim.sgd.SGD": "sgd",
        "transformer_engine.pytorch.optimizers.FusedAdam": "fused",
        "transformer_engine.pytorch.optimizers.fused_adam.FusedAdam": "fused",
        "flashoptim.FlashAdamW": "fused",
        "bitsandbytes.optim.AdamW8bit": "adamw8bit",
        "bitsandbytes.optim.PagedAdamW8bit": "adamw8bit",
    },
    "loss_fn": {
        f"{_NEMO}.loss.masked_ce.MaskedCrossEntropy": "masked",
        f"{_NEMO}.loss.linear_ce.FusedLinearCrossEntropy": "fused",
        f"{_NEMO}.loss.chunked_ce.ChunkedCrossEntropy": "chunked",
        f"{_NEMO}.loss.te_parallel_ce.TEParallelCrossEntropy": "parallel",
    },
    "dataset": {
        **{
            f"{_NEMO}.datasets.asr.{home}make_{name}_dataset": name
            for home in ("", "datasets.")
            for name in ("librispeech", "common_voice", "custom_asr")
        },
        f"{_NEMO}.datasets.audio.datasets.make_hf_audio_asr_dataset": "hf_audio",
        f"{_NEMO}.datasets.audio.datasets.make_multi_en_asr_dataset": "multi_en",
    },
    "dataloader": {
        "torchdata.stateful_dataloader.StatefulDataLoader": "stateful",
        "torch.utils.data.DataLoader": "torch",
    },
    "collate_fn": {
        **{
            f"{_NEMO}.datasets.asr.{home}{name}_collate_fn": name
            for home in ("", "collate_fns.")
            for name in ("whisper", "parakeet")
        },
        f"{_NEMO}.datasets.audio.collate_fns.qwen2_5_omni_asr_collate_fn": "qwen",
        f"{_NEMO}.datasets.audio.collate_fns.qwen3_omni_asr_collate_fn": "qwen",
    },
    "processor": {
        f"transformers.{name}.from_pretrained": name
        for name in ("AutoProcessor", "AutoTokenizer", "WhisperProcessor", "ParakeetProcessor")
    },
    "rng": {f"{_NEMO}.training.rng.StatefulRNG": "rng"},
    # Of settings that have no meaning here, so that their sections can be named and passed over.
    "others": {
        "torch.distributed.fsdp.MixedPrecisionPolicy": "mp_policy",
        "torch.distributed.fsdp.CPUOffloadPolicy": "offload_policy",
        "torch.distributed.fsdp.OffloadPolicy": "offload_policy",
        "transformers.BitsAndBytesConfig": "quantization",
        "transformers.utils.quantization_config.BitsAndBytesConfig": "quantization",
        f"{_NEMO}.models.common.BackendConfig": "backend",
        f"{_NEMO}.quantization.fp8.FP8Config": "fp8",
        f"{_NEMO}.quantization.qat.QATConfig": "qat",
        f"{_NEMO}.utils.compile_utils.CompileConfig": "compile",
        f"{_NEMO}.distributed.pipelining.config.PipelineConfig": "pipeline",
        f"{_NEMO}.distributed.pipelining.autopipeline.AutoPipeline": "pipeline",
    },
}
_ALL = {target: place for place, known in TARGETS.items() for target in known}


def meaning(place: str, target: Any, where: str) -> str:
    """What a target means in one place of the file.

    Args:
        place: A key of `TARGETS`.
        target: What the file says.
        where: The key at which it says so, for messages.

    Raises:
        ConfigError: The table does not have it there; names the nearest that it has.
    """
    known = TARGETS[place]
    if isinstance(target, str) and target in known:
        return known[target]
    raise ConfigError(
        f"{where} is {shown(target)}, which is no target that Auricle knows there, and none is "
        f"ever imported; {hint(str(target), known)}"
    )


def target_of(section: Section, place: str, default: str | None = None) -> str:
    """What the section's `_target_` means."""
    target = section.get("_target_")
    if target is None and default is not None:
        return default
    return meaning(place, target, section.key("_target_"))


def refuse_unknown(data: Any, name: str = "") -> None:
    """Refuse a file that names anything to import which the table does not have, in any corner.

    AutoModel resolves `_target_`, and texts at keys that end in `_fn`.

    Raises:
        ConfigError: Names the key and the nearest known target.
    """
    for key, value in _pairs(data):
        where = f"{name}.{key}" if name else key
        target = key == "_target_" or (key.endswith("_fn") and isinstance(value, str))
        if target and not (isinstance(value, str) and value in _ALL):
            raise ConfigError(
                f"{where} is {shown(value)}, which Auricle does not know, and it imports nothing "
                f"that a file names; {hint(str(value), _ALL)}"
            )
        refuse_unknown(value, where)


def _pairs(data: Any) -> list[tuple[str, Any]]:
    if isinstance(data, Mapping):
        return [(str(key), value) for key, value in data.items()]
    if isinstance(data, list):
        return [(str(i), value) for i, value in enumerate(data)]
    return []
