"""An output folder such as a run leaves, made of random numbers: for what reads such folders."""

from __future__ import annotations

import json
import random
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "the river runs slowly under an old stone bridge while seven people wait for one boat"
WORDS = TEXT.split()
NASTY = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
START = 1_790_000_000.0


def finished_run(folder: Path, items: int = 400, *, seed: int = 1, gpu: bool = True) -> Path:
    """A run of `clean` with a cascade, in which everything that a report knows has happened."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    sound = tone(folder / "tone.wav")
    run = _Run(chance, sound)
    for number in range(items):
        run.item(number)
    for name, rows in (
        ("manifest", run.kept),
        ("filtered", run.filtered),
        ("quarantined", run.quarantined),
    ):
        _write_rows(folder / f"{name}.jsonl", rows)
    (folder / "summary.json").write_text(json.dumps(run.summary(items)), encoding="utf-8")
    (folder / "curation.json").write_text(
        json.dumps({"pipeline": PIPELINE, "note": NASTY}), encoding="utf-8"
    )
    _write_rows(folder / "metrics.jsonl", run.metrics(gpu=gpu))
    return folder


def tone(path: Path, seconds: float = 1.5) -> Path:
    """A soft tone that comes and goes."""
    t = np.arange(int(16000 * seconds)) / 16000
    samples = 0.2 * np.sin(2 * np.pi * 330 * t) * np.sin(np.pi * t / seconds)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


PIPELINE = {
    "name": "clean",
    "read": [{"manifest": "in.jsonl"}],
    "steps": [
        {"step": "1-probe", "version": 1, "options": {}},
        {"step": "2-filter", "version": 1, "options": {"duration": {"ge": 0.5, "le": 40}}},
        {"step": "3.1-transcribe", "version": 1, "options": {"model": "a", "tier": 1}},
        {"step": "3.2-transcribe", "version": 1, "options": {"model": "b", "tier": 2}},
        {"step": "4-wer", "version": 1, "options": {"reference": "text", "prefix": ""}},
    ],
}


STEPS = ["1-probe", "2-filter", "3.1-transcribe", "3.2-transcribe", "4-wer", "5-filter", "6-firsts"]


class _Run:
    def __init__(self, chance: random.Random, sound: Path) -> None:
        self.chance, self.sound = chance, sound
        self.kept: list[dict[str, Any]] = []
        self.filtered: list[dict[str, Any]] = []
        self.quarantined: list[dict[str, Any]] = []

    def item(self, number: int) -> None:
        """One row, and what becomes of it."""
        chance = self.chance
        said = chance.choices(WORDS, k=chance.randint(5, 18))
        duration = round(chance.lognormvariate(1.9, 0.6), 3)
        if chance.random() < 0.09:
            duration = round(chance.uniform(41, 300), 3)
        row: dict[str, Any] = {
            "item_id": f"{number:032x}",
            "audio_filepath": str(self.sound),
            "duration": duration,
            "text": " ".join(said),
            "lang": chance.choice(["en", "en", "de"]),
            "speaker": f"s{number % 9}",
        }
        if chance.random() < 0.02:
            why = chance.choice([("died", "SIGSEGV, alone, twice"), ("damaged", "no frame in it")])
            self._quarantine(row, "1-probe", *why)
        elif duration > 40:
            self._filter(row, "2-filter", "duration > 40", f"duration is {duration}")
        else:
            self._judge(row, said)

    def _judge(self, row: dict[str, Any], said: list[str]) -> None:
        chance = self.chance
        planted = chance.random() < 0.07
        if planted:
            row["duration"] = 1.5  # as long as the file
        rate = 0.95 if planted else max(chance.gauss(0.03, 0.05), 0)
        heard = [chance.choice(WORDS) if chance.random() < rate else word for word in said]
        wrong = sum(a != b for a, b in zip(said, heard, strict=True))
        row |= {"pred_text": " ".join(heard), "confidence": round(0.99 - rate / 2, 4)}
        row["tier"] = 2 if rate > 0.08 else 1
        row["wer"] = round(wrong / len(said), 4)
        if chance.random() < 0.02:
            row |= {"text": "", "wer": None, "wer_status": "no_reference"}
            self._filter(row, "5-filter", "no wer")
        elif row["wer"] > 0.7:
            row["pred_text"] = f"{row['pred_text']} {NASTY}"
            self._filter(row, "5-filter", "wer > 0.7", f"wer is {row['wer']}")
        elif chance.random() < 0.04:
            self._filter(row, "6-firsts", "duplicate text")
        else:
            if row["wer"] > 0.5:
                row["text"] = f"{row['text']} {NASTY}"
            self.kept.append(row)

    def _filter(self, row: dict[str, Any], step: str, reason: str, detail: str = "") -> None:
        told = {"step": step, "reason": reason, "detail": detail}
        self.filtered.append({**row, "filtered": told})

    def _quarantine(self, row: dict[str, Any], step: str, reason: str, detail: str) -> None:
        told = {"step": step, "reason": reason, "detail": f"{detail} {NASTY}"}
        self.quarantined.append({**row, "quarantined": told})

    def summary(self, items: int) -> dict[str, Any]:
        """As the contract of `summary.json` has it."""
        steps, there = [], items
        for step in STEPS:
            drops = {
                fate: Counter(r[fate]["reason"] for r in rows if r[fate]["step"] == step)
                for fate, rows in (("filtered", self.filtered), ("quarantined", self.quarantined))
            }
            out = there - sum(drops["filtered"].values()) - sum(drops["quarantined"].values())
            steps.append({"step": step, "in": there, "out": out, "cut": 0, "made": 0, **drops})
            there = out
        assert there == len(self.kept)
        rows = {"kept": self.kept, "filtered": self.filtered, "quarantined": self.quarantined}
        return {
            "name": "clean",
            "read": items,
            "made": 0,
            "cut": 0,
            **{fate: len(found) for fate, found in rows.items()},
            "seconds": {
                "read": round(sum(r["duration"] for f in rows.values() for r in f), 3),
                **{fate: round(sum(r["duration"] for r in f), 3) for fate, f in rows.items()},
            },
            "steps": steps,
        }

    def metrics(self, *, gpu: bool) -> list[dict[str, Any]]:
        """Two workers, one of which dies once."""
        time, found = START, [{"event": "start", "time": START}]
        for batch in range(60):
            time += self.chance.uniform(4, 9)
            worker = batch % 2
            audio, took = self.chance.uniform(60, 140), self.chance.uniform(5, 12)
            on = f"cuda:{worker}" if gpu else "cpu"
            model = "nvidia/parakeet-ctc-0.6b" if batch % 4 else "nvidia/parakeet-tdt-1.1b"
            work = {"items": 16, "audio_seconds": audio, "seconds": took}
            found.append(
                {
                    "time": time,
                    "stage": "probe-01" if batch < 20 else "transcribe-02",
                    "shard": f"{batch:04x}",
                    "worker": worker,
                    "host": "node1",
                    "device": on,
                    "items": 16,
                    "audio_seconds": audio,
                    "seconds": took,
                    "rss_mb": 700 + 8 * batch + self.chance.uniform(0, 60),
                    "gpu_mb": 5200 + 40 * batch if gpu else None,
                    "steps": {"1-probe": {**work, "seconds": took / 40, "model": None}}
                    if batch < 20
                    else {f"3.{1 if batch % 4 else 2}-transcribe": {**work, "model": model}},
                }
            )
            if batch == 30:
                found.append({"time": time, "event": "death", "reason": "signal 9", "items": 3})
        return [*found, {"event": "end", "time": time + 1}]


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
