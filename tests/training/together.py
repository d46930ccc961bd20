"""Trainings on two processes, as `torchrun` starts them, but quicker and many at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import torch

from auricle.training import plots
from auricle.training.loop import train
from auricle.training.recipe import Recipe
from tests.patience import PATIENCE

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__, "torch._dynamo", "accelerate", "av", "filelock"])


def train_together(
    runs: Sequence[tuple[Recipe, Path]], *, fsdp: bool = False, threads: tuple[int, int] = (1, 1)
) -> None:
    """Train one after the other, going on with what is there; each on both processes.

    Each has its number of `threads`; torchrun gives one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        SERVER.Process(target=_rank, args=(rank, port, list(runs), fsdp, threads[rank]))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(PATIENCE)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]


def train_undrawn(runs: Sequence[tuple[Recipe, Path]]) -> None:
    """Train without plots, which would take most of the time and have tests of their own."""
    plots.draw = lambda *paths: []  # type: ignore[assignment]
    for recipe, folder in runs:
        train(recipe, folder, resume=True)


def _rank(
    rank: int, port: int, runs: Sequence[tuple[Recipe, Path]], fsdp: bool, threads: int
) -> None:
    torch.set_num_threads(threads)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if fsdp:
        _on_cpus()
    train_undrawn(runs)
    from accelerate.state import AcceleratorState

    assert AcceleratorState().is_fsdp2 == fsdp


def _on_cpus() -> None:
    """FSDP as `accelerate launch --use_fsdp --fsdp_version 2` sets it, which it does for GPUs."""
    from accelerate.state import DistributedType, PartialState

    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    os.environ |= {"ACCELERATE_TORCH_DEVICE": "cpu"}
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
