"""Faults planted in real speech: how many of each kind a pipeline finds, and what it costs.

    python benchmarks/planted_faults.py librispeech-eval.jsonl --noises noise.jsonl

Rows of the manifest are drawn and damaged, the same ones each time for a seed; the others stay as
they are. Then `pipeline` goes over all of them with the embedded model. Prints Markdown: of each
kind how many were planted and found, by which step and for what reason, which were missed; how
many good rows were wrongly dropped; and whether every row that went in came out once. Noise and
music carry the text of speech, as any other clip with a wrong text does.

Needs the extras `offline` and `curate`. Ends with status 1 if a row was lost or came out twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auricle import audio
from auricle.audio import Samples
from auricle.curation.graph import Node
from auricle.curation.items import Item
from auricle.curation.pipeline import Pipeline, load_steps
from auricle.curation.step import step

HERE = Path(__file__).resolve().parent
RATE = 16_000
KIND, GOOD, BROKEN = "planted", "good", "broken row"
POISON = "a file that kills its worker"
Row = dict[str, Any]


@step(inputs=["audio_filepath"])
def decode_natively(items: Sequence[Item]) -> Iterable[Item]:
    """Stands for a decoder that some file crashes: the process is gone, without an exception."""
    for item in items:
        if item.get(KIND) == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def pipeline(manifest: Path, hear: Node, *step_files: Path) -> Pipeline:
    """What one would put over read speech that somebody else has collected."""
    from auricle.curation.readers import Manifest
    from auricle.curation.steps.duplicates import Duplicates
    from auricle.curation.steps.filter import Filter
    from auricle.curation.steps.hallucination import Hallucination
    from auricle.curation.steps.probe import Probe
    from auricle.curation.steps.rates import Rates
    from auricle.curation.steps.wer import Wer

    crashing = load_steps(__file__)["decode_natively"]
    sound = {
        "duration": {"between": [0.5, 40]},
        "silence_ratio": {"le": 0.8},
        "clipping_ratio": {"le": 0.005},
        "bandwidth_hz": {"ge": 6000},
    }
    steps = [
        crashing,
        Probe(),
        Filter(sound),
        Duplicates(by="audio"),
        Rates(chars=[3, 25]),
        hear,
        Hallucination(drop=True),
        Wer(),
        Filter({"cer": {"le": 0.2}}),  # names are misheard by whole words, and by few letters
    ]
    return Pipeline(
        "faults", [Manifest(str(manifest))], steps, step_files=[Path(__file__), *step_files]
    )


@dataclass
class Planting:
    """Damages rows one kind after the other; every row is taken once at most.

    Args:
        rows: Rows of a manifest with absolute paths.
        noises: Files by what is in them: "noise" and "music".
        folder: Where damaged files go.
        each: How many rows of each kind.
    """

    rows: list[Row]
    noises: dict[str, list[Path]]
    folder: Path
    each: int = 8
    seed: int = 0
    copies: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.drawn = random.Random(self.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        for row in self.rows:
            row |= {KIND: GOOD, "spoken": row["text"]}
        self.free = self.drawn.sample(self.rows, len(self.rows))
        self.texts = [row["text"] for row in self.free]

    def planted(self) -> list[Row]:
        """All rows, damaged ones among the others; copies stand behind what they are copies of."""
        for kind, damage in KINDS.items():
            count = min(self.each, 2) if kind == POISON else self.each
            if len(self.free) < count:
                raise SystemExit(f"{len(self.rows)} rows are too few for {self.each} of each kind")
            taken = [self.free.pop() for _ in range(count)]
            for number, row in enumerate(taken):
                row[KIND] = kind
                damage(self, row, number)
        return self.rows + self.copies

    def written(self, row: Row, samples: Samples, suffix: str = "flac") -> Path:
        """Give a row other sound."""
        path = self.damaged(row, f".{suffix}")
        with path.open("w+b") as file:
            audio.write(file, [samples], RATE, "wav" if suffix == "wav" else "flac")
        row["audio_filepath"] = str(path)
        return path

    def damaged(self, row: Row, suffix: str) -> Path:
        """The name of a row's new file, whatever it is called now."""
        stem = Path(row["audio_filepath"]).stem.partition(".")[0]
        return self.folder / f"{stem}.{row[KIND].replace(' ', '-')}{suffix}"

    def sound(self, row: Row) -> Samples:
        """What a row sounds like so far."""
        return audio.read(row["audio_filepath"])

    def other_text(self, row: Row) -> str:
        """What is said elsewhere."""
        return self.drawn.choice([text for text in self.texts if text != row["text"]])

    def wrong_text(self, row: Row, number: int) -> None:
        """That of another row."""
        row["text"] = self.other_text(row)

    def partly_wrong(self, row: Row, number: int) -> None:
        """The second half is of another row."""
        mine, other = row["text"].split(), self.other_text(row).split()
        half = len(mine) // 2
        strange = (other * (1 + len(mine) // len(other)))[: len(mine) - half]
        row["text"] = " ".join(mine[:half] + strange)

    def a_fifth_wrong(self, row: Row, number: int) -> None:
        """Every fifth word is another one: what a careless typist leaves."""
        words = row["text"].split()
        for i in range(number % 5, len(words), 5):
            words[i] = self.drawn.choice(self.other_text(row).split())
        row["text"] = " ".join(words)

    def ends_early(self, row: Row, number: int) -> None:
        """The last quarter is missing."""
        words = row["text"].split()
        row["text"] = " ".join(words[: -max(1, len(words) // 4)])

    def too_long(self, row: Row, number: int) -> None:
        """Neighbours' texts came along."""
        enough = 3 * len(row["text"])
        while len(row["text"]) < enough:
            row["text"] += " " + self.other_text(row)

    def silence(self, row: Row, number: int) -> None:
        """Digital silence, or a microphone that hears only itself."""
        count = len(self.sound(row))
        hiss = np.random.default_rng([self.seed, number]).standard_normal(count) * 10 ** (-75 / 20)
        self.written(row, (hiss * (number % 2)).astype(np.float32))
        row["spoken"] = ""

    def something_else(self, row: Row, number: int) -> None:
        """Noise or music, as long as the speech was."""
        files = self.noises[row[KIND]]
        samples, count = audio.read(files[number % len(files)]), len(self.sound(row))
        start = number * RATE % max(1, len(samples) - count)
        self.written(row, np.resize(samples[start:], count))
        row["spoken"] = ""

    def truncated(self, row: Row, number: int) -> None:
        """Three fifths of the bytes, of what it was and of FLAC and WAV."""
        path = Path(row["audio_filepath"])
        if number % 3:
            path = self.written(row, self.sound(row), ("", "flac", "wav")[number % 3])
        content = path.read_bytes()
        self._bytes(row, content[: len(content) * 3 // 5], path.suffix)

    def empty(self, row: Row, number: int) -> None:
        """Not a byte."""
        self._bytes(row, b"", Path(row["audio_filepath"]).suffix)

    def garbage(self, row: Row, number: int) -> None:
        """Bytes of no format."""
        self._bytes(row, self.drawn.randbytes(20_000), Path(row["audio_filepath"]).suffix)

    def missing(self, row: Row, number: int) -> None:
        """A name without a file."""
        row["audio_filepath"] = str(self.folder / f"nowhere-{number}.flac")

    def _bytes(self, row: Row, content: bytes, suffix: str) -> None:
        path = self.damaged(row, suffix)
        path.write_bytes(content)
        row["audio_filepath"] = str(path)

    def copied(self, row: Row, number: int) -> None:
        """The same bytes under another name."""
        path = self.folder / f"copy-of-{Path(row['audio_filepath']).name}"
        shutil.copyfile(row["audio_filepath"], path)
        self.copies.append({**row, "audio_filepath": str(path)})
        row[KIND] = GOOD

    def repacked(self, row: Row, number: int) -> None:
        """WAV, and the same samples as FLAC."""
        samples = self.sound(row)
        copy = dict(row)
        self.written(copy, samples, "flac")
        self.copies.append(copy)
        self.written(row, samples, "wav")
        row[KIND] = GOOD

    def telephone(self, row: Row, number: int) -> None:
        """Nothing above 4 kHz, and a rate that does not tell."""
        narrow = audio.resample(self.sound(row), RATE, 8000)
        self.written(row, audio.resample(narrow, 8000, RATE))

    def clipped(self, row: Row, number: int) -> None:
        """So loud that one sample in thirty is cut off."""
        samples = self.sound(row)
        loud = samples / np.quantile(np.abs(samples), 1 - 1 / 30)
        self.written(row, np.clip(loud, -1, 1).astype(np.float32))

    def poisoned(self, row: Row, number: int) -> None:
        """Its kind is all that `decode_natively` looks for."""


KINDS: dict[str, Callable[[Planting, Row, int], None]] = {
    "wrong text": Planting.wrong_text,
    "half the text wrong": Planting.partly_wrong,
    "one word in five wrong": Planting.a_fifth_wrong,
    "last quarter of the text missing": Planting.ends_early,
    "text too long for the sound": Planting.too_long,
    "silence": Planting.silence,
    "noise": Planting.something_else,
    "music": Planting.something_else,
    "truncated file": Planting.truncated,
    "empty file": Planting.empty,
    "garbage bytes": Planting.garbage,
    "missing file": Planting.missing,
    "exact duplicate": Planting.copied,
    "duplicate in another container": Planting.repacked,
    "telephone band": Planting.telephone,
    "clipping": Planting.clipped,
    POISON: Planting.poisoned,
}
BROKEN_ROWS = (
    '{"audio_filepath": "cut-off.flac", "text": "the line en',
    '["a", "list"]',
    '{"text": "no file is named"}',
    '{"audio_filepath": "a.flac", "duration": "three seconds", "text": "a"}',
    '{"audio_filepath": "a.flac", "duration": NaN, "text": "a"}',
)


def write_manifest(path: Path, rows: Iterable[Row]) -> Path:
    """The rows, and broken ones between them."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    apart = len(lines) // len(BROKEN_ROWS)
    for number, broken in enumerate(BROKEN_ROWS):
        lines.insert(number * (apart + 1), broken)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass
class Tally:
    """What became of all rows.

    Args:
        planted: How many of each kind went in.
        found: Of each kind, how many were dropped: by step and reason.
        kept: Of each kind, the files of those that were not.
    """

    planted: Counter[str]
    found: dict[str, Counter[str]]
    kept: dict[str, list[str]]
    problems: list[str]

    def table(self) -> Iterator[str]:
        """Lines of Markdown."""
        yield "| planted | rows | found | by | missed |"
        yield "|---|---|---|---|---|"
        for kind in (*KINDS, BROKEN):
            by = self.found[kind]
            ways = "; ".join(f"{way} ({n})" for way, n in sorted(by.items())) or "-"
            missed = self.planted[kind] - by.total()
            yield f"| {kind} | {self.planted[kind]} | {by.total()} | {ways} | {missed} |"
        wrongly = self.found[GOOD]
        ways = "; ".join(f"{way} ({n})" for way, n in sorted(wrongly.items())) or "-"
        yield f"| **good rows** | {self.planted[GOOD]} | {wrongly.total()} wrongly | {ways} | |"


def tallied(rows: Sequence[Row], out: Path) -> Tally:
    """Compare what went in with what a run has left in its folder."""
    planted = Counter(row[KIND] for row in rows)
    planted[BROKEN] = len(BROKEN_ROWS)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    kept: dict[str, list[str]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for fate in ("manifest", "filtered", "quarantined"):
        for item in _rows(out / f"{fate}.jsonl"):
            kind = item.get(KIND, BROKEN)
            if kind != BROKEN:
                seen[item["audio_filepath"]] += 1
            if fate == "manifest":
                kept[kind].append(item["audio_filepath"])
            else:
                why = item[fate]
                found[kind][f"{why['step']}: {why['reason']}"] += 1
    problems = [f"{name} went in and did not come out once" for name in _differing(rows, seen)]
    summary = json.loads((out / "summary.json").read_text())
    fates = sum(summary[fate] for fate in ("kept", "filtered", "quarantined"))
    if summary["read"] != fates or fates != len(rows) + len(BROKEN_ROWS):
        problems.append(f"{summary['read']} rows were read, and {fates} are accounted for")
    return Tally(planted, found, kept, problems)


def _differing(rows: Sequence[Row], seen: Counter[str]) -> list[str]:
    due = Counter(row["audio_filepath"] for row in rows)
    return sorted(name for name in due | seen if due[name] != seen[name])


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def main() -> int:
    arguments = _arguments()
    folder: Path = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    rows = _absolute(arguments.manifest)[: arguments.limit]
    noises = _absolute(arguments.noises)
    music = [row for row in noises if row.get("category") == "music"]
    files = {
        "noise": [Path(row["audio_filepath"]) for row in noises if row not in music],
        "music": [Path(row["audio_filepath"]) for row in music],
    }
    planting = Planting(rows, files, folder / "damaged", arguments.each, arguments.seed)
    rows = planting.planted()
    manifest = write_manifest(folder / "planted.jsonl", rows)

    from auricle.curation import run
    from auricle.curation.steps.transcribe import Transcribe

    begun = time.perf_counter()
    run(pipeline(manifest, Transcribe(arguments.model)), folder / "out", workers=arguments.workers)
    seconds = time.perf_counter() - begun
    tally = tallied(rows, folder / "out")
    print(heading(arguments, rows, seconds))
    print("\n".join(tally.table()))
    for line in tally.problems or ["every row that went in came out once"]:
        print(f"\n{line}")
    return int(bool(tally.problems))


def heading(arguments: argparse.Namespace, rows: Sequence[Row], seconds: float) -> str:
    """What the figures depend on."""
    from speed import processor

    import auricle

    return (
        f"{len(rows)} rows of {arguments.manifest.name} and {len(BROKEN_ROWS)} broken ones, seed "
        f"{arguments.seed}, model {arguments.model}, {arguments.workers} worker(s), "
        f"{seconds:.0f} s; Auricle {auricle.__version__}, Python {platform.python_version()}, "
        f"{processor()}, {os.cpu_count()} CPUs; "
        f"`python benchmarks/planted_faults.py {' '.join(sys.argv[1:])}`\n"
    )


def _absolute(manifest: Path) -> list[Row]:
    folder = manifest.resolve().parent
    return [{**r, "audio_filepath": str(folder / r["audio_filepath"])} for r in _rows(manifest)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", type=Path, help="JSONL of speech: audio_filepath, text")
    parser.add_argument(
        "--noises", type=Path, required=True, help="JSONL: audio_filepath, category"
    )
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--each", type=int, default=8, help="rows of each kind")
    parser.add_argument("--limit", type=int, help="only the first rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "planted_faults")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
