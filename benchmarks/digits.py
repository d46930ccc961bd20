"""Train the recipe `digits` without some speakers, and let the model hear them as a stream.

    python benchmarks/digits.py digits.jsonl --out folds/

Every fold leaves two of the six speakers of the Free Spoken Digit Dataset out of the training and
is tested on strings of 3 to 7 digits of theirs, at every lookahead and with both heads. At the end
`--final` trains on all six: that is the model in `examples/digits`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import auricle
from auricle.metrics import Errors, word_errors
from auricle.training.reading import load_recipe
from auricle.training.sources import open_sources

FOLDS = (("theo", "lucas"), ("jackson", "nicolas"), ("yweweler", "george"))


def main() -> None:
    """Folds, and what each head says at each lookahead."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, default=Path("folds"))
    parser.add_argument("--final", action="store_true", help="train on all speakers instead")
    parser.add_argument("overrides", nargs="*", help="key=value for the recipe")
    args = parser.parse_intermixed_args()
    manifest = args.manifest.resolve()
    if args.final:
        train(manifest, (), args.out / "all", args.overrides)
        return
    rates: dict[str, list[float]] = {}
    for held_out in FOLDS:
        folder = args.out / "-".join(held_out)
        began = time.perf_counter()
        train(manifest, held_out, folder, args.overrides)
        minutes = (time.perf_counter() - began) / 60
        row = {name: errors.rate for name, errors in heard(manifest, held_out, folder).items()}
        print(json.dumps({"held_out": held_out, "minutes": round(minutes, 1), **row}), flush=True)
        for name, rate in row.items():
            rates.setdefault(name, []).append(rate)
    for name, found in rates.items():
        print(f"{name:16} mean WER {100 * sum(found) / len(found):5.2f} %")


def overridden(manifest: Path, held_out: tuple[str, ...]) -> list[str]:
    """What the recipe is told of the data."""
    speakers = "[" + ", ".join(held_out) + "]"
    said = [f"data.{part}.manifest={manifest}" for part in ("train.0", "train.1", "validation.0")]
    if held_out:
        said += [f"data.train.{i}.unless={{speaker: {speakers}}}" for i in (0, 1)]
        said.append(f"data.validation.0.where={{speaker: {speakers}}}")
    return said


def train(manifest: Path, held_out: tuple[str, ...], folder: Path, more: list[str]) -> None:
    """One training, by the command."""
    if (folder / "model").exists():
        return
    said = [*overridden(manifest, held_out), *more]
    command = [sys.executable, "-m", "auricle", "train", "digits", *said, "-o", str(folder)]
    subprocess.run(command, check=True)


def heard(manifest: Path, held_out: tuple[str, ...], folder: Path) -> dict[str, Errors]:
    """The errors of the last model on the held-out strings, streamed, by head and lookahead."""
    data = load_recipe("digits", overridden(manifest, held_out)).data
    items = [item for source in open_sources(data.validation, data) for item in source.items()]
    # The last model, not the best: the strings that chose the best one are those of this test.
    last = sorted((folder / "best").glob("step-*"))[-1]
    found: dict[str, Errors] = {}
    for head in ("ctc", "rnnt"):
        asr = auricle.load(str(last), head=head)
        for lookahead in (13, 6, 1, 0):
            name = f"{head} {80 * (lookahead + 1)} ms"
            found[name] = Errors()
            for item in items:
                stream = asr.stream(lookahead=lookahead)
                stream.push(item.sound.read(asr.sample_rate))
                found[name] += word_errors(item.text, stream.finish().text)
    return found


if __name__ == "__main__":
    main()
