"""One engine in one process, asked by `speed.py` over standard input; a JSON line an answer.

    python benchmarks/speed_worker.py auricle|nemo|transformers MODEL CLIPS.npz THREADS

A line `BATCH` on standard input transcribes all clips in batches of that size; the answer holds
the seconds it took and the peak of resident memory so far. Imports nothing but its engine.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

Transcribe = Callable[[list[Any], int], list[str]]
RATE = 16000


def main() -> None:
    engine, model, clips_file, threads = sys.argv[1:]
    answers = open_answers()
    import numpy as np

    with np.load(clips_file) as archive:
        clips = [archive[name] for name in archive.files]
    begun = time.perf_counter()
    transcribe, version = ENGINES[engine](Path(model), int(threads))
    answer(answers, seconds=time.perf_counter() - begun, version=version)
    for line in sys.stdin:
        begun = time.perf_counter()
        texts = transcribe(clips, int(line))
        answer(answers, seconds=time.perf_counter() - begun, peak=memory("VmHWM"), texts=texts)


def auricle_engine(model: Path, threads: int) -> tuple[Transcribe, str]:
    import torch

    import auricle

    torch.set_num_threads(threads)
    asr = auricle.load(model)

    def transcribe(clips: list[Any], batch: int) -> list[str]:
        seconds = batch * max(len(clip) for clip in clips) / RATE
        found = asr.transcribe(clips, sample_rate=RATE, batch_seconds=seconds, timestamps=False)
        return [t.text for t in found]

    return transcribe, auricle.__version__


def nemo_engine(model: Path, threads: int) -> tuple[Transcribe, str]:
    import nemo
    import torch
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(nemo_logging.ERROR)
    torch.set_num_threads(threads)
    asr = ASRModel.restore_from(str(model), map_location="cpu").eval()

    def transcribe(clips: list[Any], batch: int) -> list[str]:
        hyps = asr.transcribe(clips, batch_size=batch, verbose=False)
        return [h.text for h in hyps]

    return transcribe, nemo.__version__


def transformers_engine(model: Path, threads: int) -> tuple[Transcribe, str]:
    import torch
    import transformers

    torch.set_num_threads(threads)
    processor = transformers.AutoProcessor.from_pretrained(model)
    auto = transformers.AutoModelForCTC if "ctc" in model.name else transformers.AutoModelForRNNT
    asr = auto.from_pretrained(model, dtype=torch.float32).eval()

    def transcribe(clips: list[Any], batch: int) -> list[str]:
        texts: list[str] = []
        with torch.inference_mode():
            for group in _groups(clips, batch):
                out = asr.generate(**processor(group, sampling_rate=RATE))
                ids = getattr(out, "sequences", out)
                texts += processor.batch_decode(ids, skip_special_tokens=True)
        return texts

    return transcribe, transformers.__version__


ENGINES = {
    "auricle": auricle_engine,
    "nemo": nemo_engine,
    "transformers": transformers_engine,
}


def _groups(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def open_answers() -> IO[str]:
    """The standard output, from now on for answers alone: what libraries print goes elsewhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    return answers


def answer(stream: IO[str], **values: Any) -> None:
    """Write one answer."""
    stream.write(json.dumps(values) + "\n")
    stream.flush()


def memory(field: str) -> float:
    """This process's memory in GB by the kernel's own record: VmRSS, or VmHWM for its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1e6
    return 0.0


if __name__ == "__main__":
    main()
