"""Which model AutoModel's file begins from, in which precision, and on how many processes."""

from __future__ import annotations

from dataclasses import dataclass

from auricle.errors import ConfigError
from auricle.training.automodel.targets import target_of
from auricle.training.automodel.values import Section, Values, needed

LAUNCHER = "the launcher decides how processes share the work: torchrun, or accelerate launch"

QUANTISED = "the base model is not quantised; optimizer.name=adamw8bit saves memory"


@dataclass(frozen=True)
class Model:
    """What training begins from; `kind` is ctc, rnnt, tdt or seq2seq."""

    name: str
    kind: str
    precision: str


def model_of(file: Section) -> Model:
    """The model that is fine-tuned.

    Raises:
        ConfigError: None is named, or one of a class that is not trained here.
    """
    section = needed(file, "model")
    kind, _, how = target_of(section, "model").partition(" ")
    if how == "from_config":
        raise ConfigError(
            "model._target_ is from_config, which begins with random weights: auricle train does "
            "that, by a recipe of its own; from_pretrained begins with a model's"
        )
    name = section.text("pretrained_model_name_or_path")
    if name is None:
        raise ConfigError("model.pretrained_model_name_or_path is missing; name a model")
    if section.get("revision") not in (None, "main"):
        raise ConfigError(
            "model.revision is not taken by a recipe; download that revision, and name its folder "
            "in model.pretrained_model_name_or_path"
        )
    precision = _precision(section, "torch_dtype") or _precision(section, "dtype") or "fp32"
    kernels = ("attn_implementation", "use_liger_kernel", "use_sdpa_patching", "sdpa_method")
    section.ignore((*kernels, "backend"), "PyTorch's own attention is used, as it chooses")
    section.ignore(["cache_dir"], "the hub's cache is where HF_HOME says")
    section.ignore(["force_hf", "use_cache", "low_cpu_mem_usage"], "has no meaning here")
    section.ignore(["trust_remote_code"], "no code of a model's repository is ever run")
    section.ignore(["quantization_config"], QUANTISED)
    section.end()
    return Model(name, kind, precision)


_DTYPES = {
    **dict.fromkeys(("bfloat16", "torch.bfloat16", "bf16"), "bf16"),
    **dict.fromkeys(("float16", "torch.float16", "fp16", "half"), "fp16"),
    **dict.fromkeys(("float32", "torch.float32", "fp32", "float", "auto"), "fp32"),
}


def _precision(section: Section, key: str) -> str | None:
    said = section.text(key)
    if said is None:
        return None
    if said not in _DTYPES:
        raise section.wrong(key, "bfloat16, float16, float32 or auto")
    return _DTYPES[said]


def note_precision(file: Section, model: Model, train: Values) -> None:
    """Say what becomes of weights that were to be kept in 16 bits."""
    if model.precision in ("bf16", "fp16"):
        file.note(
            f"model.torch_dtype: weights kept in {model.precision} lose the small updates "
            "of AdamW; here they and its state stay in float32, and products are in "
            f"train.precision={train['precision']}"
        )


def sharing_of(file: Section) -> Values:
    """`distributed` in both forms, and `distributed_config`: what is left of them in `train`."""
    train: Values = {}
    for key in ("distributed", "distributed_config"):
        section = file.section(key)
        if section is None:
            continue
        if section.get("_target_") is not None:
            target_of(section, "distributed")
        strategy = section.text("strategy")
        if strategy not in (None, "fsdp2", "ddp", "megatron_fsdp"):
            raise section.wrong("strategy", "fsdp2, ddp or megatron_fsdp")
        _parallel(section)
        if _checkpointing(section):
            train["gradient_checkpointing"] = True
        policy = section.section("mp_policy")
        said = _precision(policy, "param_dtype") if policy else None
        said = _precision(section, "autocast_dtype") or said
        if said:
            train["precision"] = said
        if policy:
            others = ("_target_", "reduce_dtype", "output_dtype", "cast_forward_inputs")
            policy.ignore(others, "gradients and weights are float32")
            policy.end()
        section.ignore(("_target_", "strategy", *_SHARDING), LAUNCHER)
        section.end()
    return train


_SIZES = ("tp_size", "pp_size", "cp_size", "ep_size")
# fmt: off
_SHARDING = (
    "dp_size", "dp_replicate_size", *_SIZES, "world_size", "backend", "pipeline", "multimodal",
    "sequence_parallel", "tp_plan", "use_hf_tp_plan", "offload_policy", "defer_fsdp_grad_sync",
    "activation_checkpointing_scope", "reshard_after_forward", "enable_async_tensor_parallel",
    "enable_compile", "enable_fsdp2_prefetch", "fsdp2_backward_prefetch_depth",
    "fsdp2_forward_prefetch_depth", "broadcast_buffers", "find_unused_parameters", "static_graph",
    "bucket_cap_mb", "gradient_as_bucket_view", "zero_dp_strategy", "megatron_fsdp_unit_modules",
    "init_fsdp_with_meta_device", "grad_reduce_in_fp32", "preserve_fp32_weights",
    "overlap_grad_reduce", "overlap_param_gather", "check_for_nan_in_grad", "nccl_ub",
    "average_in_collective", "disable_bucketing", "calculate_per_token_loss",
    "keep_fp8_transpose_cache", "fsdp_double_buffer",
)
# fmt: on


def _parallel(section: Section) -> None:
    for key in _SIZES:
        size = section.whole(key)
        if size is not None and size > 1:
            section.note(
                f"{section.key(key)}={size}: a model is not split over GPUs here (nor does "
                "AutoModel split Whisper or Parakeet); the GPUs share the data instead"
            )


def _checkpointing(section: Section) -> bool:
    said = section.get("activation_checkpointing")
    if said not in (None, True, False, "full", "selective"):
        raise section.wrong("activation_checkpointing", "true, false, full or selective")
    if said == "selective":
        section.note(
            f"{section.key('activation_checkpointing')}=selective: all layers compute their "
            "activations again"
        )
    return bool(said)
