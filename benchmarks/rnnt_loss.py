"""Time and memory of the RNNT loss, forward and backward with the joint, beside NeMo's.

    python benchmarks/rnnt_loss.py --reference-python .venv-parity/bin/python

fp32 on the CPU, random weights and encodings, utterances of full length: the dearest case. NeMo's
loss is `warprnnt_numba`, "fused" its way of doing two utterances at a time. Each has its own
process; rounds take turns. Memory is the resident peak above what was there before the first step.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from pathlib import Path

from speed import Worker, processor, start

ENGINES = ("auricle", "nemo", "nemo-fused")
WORKER = Path(__file__).resolve().with_name("rnnt_loss_worker.py")


def main() -> None:
    arguments = _arguments()
    print(heading(arguments) + "\n")
    sizes = ",".join(str(getattr(arguments, name)) for name in ("batch", "steps", "tokens", "size"))
    details = [sizes, arguments.threads]
    workers = [start(engine, WORKER, details, arguments) for engine in arguments.engines]
    measure(workers, arguments.rounds)
    for worker in workers:
        worker.stop()


def measure(workers: list[Worker], rounds: int) -> None:
    """Let every worker take a step a round in turn, and print what it took beside NeMo's."""
    taken: dict[str, list[float]] = {worker.engine: [] for worker in workers}
    last = {}
    for turn in range(rounds + 1):
        for worker in workers:
            last[worker.engine] = worker.ask("step")
            if turn:  # the first round compiles and warms up
                taken[worker.engine].append(last[worker.engine]["seconds"])
    print("| | seconds, median (range) | of NeMo's | peak MB | of NeMo's | loss | gradient |")
    print("|---|---|---|---|---|---|---|")
    for worker in workers:
        seconds, found = taken[worker.engine], last[worker.engine]
        pairs = zip(seconds, taken.get("nemo", seconds), strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        share = found["peak"] / last.get("nemo", found)["peak"]
        print(
            f"| {worker.engine} {worker.version} "
            f"| {statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f}) "
            f"| {ratio:.2f} | {1000 * found['peak']:.0f} | {share:.2f} "
            f"| {found['loss']:.4f} | {found['norm']:.4f} |",
            flush=True,
        )


def heading(arguments: argparse.Namespace) -> str:
    """What the figures depend on."""
    import torch

    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return (
        f"{arguments.threads} thread(s), {arguments.rounds} rounds in turn; {processor()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}; `{command}`"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_common(parser, ENGINES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--size", type=int, default=1025, help="tokens there are, and the blank")
    return parser.parse_args()


def add_common(parser: argparse.ArgumentParser, engines: tuple[str, ...]) -> None:
    """Options of every comparison of steps."""
    parser.add_argument("--reference-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--engines", nargs="+", choices=engines, default=list(engines))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="show what the engines print")


if __name__ == "__main__":
    main()
