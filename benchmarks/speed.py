"""Speed, memory and start-up of Auricle beside NeMo and Transformers, on the same weights.

    python benchmarks/speed.py --reference-python .venv-parity/bin/python

Sixteen clips of 15 s, a FastConformer of 115 M parameters with random weights, fp32 on the CPU.
Each engine lives in its own process; rounds take turns, so that a change in the machine's load
meets all of them, and what counts is the ratio within one run. Prints a Markdown table.
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
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RATE = 16000
CLIPS, SECONDS = 16, 15
ENGINES = ("auricle", "nemo", "transformers")
START_UPS = {
    "nemo": """
import sys
from nemo.collections.asr.models import ASRModel
asr = ASRModel.restore_from(sys.argv[1], map_location="cpu")
print(asr.transcribe([sys.argv[2]], verbose=False)[0].text)
""",
    "transformers": """
import sys, soundfile, torch
from transformers import AutoModelForCTC, AutoModelForRNNT, AutoProcessor
kind = AutoModelForCTC if "ctc" in sys.argv[1] else AutoModelForRNNT
processor = AutoProcessor.from_pretrained(sys.argv[1])
asr = kind.from_pretrained(sys.argv[1]).eval()
samples, rate = soundfile.read(sys.argv[2], dtype="float32")
with torch.inference_mode():
    out = asr.generate(**processor([samples], sampling_rate=rate))
print(processor.batch_decode(getattr(out, "sequences", out), skip_special_tokens=True)[0])
""",
}


@dataclass
class Worker:
    """An engine that waits in its own process for batches to run."""

    engine: str
    process: subprocess.Popen[str]
    load_seconds: float = 0.0
    version: str = ""
    peak: float = 0.0
    texts: list[str] = field(default_factory=list)

    def run(self, batch: int) -> float:
        """Transcribe all clips in batches of `batch`; gives the seconds it took."""
        answer = self.ask(str(batch))
        self.peak, self.texts = answer["peak"], answer["texts"]
        return float(answer["seconds"])

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        """Let the process end, which it does when its input ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def answer(self) -> dict[str, Any]:
        """Wait for what the worker says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the {self.engine} worker stopped; run it by hand to see why")
        found: dict[str, Any] = json.loads(line)
        return found


def main() -> None:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rnnt_hf").is_dir():
        command = [arguments.reference_python, HERE / "speed_models.py", folder]
        subprocess.run(command, check=True, env=environment(os.cpu_count() or 1))
    clips = make_clips(folder)
    print(heading(arguments))
    for head in arguments.heads:
        print(f"\n**FastConformer {head.upper()}**\n")
        throughput(head, clips, folder, arguments)
        if arguments.start_ups:
            start_up(head, folder, arguments)


def throughput(head: str, clips: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Print audio seconds a second by engine and batch size, and the peak of memory."""
    workers = []
    for engine in arguments.engines:
        details = [_model(engine, head, folder), clips, arguments.threads]
        workers.append(start(engine, HERE / "speed_worker.py", details, arguments))
    print(
        "| batch | engine | RTFx, median (range) | times NeMo | peak RSS, GB | texts as Auricle's |"
    )
    print("|---|---|---|---|---|---|")
    for batch in arguments.batches:
        taken: dict[str, list[float]] = {worker.engine: [] for worker in workers}
        for turn in range(arguments.rounds + 1):
            for worker in workers:
                seconds = worker.run(batch)
                if turn:  # the first round warms up
                    taken[worker.engine].append(CLIPS * SECONDS / seconds)
        print(_rows(batch, taken, workers), flush=True)
    for worker in workers:
        worker.stop()


def _rows(batch: int, taken: dict[str, list[float]], workers: list[Worker]) -> str:
    rows = []
    expected = list(map(_spoken, workers[0].texts))
    for worker in workers:
        speeds = taken[worker.engine]
        equal = sum(map(operator.eq, expected, map(_spoken, worker.texts)))
        ratio = "-"
        if "nemo" in taken:
            pairs = zip(speeds, taken["nemo"], strict=True)
            ratio = f"{statistics.median(a / b for a, b in pairs):.2f}"
        median, low, high = statistics.median(speeds), min(speeds), max(speeds)
        rows.append(
            f"| {batch} | {worker.engine} {worker.version} | {median:.1f} ({low:.1f}-{high:.1f}) "
            f"| {ratio} | {worker.peak:.2f} | {equal} of {CLIPS} |"
        )
    return "\n".join(rows)


