"""Auricle's curation beside NeMo Curator's audio stages: the same job, and no model to wait for.

    python benchmarks/curation.py --reference-python .venv-curator/bin/python

Rows of a manifest in ten files go through a step that stands for speech recognition and copies a
key, through the word error rate and a filter by it, into a manifest. What is left is the engine:
how long until the first row is at the model, rows a second from there on, memory of the whole
tree of processes, and what a kill -9 of the driver costs when half of the rows are through and the
same command is given again. Rounds take turns. Prints Markdown; how Curator is made to run here is
said in `curation_curator.py`. Memory needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENGINES = ("auricle", "curator")
FILES = 10
BATCH = 16
WORDS = ("river", "stone", "seven", "morning", "of", "the", "under", "light", "carried", "north")
LIMIT = 50.0  # per cent of word errors
ALL = 1e9


@dataclass
class Run:
    """What one run of a job took."""

    began: float
    first: float = 0.0  # when the first rows were at the model
    done: float = 0.0
    version: str = ""
    memory: dict[str, float] = field(default_factory=dict)  # peaks of the whole tree, MB


def main() -> None:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    manifests = write_rows(folder / "rows", arguments.rows)
    print(heading(arguments))
    speeds(manifests, folder, arguments)
    print(
        "\n| kill -9 of the driver half-way, then the same command "
        "| rows due | written after the resume | lost | doubled | at the model twice |"
        "\n|---|---|---|---|---|---|"
    )
    for title, limit in (("the filter drops nothing", ALL), ("it drops a tenth", LIMIT)):
        for engine in arguments.engines:
            print(f"| {engine}, {title} {killed(engine, manifests, limit, folder, arguments)} |")


def write_rows(folder: Path, count: int) -> list[Path]:
    """Manifests of rows whose sound nobody will open; one in ten was "misheard" throughout."""
    folder.mkdir(parents=True)
    drawn = random.Random(0)
    paths = [folder / f"part-{number}.jsonl" for number in range(FILES)]
    for number, path in enumerate(paths):
        rows = []
        for index in range(number, count, FILES):
            text = " ".join(drawn.choices(WORDS, k=12))
            said = text if index // FILES % 10 else text[::-1]
            name = str(folder / f"{index:06}.wav")
            rows.append({"audio_filepath": name, "duration": 4.0, "text": text, "said": said})
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return paths


def speeds(manifests: list[Path], folder: Path, arguments: argparse.Namespace) -> None:
    """Print start-up, speed and memory of undisturbed runs."""
    found: dict[str, list[Run]] = {engine: [] for engine in arguments.engines}
    for number in range(arguments.rounds):
        for engine in arguments.engines:
            job = Job(engine, manifests, folder / f"{engine}-{number}", LIMIT)
            found[engine].append(job.run(arguments))
            due = expected(manifests, LIMIT)
            if sorted(job.written()) != sorted(due):
                raise SystemExit(f"{engine} wrote other rows than it should: {job.folder}")
    print(
        "\n| engine | first row at the model, s | rows a second from there | whole job, s "
        "| peak memory, RSS summed, MB | shared parts counted once (PSS), MB |"
        "\n|---|---|---|---|---|---|"
    )
    for engine, runs in found.items():
        start = statistics.median(run.first - run.began for run in runs)
        speed = statistics.median(arguments.rows / (run.done - run.first) for run in runs)
        whole = statistics.median(run.done - run.began for run in runs)
        rss, pss = (
            f"{max(run.memory.get(kind, 0.0) for run in runs):,.0f}" for kind in ("Rss", "Pss")
        )
        name = f"{engine} {runs[0].version}"
        print(f"| {name} | {start:.2f} | {speed:,.0f} | {whole:.1f} | {rss} | {pss} |", flush=True)


def killed(
    engine: str, manifests: list[Path], limit: float, folder: Path, arguments: argparse.Namespace
) -> str:
    """The columns of the table of kills."""
    where = folder / f"{engine}-killed-{limit:.0f}"
    wait = arguments.kill_seconds / arguments.rows
    with cluster(engine, arguments) as address:
        checkpoint = where / "checkpoint" if address else None
        job = Job(engine, manifests, where, limit, wait, checkpoint, address)
        process = job.start(arguments)
        while job.heard() < arguments.rows / 2:
            if process.poll() is not None:
                raise SystemExit(f"the {engine} job ended before it could be killed")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(arguments.pause)  # Ray takes a while to see that a driver is gone
        job.run(arguments)
    due, written = expected(manifests, limit), job.written()
    lost, doubled = len(set(due) - set(written)), len(written) - len(set(written))
    again = job.heard() - arguments.rows
    return f"| {len(due)} | {len(written)} | {lost} | {doubled} | {again}"


def expected(manifests: list[Path], limit: float) -> list[str]:
    """Which rows the filter should keep, by their `audio_filepath`."""
    rows = [json.loads(line) for path in manifests for line in path.read_text().splitlines()]
    return [r["audio_filepath"] for r in rows if limit == ALL or r["text"] == r["said"]]


@dataclass
class Job:
    """One job of one engine, which may be run again."""

    engine: str
    manifests: list[Path]
    folder: Path
    limit: float
    wait: float = 0.0  # seconds a row at the "model"
    checkpoint: Path | None = None
    address: str | None = None

    @property
    def calls(self) -> Path:
        """A line for each batch at the model."""
        return self.folder / "calls.txt"

    def heard(self) -> int:
        """How many rows have been at the model so far."""
        return sum(count for _, count in self._batches())

    def _batches(self) -> Iterator[tuple[float, int]]:
        if self.calls.exists():
            for line in self.calls.read_text().splitlines():
                moment, count = line.split()
                yield float(moment), int(count)

    def written(self) -> list[str]:
        """The rows of the output, by their `audio_filepath`."""
        name = "out.jsonl" if self.engine == "curator" else "out/manifest.jsonl"
        lines = (self.folder / name).read_text().splitlines()
        return [json.loads(line)["audio_filepath"] for line in lines]

    def start(self, arguments: argparse.Namespace) -> subprocess.Popen[str]:
        """Start its driver in a process of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = self.folder / "job.json"
        told.write_text(
            json.dumps(
                {
                    "manifests": [str(path) for path in self.manifests],
                    "folder": str(self.folder),
                    "calls": str(self.calls),
                    "limit": self.limit,
                    "wait": self.wait,
                    "batch": BATCH,
                    "workers": arguments.workers,
                    "checkpoint": self.checkpoint and str(self.checkpoint),
                    "address": self.address,
                }
            )
        )
        return spawn(self.engine, str(told), arguments)

    def run(self, arguments: argparse.Namespace) -> Run:
        """Run it to its end."""
        run = Run(time.time())
        process = self.start(arguments)
        with peaks(process.pid, run.memory):
            output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{self.engine} failed ({process.returncode}); see with --verbose")
        answer = json.loads(output.splitlines()[-1])
        run.done, run.version = answer["done"], answer["version"]
        run.first = min(moment for moment, _ in self._batches())
        return run


