"""A training that was killed, stopped or filled the disk goes on as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from auricle.training import plots, ranks
from auricle.training.loop import TrainResult, train
from auricle.training.recipe import Recipe
from tests.training.tiny import SMALLER, Hearing, differing, metrics, saved, state, tiny
from tests.training.together import SERVER, train_undrawn

RANDOM = (
    *SMALLER,
    "model.encoder.dropout=0.1",
    "model.encoder.dropout_att=0.1",
    "augment.spec={freq_masks: 2, freq_width: 9, time_masks: 2, time_width: 0.1}",
    "augment.gain={prob: 0.5}",
    "augment.speed={prob: 0.5}",
    "train.accumulate=2",
    "train.save_every=4",
    "train.validate_every=6",
    "train.steps=22",
)
OPTIMIZERS = {
    "adamw": ("optimizer.name=adamw", "train.ema=0.99"),
    "novograd": ("optimizer.name=novograd", "optimizer.lr=0.01", "schedule.name=cosine"),
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time would go into plots, which have tests of their own."""
    monkeypatch.setattr(plots, "draw", lambda *paths: [])


def started(recipe: Recipe, run: Path) -> Any:
    """A training in a process of its own, that goes on with what is there."""
    process = SERVER.Process(target=train_undrawn, args=([(recipe, run)],))
    process.start()
    return process


def steps_of(run: Path) -> int:
    return len(metrics(run, "train")) if (run / "metrics.jsonl").exists() else 0


def finish(recipe: Recipe, run: Path) -> TrainResult:
    return train(recipe, run, resume=True)


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Weights, optimiser, EMA, place and metrics are those of the other, to the last bit."""
    first, second = state(one, step), state(other, step)
    for facts in (first["facts"], second["facts"]):
        del facts["seconds"]
    assert differing(first, second) == []
    for kind in ("train", "validation"):
        assert metrics(one, kind) == metrics(other, kind)
    assert [row["step"] for row in metrics(one, "train")] == list(range(1, step + 1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kill_9_at_any_moment_changes_nothing(tmp_path: Path, optimizer: str) -> None:
    recipe = tiny(tmp_path, *RANDOM, *OPTIMIZERS[optimizer], count=11)
    train(recipe, tmp_path / "whole")
    run, drawn = tmp_path / "killed", random.Random(optimizer)
    places: list[list[int]] = []
    kills = 0
    for aim in (drawn.randint(1, 5), drawn.randint(6, 10), "saving", drawn.randint(13, 17)):
        victim = started(recipe, run)
        while victim.is_alive() and not (
            list((run / "checkpoints").glob(".step*")) if aim == "saving" else steps_of(run) >= aim
        ):
            time.sleep(0.005)
        time.sleep(0.0 if aim == "saving" else drawn.random() / 20)
        victim.kill()
        victim.join()
        kills += victim.exitcode == -signal.SIGKILL
        places += [state(run, step)["facts"]["position"] for step in saved(run)]
    finish(recipe, run)
    assert kills >= 3  # the last victim may have been done before
    assert any(batch > 0 for _, batch in places)  # in the middle of an epoch
    assert_same_run(run, tmp_path / "whole", 22)


@pytest.mark.parametrize(("name", "ending"), [("SIGTERM", "terminated"), ("SIGINT", "interrupted")])
def test_a_wish_to_stop_saves_first(tmp_path: Path, name: str, ending: str) -> None:
    recipe = tiny(tmp_path, *RANDOM, *OPTIMIZERS["adamw"], "train.steps=9", "train.average=true")
    whole = train(recipe, tmp_path / "whole")
    hearing, run = Hearing(**{name: 5}), tmp_path / "run"
    stopped = train(recipe, run, progress=hearing)
    assert (stopped.ending, stopped.step, hearing.endings) == (ending, 6, [ending])
    assert saved(run) == [4, 6]  # all ranks hear of it in the step after
    assert finish(recipe, run) == TrainResult(run, 9, whole.wer, "finished")
    assert_same_run(run, tmp_path / "whole", 9)


@pytest.mark.parametrize(("begun", "now"), [(2, 1), (1, 3)])
def test_a_run_goes_on_with_the_threads_it_began_with(tmp_path: Path, begun: int, now: int) -> None:
    """Sums of another number of threads have other last bits."""
    recipe = tiny(tmp_path, *RANDOM, *OPTIMIZERS["adamw"], "train.steps=9")
    run, hearing = tmp_path / "run", Hearing()
    with ranks.threads_given_back():
        torch.set_num_threads(begun)
        train(recipe, tmp_path / "whole")
        train(recipe, run, progress=Hearing(SIGTERM=5))
        torch.set_num_threads(now)
        train(recipe, run, resume=True, progress=hearing)
        assert torch.get_num_threads() == now
    assert_same_run(run, tmp_path / "whole", 9)
    told = f"going on from step 6; each process takes {begun} threads as before, not {now}"
    assert told in hearing.lines
    starts = json.loads((run / "versions.json").read_text())
    assert [start["threads"] for start in starts] == [[begun], [begun]]


def test_what_else_changes_the_last_bits_is_said(tmp_path: Path) -> None:
    recipe = tiny(tmp_path, *RANDOM, *OPTIMIZERS["adamw"], "train.steps=4")
    run, hearing = tmp_path / "run", Hearing()
    train(recipe, run)
    file = run / "checkpoints" / "step-00000004" / "state.json"
    saved_there = json.loads(file.read_text())
    saved_there["facts"]["arithmetic"][0]["torch"] = "1.0"
    file.write_text(json.dumps(saved_there))
    longer = replace(recipe, train=replace(recipe.train, steps=5))
    train(longer, run, resume=True, progress=hearing)
    line = next(line for line in hearing.lines if line.startswith("going on"))
    assert line.startswith("going on from step 4; the last bits may differ: saved with torch 1.0, ")


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits to the size of files")
def test_a_full_disk_ends_it_and_loses_nothing(tmp_path: Path) -> None:
    import resource

    recipe = tiny(tmp_path, *RANDOM, *OPTIMIZERS["novograd"], "train.steps=9")
    train(recipe, tmp_path / "whole")
    run, hard = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    class Filling(Hearing):
        def step(self, step: int, loss: float, **facts: Any) -> None:
            if step == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))

    try:
        with pytest.raises(OSError, match=r"File too large.*step-00000008"):
            train(recipe, run, progress=Filling())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    assert saved(run) == [4]
    finish(recipe, run)
    assert_same_run(run, tmp_path / "whole", 9)
