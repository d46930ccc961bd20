"""Word error rate of the embedded model: Auricle beside faster-whisper, same files and weights.

    python benchmarks/wer_embedded.py ../shared/data/librispeech-eval.jsonl

Texts are compared after Whisper's English normaliser. Needs the extra `offline`, jiwer and
whisper-normalizer. Ends with status 1 if the matched runs differ by more than 0.3 % absolute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARGIN = 0.3

# Beam 1 at temperature 0 is what Auricle's Greedy() asks for; both run in int8 and without VAD.
MATCHED = {"beam_size": 1, "temperature": 0.0}


def main() -> int:
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before any library reads it
    rows = _rows(arguments.manifest, arguments.limit)
    paths = [row["audio_filepath"] for row in rows]
    seconds = sum(row["duration"] for row in rows)
    runs: dict[str, Callable[[], list[str]]] = {
        "auricle, Greedy() (its default)": lambda: _auricle(paths),
        "faster-whisper, beam 1, temperature 0": lambda: _faster_whisper(paths, MATCHED),
        "faster-whisper, its defaults": lambda: _faster_whisper(paths, {}),
    }
    rates = []
    print(f"{len(rows)} files, {seconds / 3600:.2f} h, {arguments.threads} threads", flush=True)
    for name, run in runs.items():
        begun = time.perf_counter()
        texts = run()
        took = time.perf_counter() - begun
        rates.append(_wer([row["text"] for row in rows], texts))
        print(f"{name:40} WER {rates[-1]:5.2f} %   RTFx {seconds / took:6.1f}", flush=True)
    difference = abs(rates[0] - rates[1])
    print(f"matched runs differ by {difference:.2f} % absolute (at most {MARGIN})")
    return int(difference > MARGIN)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", type=Path, help="JSONL: audio_filepath, duration, text")
    parser.add_argument("--limit", type=int, help="only the first files")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _rows(manifest: Path, limit: int | None) -> list[dict[str, Any]]:
    """The manifest's rows; audio lies beside it."""
    lines = manifest.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line][:limit]
    return [{**row, "audio_filepath": str(manifest.parent / row["audio_filepath"])} for row in rows]


def _auricle(paths: list[str]) -> list[str]:
    import auricle

    return [transcript.text for transcript in auricle.load("embedded").transcribe(paths)]


def _faster_whisper(paths: list[str], options: dict[str, Any]) -> list[str]:
    from faster_whisper import WhisperModel

    from auricle.checkpoints import embedded

    model = WhisperModel(str(embedded.folder()), device="cpu", compute_type="int8")
    return ["".join(s.text for s in model.transcribe(path, **options)[0]) for path in paths]


def _wer(references: list[str], texts: list[str]) -> float:
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    plain = EnglishTextNormalizer()
    return 100 * jiwer.wer([plain(r) for r in references], [plain(t) for t in texts])


if __name__ == "__main__":
    sys.exit(main())
