"""One training step of a small FastConformer RNNT beside NeMo's modules, on the same batch.

    python benchmarks/training_step.py --reference-python .venv-parity/bin/python

Forward, backward, clipping and AdamW in fp32 on the CPU, about 10 M random weights, with dropout;
NeMo's loss is `warprnnt_numba`. Protocol and table are those of `rnnt_loss.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rnnt_loss import add_common, heading, measure
from speed import start

ENGINES = ("auricle", "nemo")
WORKER = Path(__file__).resolve().with_name("training_step_worker.py")


def main() -> None:
    arguments = _arguments()
    print(heading(arguments) + "\n")
    sizes = f"{arguments.batch},{arguments.seconds},{arguments.tokens}"
    details = [sizes, arguments.threads]
    workers = [start(engine, WORKER, details, arguments) for engine in arguments.engines]
    measure(workers, arguments.rounds)
    for worker in workers:
        worker.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_common(parser, ENGINES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=40)
    return parser.parse_args()


if __name__ == "__main__":
    main()
