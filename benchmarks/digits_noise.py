"""Fine-tune models of `digits` for noise; both then hear speakers and noises new to them.

    python benchmarks/digits.py digits.jsonl --out folds/
    python benchmarks/digits_noise.py digits.jsonl noise.jsonl --folds folds/ --out noisy/

Every fold's model, which has not heard two of the six speakers, is fine-tuned in full on the same
four speakers, in every second noise of the manifest. It is tested on strings of 3 to 7 digits of
the two others, clean and at 5 dB and 0 dB in the other half of the noises, streamed at 560 ms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from digits import FOLDS, overridden

import auricle
from auricle import audio, manifests
from auricle.metrics import Errors, word_errors
from auricle.training.reading import load_recipe
from auricle.training.sources import open_sources

SNRS = (None, 5.0, 0.0)
LOOKAHEAD = 6


def main() -> None:
    """A row for each fold, before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("noises", type=Path)
    parser.add_argument("--folds", type=Path, default=Path("folds"))
    parser.add_argument("--out", type=Path, default=Path("noisy"))
    parser.add_argument("overrides", nargs="*", help="key=value for the recipe")
    args = parser.parse_intermixed_args()
    manifest = args.manifest.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = list(manifests.read(args.noises.resolve()))
    learnt = args.out / "noise.jsonl"
    manifests.write(learnt, rows[::2])
    unheard = [audio.read(row.path) for row in rows[1::2]]
    total: dict[str, Errors] = {}
    for held_out in FOLDS:
        base, folder = args.folds / "-".join(held_out), args.out / "-".join(held_out)
        began = time.perf_counter()
        said = [f"init_from={last(base)}", f"augment.noise.manifest={learnt.resolve()}"]
        finetune(folder, [*said, *overridden(manifest, held_out), *args.overrides])
        minutes = (time.perf_counter() - began) / 60
        row = {}
        for when, model in (("before", base), ("after", folder)):
            for name, errors in heard(manifest, held_out, model, unheard).items():
                key = f"{when}, {name}"
                row[key] = round(errors.rate, 4)
                total[key] = total.get(key, Errors()) + errors
        print(json.dumps({"held_out": held_out, "minutes": round(minutes, 1), **row}), flush=True)
    for key, errors in total.items():
        print(f"{key:18} WER {100 * errors.rate:5.2f} % of {errors.words} words")


def finetune(folder: Path, said: list[str]) -> None:
    """One full fine-tuning by the command."""
    if (folder / "model").exists():
        return
    command = [sys.executable, "-m", "auricle", "finetune", "digits_noise", *said]
    subprocess.run([*command, "-o", str(folder)], check=True)


def last(folder: Path) -> Path:
    """The last model of a run, not the best: the strings that chose the best are this test's."""
    return sorted((folder / "best").glob("step-*"))[-1].resolve()


def heard(
    manifest: Path, held_out: tuple[str, ...], folder: Path, noises: list[npt.NDArray[np.float32]]
) -> dict[str, Errors]:
    """The CTC head's errors on the held-out strings, streamed, by how loud the noise is."""
    data = load_recipe("digits", overridden(manifest, held_out)).data
    items = [item for source in open_sources(data.validation, data) for item in source.items()]
    asr = auricle.load(last(folder), head="ctc")
    found = {("clean" if snr is None else f"{snr:.0f} dB"): Errors() for snr in SNRS}
    for number, item in enumerate(items):
        samples = item.sound.read(asr.sample_rate)
        noise = noises[number % len(noises)]
        for name, snr in zip(found, SNRS, strict=True):
            stream = asr.stream(lookahead=LOOKAHEAD)
            stream.push(samples if snr is None else in_noise(samples, noise, snr))
            found[name] += word_errors(item.text, stream.finish().text)
    return found


def in_noise(
    samples: npt.NDArray[np.float32], noise: npt.NDArray[np.float32], snr: float
) -> npt.NDArray[np.float32]:
    """Speech with a noise, repeated where it is shorter, at a ratio of energies in dB."""
    noise = np.resize(noise, samples.shape)
    scale = np.sqrt(np.mean(samples**2) / (np.mean(noise**2) + 1e-12) / 10 ** (snr / 10))
    return (samples + scale * noise).astype(np.float32)


if __name__ == "__main__":
    main()
