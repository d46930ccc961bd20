"""Train every packaged recipe's tiny twin for some minutes, and see whether it learns.

    python benchmarks/twins.py train.jsonl dev.jsonl --minutes 5 --out twins/ tokenizer.size=64

Prints a table: each twin's weights, steps, and WER on dev.jsonl of its best model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from auricle import checkpoints
from auricle.training.reading import recipe_names


def main() -> None:
    """One training after the other, by the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("twins"))
    parser.add_argument("--only", default="", help="twins whose name holds this")
    parser.add_argument("overrides", nargs="*", help="key=value for every recipe")
    args = parser.parse_intermixed_args()
    print("| twin | weights | steps | WER |\n|---|---|---|---|", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in recipe_names():
        if not name.endswith("_tiny") or args.only not in name:
            continue
        folder = args.out / name
        said = [
            f"data.train.0.manifest={args.train.resolve()}",
            f"data.validation.0.manifest={args.dev.resolve()}",
            f"train.minutes={args.minutes}",
            *args.overrides,
        ]
        command = [sys.executable, "-m", "auricle", "train", name, *said, "-o", str(folder)]
        with (args.out / f"{name}.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        weights = sum(t.numel() for t in checkpoints.load(folder / "model").tensors.values())
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        wer = min(row["wer"] for row in rows if row["kind"] == "validation")
        print(f"| `{name}` | {weights:,} | {rows[-1]['step']} | {100 * wer:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
