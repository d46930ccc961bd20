"""The processes of a training: how they start, what they tell each other, whole models from pieces.

What is here does the right thing with one process, with DDP's copies and with FSDP's pieces, so the
loop does not ask which it has. All ranks must make each call, and make it together.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from auricle.errors import ConfigError, MissingExtra
from auricle.training.trainee import AnyObjective

Made = TypeVar("Made")


def accelerator_for(precision: str) -> Any:
    """`accelerate`'s view of the processes that a launcher has started, of which this is one.

    Raises:
        ConfigError: They are to run in a way that this training does not know.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise MissingExtra("training needs an extra: pip install 'auricle[train]'") from None
    there = torch.accelerator.is_available()
    if precision == "fp16" and not there:
        raise ConfigError("train.precision=fp16 needs a GPU: take fp32 or bf16 on the CPU")
    AcceleratorState._reset_state(reset_partial_state=True)  # a process may train many times
    # Else accelerate takes each of torchrun's processes without a GPU for the only one.
    made = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=not there)
    way = str(made.distributed_type.value)
    if way == "FSDP" and not made.is_fsdp2:
        raise ConfigError("FSDP of version 1 is not supported: launch with --fsdp_version 2")
    if way not in ("NO", "FSDP") and not way.startswith("MULTI_"):
        raise ConfigError(f"{way} is not supported: launch without it, for DDP, or with --use_fsdp")
    return made


def wrapped(
    accelerator: Any, objective: AnyObjective, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, Any]:
    """The network and its optimiser as `accelerate` has them."""
    from accelerate.utils import DistributedDataParallelKwargs

    # Only dropped layers leave parameters without a gradient, and looking for them costs time.
    accelerator.ddp_handler = DistributedDataParallelKwargs(
        find_unused_parameters=objective.drops_layers
    )
    if accelerator.is_fsdp2:
        from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

        plugin = accelerator.state.fsdp_plugin
        plugin.cpu_ram_efficient_loading = False  # fails at the buffers of a BatchNorm
        plugin.mixed_precision_policy = None  # as under DDP: weights and losses in float32
        plugin.auto_wrap_policy = transformer_auto_wrap_policy
        there = {type(module).__name__ for module in objective.modules()}
        plugin.transformer_cls_names_to_wrap = sorted(there & set(objective.layers))
        objective.to(accelerator.device)  # which places parameters only
    # DDP would tell each user of a depthwise convolution that its gradient is copied.
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    network, prepared = accelerator.prepare(objective, optimizer)
    return network, prepared


def agreed(accelerator: Any, make: Callable[[], Made]) -> Made:
    """What the first rank makes, on every rank."""
    made: list[Any] = [make() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(made)
    return made[0]  # type: ignore[no-any-return]


def gathered(own: list[Made]) -> list[Made]:
    """The lists of all ranks, one after the other, on every rank."""
    from accelerate.utils import gather_object

    return list(gather_object(own))


def numbers(accelerator: Any, values: Sequence[Any]) -> Tensor:
    """`values` where the ranks can add them up, as exactly as the device can hold them."""
    device = accelerator.device
    dtype = torch.float32 if device.type == "mps" else torch.float64  # of which it has none
    return torch.tensor(values, dtype=dtype, device=device)


def arithmetic(accelerator: Any) -> list[dict[str, Any]]:
    """What the last bits of each rank's results depend on besides recipe and data, by rank."""
    device = accelerator.device
    own = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "matmul": torch.get_float32_matmul_precision(),
    }
    return gathered([own])


def repeat_arithmetic(accelerator: Any, before: Sequence[Mapping[str, Any]]) -> list[str]:
    """Take as many threads as each rank had, given `arithmetic`; says that, and what is else now.

    The threads stay for the process: see `threads_given_back`.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    now = arithmetic(accelerator)
    if len(before) != world:
        return [f"{world} processes instead of {len(before)} hear the data in another order"]
    torch.set_num_threads(before[rank]["threads"])
    old, new = ([facts["threads"] for facts in facts_of] for facts_of in (before, now))
    lines = []
    if old != new:
        asked, had = (", ".join(map(str, sorted(set(counts)))) for counts in (old, new))
        lines.append(f"each process takes {asked} threads as before, not {had}")
    changed = {
        f"{key} {was[key]}, now {value}"
        for was, is_now in zip(before, now, strict=True)
        for key, value in is_now.items()
        if key != "threads" and was.get(key, value) != value
    }
    if changed:
        lines.append(f"the last bits may differ: saved with {'; '.join(sorted(changed))}")
    return lines


@contextmanager
def threads_given_back() -> Iterator[None]:
    """Leave the process with the number of threads it came with."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def share_buffers(accelerator: Any, model: nn.Module) -> None:
    """Give all ranks the first one's buffers: each has its own statistics of a live BatchNorm."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Hold whole what has no layer of its own under FSDP, for uses other than `forward`.

    Nothing may read or write the weights themselves meanwhile.
    """
    root: Any = network if hasattr(network, "unshard") else None
    if root is None:
        yield
        return
    root._get_fsdp_state()._lazy_init()  # before any step a layer would take itself for the root
    root.unshard()
    try:
        yield
    finally:
        root.reshard()


def weights(model: nn.Module, *, moving: bool = False) -> dict[str, Tensor]:
    """The whole model on the CPU, not copied if it lies there; nothing on ranks but the first.

    With `moving` without what is frozen.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    options = _whole(ignore_frozen_params=moving)
    found: dict[str, Any] = get_model_state_dict(model, options=options)
    return found


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, moving: bool = False) -> None:
    """The inverse of `weights`, with all of them on every rank."""
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    set_model_state_dict(model, dict(tensors), options=_whole(strict=not moving))


def optimizer_state(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """As `weights`, what the optimiser knows of each parameter by its name."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    return dict(get_optimizer_state_dict(model, optimizer.optimizer, options=_whole()))


def load_optimizer_state(model: nn.Module, optimizer: Any, state: Mapping[str, Any]) -> None:
    """The inverse of `optimizer_state`, with all of it on every rank."""
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    if state["state"]:  # plain SGD knows nothing
        set_optimizer_state_dict(model, optimizer.optimizer, dict(state), options=_whole())


def _whole(**more: Any) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True, **more)
