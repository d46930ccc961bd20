"""WER of models on a manifest, after `metrics.plain`.

    python benchmarks/wer_models.py rows.jsonl embedded runs/whisper_tiny_accented

Whisper runs in CTranslate2, in its usual windows of 30 s.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import auricle
from auricle import manifests
from auricle.metrics import Errors, word_errors


def main() -> None:
    """A row for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    texts = [row.text for row in manifests.read(args.manifest)]
    print(f"{len(texts)} utterances\n\n| model | WER | seconds |\n|---|---|---|")
    for model in args.models:
        asr = auricle.load(model)
        begun = time.perf_counter()
        heard = asr.transcribe(str(args.manifest), timestamps=False)
        seconds = time.perf_counter() - begun
        pairs = zip(texts, heard, strict=True)
        errors = sum((word_errors(said or "", t.text) for said, t in pairs), Errors())
        print(f"| {model} | {100 * errors.rate:.2f} % | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