def _spoken(text: str) -> str:
    """Without what the engines write in different ways for the unknown token."""
    return " ".join(text.replace("\u2047", " ").split())


def start_up(head: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Print the seconds from the command to the text of a clip of 5 s."""
    clip = folder / "five_seconds.wav"
    taken: dict[str, list[float]] = {engine: [] for engine in arguments.engines}
    for turn in range(arguments.start_ups + 1):
        for engine in arguments.engines:
            command = _start_up_command(engine, head, clip, folder, arguments)
            begun = time.perf_counter()
            subprocess.run(
                command, check=True, capture_output=True, env=environment(arguments.threads)
            )
            if turn:  # the first start fills the disk cache
                taken[engine].append(time.perf_counter() - begun)
    print("\n| start-up, 5 s clip | seconds, median | of NeMo's |\n|---|---|---|")
    for engine, seconds in taken.items():
        middle = statistics.median(seconds)
        share = f"{middle / statistics.median(taken['nemo']):.0%}" if "nemo" in taken else "-"
        print(f"| {engine} | {middle:.2f} | {share} |", flush=True)


def _start_up_command(
    engine: str, head: str, clip: Path, folder: Path, arguments: argparse.Namespace
) -> list[str]:
    model = str(_model(engine, head, folder))
    if engine == "auricle":
        command = Path(sys.executable).parent / "auricle"
        return [str(command), "transcribe", str(clip), "-m", model, "-f", "txt"]
    return [arguments.reference_python, "-c", START_UPS[engine], model, str(clip)]


def start(
    engine: str, script: Path, details: Sequence[object], arguments: argparse.Namespace
) -> Worker:
    """Start an engine in its own process and wait until it is ready for the first question."""
    python = sys.executable if engine == "auricle" else arguments.reference_python
    process = subprocess.Popen(
        [str(part) for part in (python, script, engine, *details)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if arguments.verbose else subprocess.DEVNULL,
        text=True,
        env=environment(arguments.threads),
    )
    worker = Worker(engine, process)
    ready = worker.answer()
    worker.load_seconds, worker.version = ready["seconds"], ready["version"]
    return worker


def make_clips(folder: Path) -> Path:
    """Write 15-second clips of the shipped recording, each with other noise."""
    from auricle import audio

    speech = audio.read(ROOT / "examples" / "speech" / "shell.flac")
    rng = np.random.default_rng(0)
    clips = {}
    for number in range(CLIPS):
        rolled = np.roll(speech, -number * len(speech) // CLIPS)
        whole = np.tile(rolled, 1 + SECONDS * RATE // len(speech))[: SECONDS * RATE]
        noise = rng.standard_normal(len(whole)) * 10 ** rng.uniform(-4, -2)
        clips[f"clip{number:02}"] = (whole + noise).astype(np.float32)
    path = folder / "clips.npz"
    np.savez(path, **clips)
    with wave.open(str(folder / "five_seconds.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        pcm = np.clip(clips["clip00"][: 5 * RATE], -1, 1) * 32767
        file.writeframes(pcm.astype("<i2").tobytes())
    return path


def heading(arguments: argparse.Namespace) -> str:
    """What the figures depend on."""
    import torch

    command = "python benchmarks/speed.py " + " ".join(sys.argv[1:])
    return (
        f"{CLIPS} clips of {SECONDS} s, fp32, {arguments.threads} thread(s), "
        f"{arguments.rounds} rounds in turn; {processor()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}; `{command.strip()}`"
    )


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def _model(engine: str, head: str, folder: Path) -> Path:
    return folder / (f"{head}_hf" if engine == "transformers" else f"{head}.nemo")


def environment(threads: int) -> dict[str, str]:
    """For a process that is to use `threads` threads and no network."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, **limits, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--heads", nargs="+", choices=("ctc", "rnnt"), default=["ctc", "rnnt"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--start-ups", type=int, default=5, help="0 skips them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "speed")
    parser.add_argument("--verbose", action="store_true", help="show what the engines print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