def spawn(engine: str, what: str, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """A process of an engine that answers in JSON on its standard output."""
    python = sys.executable if engine == "auricle" else arguments.reference_python
    return subprocess.Popen(
        [python, str(HERE / f"curation_{engine}.py"), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if arguments.verbose else subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@contextmanager
def cluster(engine: str, arguments: argparse.Namespace) -> Iterator[str | None]:
    """The Ray cluster without which Curator cannot resume; Auricle needs nothing."""
    if engine != "curator":
        yield None
        return
    process = spawn(engine, "cluster", arguments)
    assert process.stdout is not None and process.stdin is not None
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.stdin.close()
        process.wait()
        time.sleep(arguments.pause)


@contextmanager
def peaks(pid: int, found: dict[str, float]) -> Iterator[None]:
    """Watch the memory of a process and of all below it, ten times a second at most."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            now = memory(pid)
            for kind, megabytes in now.items():
                found[kind] = max(found.get(kind, 0.0), megabytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory(pid: int) -> dict[str, float]:
    """Rss and Pss of a tree of processes in MB, by the kernel's own sums."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            )
    tree = {pid}
    while grown := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    sums = {"Rss": 0.0, "Pss": 0.0}
    for member in tree:
        with suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                kind, _, value = line.partition(":")
                if kind in sums:
                    sums[kind] += int(value.split()[0]) / 1000
    return sums


def heading(arguments: argparse.Namespace) -> str:
    """What the figures depend on."""
    from speed import processor

    command = "python benchmarks/curation.py " + " ".join(sys.argv[1:])
    load = os.getloadavg()[0]
    busy = ", UNDER LOAD: compare ratios only" if load > (os.cpu_count() or 1) / 2 else ""
    return (
        f"{arguments.rows:,} rows in {FILES} manifests, no model, batches of {BATCH}, "
        f"{arguments.rounds} round(s) in turn, medians; {processor()}, {os.cpu_count()} CPUs, "
        f"load {load:.1f} at the start{busy}, Python {platform.python_version()}; "
        f"`{command.strip()}`"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="of Auricle")
    parser.add_argument("--kill-seconds", type=float, default=10, help="of work in a killed job")
    parser.add_argument("--pause", type=float, default=5, help="seconds between kill and resume")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "curation")
    parser.add_argument("--verbose", action="store_true", help="show what the engines print")
    return parser.parse_args()


if __name__ == "__main__":
    main()
