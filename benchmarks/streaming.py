"""Streams per core: Auricle's beside NeMo's cache-aware step, on the same weights.

    python benchmarks/streaming.py --reference-python .venv-parity/bin/python

A cache-aware FastConformer RNNT of 115 M parameters with random weights, fp32, one thread on one
core. Each engine lives in its own process; rounds take turns on streams that are warm, so that a
change in the machine's load meets both. Auricle goes through its public pool, from samples to
events; NeMo is timed in `conformer_stream_step` alone, its mel spectra computed beforehand.
Prints a Markdown table; tokens are the same where ids and encoder steps are. At 80 ms NeMo's steps
depart from its own offline forward, so that tokens differ there.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed import HERE, ROOT, Worker, environment, make_clips, processor, start

ENGINES = ("auricle", "nemo")
STEP_MS = 80
LOOKAHEADS = (0, 1, 6, 13)
MEMORY_STREAMS = 32


@dataclass
class Measured:
    """What one engine did with one number of streams at one lookahead."""

    rounds: list[list[float]] = field(default_factory=list)  # milliseconds of each step
    tokens: list[list[list[int]]] = field(default_factory=list)  # of each stream: step and id
    rate: float = 0.0  # tokens a second of a stream

    @property
    def steps(self) -> list[float]:
        """Milliseconds of every step of every round."""
        return [ms for taken in self.rounds for ms in taken]


def main() -> None:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    clips = make_clips(folder)
    model = folder / "streaming_rnnt.nemo"
    if not model.exists():
        command = [arguments.reference_python, HERE / "streaming_models.py", folder, clips]
        subprocess.run(command, check=True, env=environment(os.cpu_count() or 1))
    details = [model, clips, arguments.core]
    script = HERE / "streaming_worker.py"
    workers = [start(engine, script, details, arguments) for engine in arguments.engines]
    print(heading(workers, arguments))
    print(
        "\n| chunk | streams at once | engine | ms a step, median | p95 | "
        "streams that one core carries | times NeMo | tokens a second | tokens as Auricle's |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for lookahead in arguments.lookaheads:
        for batch in arguments.batches:
            found = measure(workers, lookahead, batch, arguments)
            print(rows(found, lookahead, batch), flush=True)
    print("\n| engine | MB that each more stream keeps |\n|---|---|")
    question = {"do": "memory", "lookahead": 13, "streams": MEMORY_STREAMS, "batch": 8}
    for worker in workers:
        print(f"| {worker.engine} | {_ask(worker, **question)['megabytes']:.1f} |", flush=True)
        worker.stop()


def measure(
    workers: list[Worker], lookahead: int, batch: int, arguments: argparse.Namespace
) -> dict[str, Measured]:
    """Open streams in both engines, and let these take turns at stepping them."""
    found = {worker.engine: Measured() for worker in workers}
    steps = max(4, 8 * arguments.steps // max(8, batch))  # as many in less time for large batches
    for worker in workers:
        total = steps * arguments.rounds
        _ask(worker, do="open", lookahead=lookahead, batch=batch, steps=total)
    for _ in range(arguments.rounds):
        for worker in workers:
            found[worker.engine].rounds.append(_ask(worker, do="step", count=steps)["ms"])
    for worker in workers:
        heard = _ask(worker, do="finish")
        found[worker.engine].tokens, found[worker.engine].rate = heard["tokens"], heard["rate"]
    return found


def rows(found: dict[str, Measured], lookahead: int, batch: int) -> str:
    """One row of the table for each engine."""
    chunk_ms = STEP_MS * (lookahead + 1)
    expected = next(iter(found.values())).tokens
    lines = []
    for engine, measured in found.items():
        median = statistics.median(measured.steps)
        p95 = statistics.quantiles(measured.steps, n=20, method="inclusive")[-1]
        equal = sum(map(operator.eq, expected, measured.tokens))
        lines.append(
            f"| {chunk_ms} ms | {batch} | {engine} | {median:.1f} | {p95:.1f} "
            f"| {chunk_ms * batch / median:.1f} | {_times_nemo(measured, found)} "
            f"| {measured.rate:.1f} | {equal} of {batch} |"
        )
    return "\n".join(lines)


def _times_nemo(measured: Measured, found: dict[str, Measured]) -> str:
    """How many times faster than NeMo in the same round, the median over rounds."""
    if "nemo" not in found:
        return "-"
    pairs = zip(found["nemo"].rounds, measured.rounds, strict=True)
    return f"{statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs):.2f}"


def heading(workers: list[Worker], arguments: argparse.Namespace) -> str:
    """What the figures depend on."""
    import torch

    command = "python benchmarks/streaming.py " + " ".join(sys.argv[1:])
    versions = " and ".join(f"{worker.engine} {worker.version}" for worker in workers)
    return (
        f"{versions}, fp32, one thread each on core {arguments.core}, {arguments.rounds} rounds "
        f"in turn; {processor()}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"`{command.strip()}`"
    )


def _ask(worker: Worker, **question: Any) -> dict[str, Any]:
    return worker.ask(json.dumps(question))


def _arguments() -> argparse.Namespace:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--lookaheads", nargs="+", type=int, choices=LOOKAHEADS, default=LOOKAHEADS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="a round; fewer above 8 streams")
    parser.add_argument("--core", type=int, default=cores[-1], help="that both engines share")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "speed")
    parser.add_argument("--verbose", action="store_true", help="show what the engines print")
    return parser.parse_args(namespace=argparse.Namespace(threads=1))


if __name__ == "__main__":
    main()
