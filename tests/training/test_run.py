"""The run folder: nothing is lost, whatever ends the process; and it is a model that loads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import auricle
from auricle import checkpoints
from auricle.checkpoints import Checkpoint
from auricle.errors import CheckpointError, ConfigError
from auricle.training.items import Item
from auricle.training.run import RunFolder, last_state
from auricle.training.saving import TrainState
from tests.conftest import GOLDEN

RECIPE = {
    "name": "toy",
    "optimizer": {"name": "adamw", "lr": 0.001},
    "train": {"steps": 100, "keep_best": 2, "seed": 0},
    "data": {"train": [{"manifest": "a.jsonl"}, {"manifest": "b.jsonl"}], "workers": 2},
    "log": {"every": 10},
}
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits and signals")


def text(**changes: object) -> str:
    """The recipe as YAML, with `train__steps=5` for train.steps."""
    recipe = json.loads(json.dumps(RECIPE))
    for key, value in changes.items():
        *path, last = key.split("__")
        place = recipe
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value
    return yaml.safe_dump(recipe, sort_keys=False)


def state(value: float, **facts: object) -> TrainState:
    parameter = torch.nn.Parameter(torch.full((3, 4), float(value)))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    weights = {"a": parameter.detach(), "count": torch.tensor(7)}
    ema = {"a": torch.full((3, 4), value / 2)}
    return {"weights": weights, "optimizer": optimizer.state_dict(), "ema": ema, "facts": facts}


def begun(path: Path) -> Path:
    """A folder with a run that made no step."""
    with RunFolder.open(path, text(), resume=False) as run:
        run.write_start({"seed": 0})
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Everything in it but the lock."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return checkpoints.load(GOLDEN / "nemo" / "fastconformer_ctc.nemo")


def shifted(model: Checkpoint, by: float) -> Checkpoint:
    """The model with another bias, to tell one from the other."""
    key = next(k for k in model.tensors if k.endswith("bias"))
    return replace(model, tensors={**model.tensors, key: model.tensors[key] + by})


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", text(), resume=False) as run:
        run.write_start({})
        saved = state(0.5, position=[3, 14], best=0.25, losses=[0.1, None])
        path = run.save(1000, saved)
        assert path == tmp_path / "run" / "checkpoints" / "step-00001000"
        found = run.last()
    assert found is not None
    step, back = found
    assert step == 1000 and back["facts"] == {
        "position": [3, 14],
        "best": 0.25,
        "losses": [0.1, None],
    }
    for part in ("weights", "ema"):
        assert back[part].keys() == saved[part].keys()
        assert all(torch.equal(back[part][k], saved[part][k]) for k in saved[part])
    old, new = saved["optimizer"], back["optimizer"]
    assert new["param_groups"] == old["param_groups"]
    assert torch.equal(new["state"][0]["exp_avg_sq"], old["state"][0]["exp_avg_sq"])
    assert last_state(tmp_path / "run")[1]["facts"] == back["facts"]


def test_without_averages(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        run.save(1, {**state(1.0), "ema": None})
        assert run.last()[1]["ema"] is None


def test_the_newest_and_the_one_before_stay(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        for step in (10, 20, 30, 30):
            run.save(step, state(step))
        names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
        assert names == ["step-00000020", "step-00000030"]
        assert run.last()[0] == 30


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimizer.pt", "ema.safetensors", "state.json"]
)
def test_a_damaged_save_is_left_out_and_said(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun(tmp_path)
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        run.save(10, state(1.0))
        run.save(20, state(2.0))
        for step in (10, 20, 21):
            run.log(step, "train", {"loss": 1.0})
        damaged = tmp_path / "checkpoints" / "step-00000020" / file
        damaged.write_bytes(damaged.read_bytes()[:-9])
        step, back = run.last()
        assert step == 10 and torch.equal(back["weights"]["a"], state(1.0)["weights"]["a"])
        (line,) = caplog.messages
        assert "step-00000020 is left out: " in line and file in line
        assert not damaged.exists()
        run.save(20, state(3.0))
        assert torch.equal(run.last()[1]["weights"]["a"], state(3.0)["weights"]["a"])
    steps = [json.loads(r)["step"] for r in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10]


def test_bytes_that_are_wrong_but_as_many_do_not_crash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        run.save(10, state(1.0))
        for file in ("weights.safetensors", "optimizer.pt"):
            damaged = tmp_path / "checkpoints" / "step-00000010" / file
            damaged.write_bytes(b"\xff" * damaged.stat().st_size)
        assert run.last() is None
    assert len(caplog.messages) == 1


def test_metrics_are_forgotten_from_the_save_on(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        run.write_start({})
        run.log(10, "train", {"loss": 2.5, "lr": 1e-3, "epoch": 0})
        run.log(20, "validation", {"loss": float("nan"), "wer": float("inf"), "head": "ctc"})
        run.save(20, state(1.0))
        run.log(30, "train", {"loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    kept = path.read_text().splitlines()[:2]
    assert kept[0] == '{"step": 10, "kind": "train", "loss": 2.5, "lr": 0.001, "epoch": 0}'
    assert json.loads(kept[1]) == {
        "step": 20, "kind": "validation", "loss": None, "wer": None, "head": "ctc",
    }  # fmt: skip
    with path.open("a") as file:
        file.write('{"step": 20, "kind": "tr')  # a kill
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        run.last()
        assert path.read_text().splitlines() == kept
        run.log(21, "train", {"loss": 1.0})
        assert len(path.read_text().splitlines()) == 3


def test_going_on_without_a_save_begins_anew(tmp_path: Path) -> None:
    begun(tmp_path)
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        run.log(5, "train", {"loss": 1.0})
        assert run.resumed and run.last() is None
        assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    before = files(begun(tmp_path))
    with (
        pytest.raises(ConfigError, match=r"holds a run: go on with it by --resume"),
        RunFolder.open(tmp_path, text(), resume=False),
    ):
        pass
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["model", "config.json", "metrics.jsonl"])
def test_nor_what_is_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    for resume in (False, True):
        with (
            pytest.raises(ConfigError, match=f"holds {name}, but no run"),
            RunFolder.open(tmp_path, text(), resume=resume),
        ):
            pass
    with (
        pytest.raises(ConfigError, match="is a file"),
        RunFolder.open(tmp_path / name, text(), resume=False),
    ):
        pass


def test_what_failed_before_it_began_is_no_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no manifest"),
        RunFolder.open(tmp_path, text(), resume=False),
    ):
        raise ValueError("no manifest")
    with RunFolder.open(tmp_path, text(train__seed=1), resume=False) as run:
        assert not run.resumed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer__lr": 0.002}, r"begun with optimizer\.lr=0\.001, .* now says 0\.002: give it"),
        (
            {"data__train__1__manifest": "c.jsonl"},
            r"data\.train\.1\.manifest=b\.jsonl, .* c\.jsonl",
        ),
        (
            {"data__train": [{"manifest": "a.jsonl"}]},
            r"data\.train\.1\.manifest=b.jsonl, .* nothing",
        ),
        ({"model": {"heads": ["ctc"]}}, r"model\.heads\.0=nothing, and the recipe now says ctc"),
        ({"train__seed": 1, "name": "b"}, r"name=toy, "),
    ],
)
def test_another_recipe_does_not_go_on(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    before = files(begun(tmp_path))
    with (
        pytest.raises(ConfigError, match=message) as error,
        RunFolder.open(tmp_path, text(**changes), resume=True),
    ):
        pass
    assert "\n" not in str(error.value) and files(tmp_path) == before


def test_how_long_and_how_often_may_change(tmp_path: Path) -> None:
    begun(tmp_path)
    changed = text(
        train__steps=200, train__minutes=5.0, train__keep_best=1, data__workers=0, log__every=1
    )
    with RunFolder.open(tmp_path, changed, resume=True) as run:
        run.write_start({"seed": 0})
    assert (tmp_path / "recipe.yaml").read_text() == changed
    first, second = json.loads((tmp_path / "versions.json").read_text())
    assert first == second and first["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert first["auricle"] == auricle.__version__ and first["seed"] == 0
    assert first["python"] == sys.version.split()[0] and first["cpu"]


def test_two_at_once(tmp_path: Path) -> None:
    begun(tmp_path)
    with (
        RunFolder.open(tmp_path, text(), resume=True),
        pytest.raises(ConfigError, match="another process is training in"),
        RunFolder.open(tmp_path, text(), resume=True),
    ):
        pass
    with RunFolder.open(tmp_path, text(), resume=True):
        pass


FILLED = """
import resource, sys, torch
from pathlib import Path
from auricle import checkpoints
from auricle.training.run import RunFolder
model = checkpoints.load(Path(sys.argv[3]))
with RunFolder.open(Path(sys.argv[1]), Path(sys.argv[2]).read_text(), resume=True) as run:
    empty = {"weights": {}, "optimizer": {}, "ema": None, "facts": {}}
    big = {"a": torch.zeros(1 << 16)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
    for part in ("weights", "optimizer", "ema", "model"):
        try:
            if part == "model":
                run.keep_best(30, 0.1, model)
            else:
                run.save(30, {**empty, part: big})
        except OSError as error:
            print(part, error.strerror, error.filename)
"""


@posix
def test_a_full_disk_leaves_the_saves_before_whole(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with RunFolder.open(folder, text(), resume=True) as run:
        run.save(10, state(1.0))
        run.save(20, state(2.0))
    (tmp_path / "recipe").write_text(text())
    before = files(folder)
    arguments = [folder, tmp_path / "recipe", GOLDEN / "nemo" / "fastconformer_ctc.nemo"]
    done = subprocess.run(
        [sys.executable, "-c", FILLED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    save, best = folder / "checkpoints" / "step-00000030", folder / "best"
    assert done.stdout.splitlines() == [
        f"weights File too large {save}",
        f"optimizer File too large {save}",
        f"ema File too large {save}",
        f"model File too large {best / 'step-00000030-wer-0.1000'}",
    ]
    assert files(folder) == before


KILLED = """
import sys, torch
from pathlib import Path
from auricle.training.run import RunFolder
with RunFolder.open(Path(sys.argv[1]), Path(sys.argv[2]).read_text(), resume=True) as run:
    step = run.last()[0] if run.last() else 0
    while True:
        step += 1
        weights = {"a": torch.full((300_000,), float(step))}
        run.log(step, "train", {"loss": float(step)})
        state = {"weights": weights, "optimizer": {"s": step}, "ema": None, "facts": {"n": step}}
        run.save(step, state)
        print(step, flush=True)
"""


@posix
def test_killed_at_any_moment_there_is_a_whole_save_and_no_lock(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    (tmp_path / "recipe").write_text(text())
    refused = pytest.raises(ConfigError, match="another process is training in")
    reached = 0
    for wait in (0.003, 0.011):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "run"), str(tmp_path / "recipe")],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        with refused, RunFolder.open(tmp_path / "run", text(), resume=True):
            pass
        time.sleep(wait)
        process.kill()
        said = process.communicate()[0].split()
        with RunFolder.open(tmp_path / "run", text(), resume=True) as run:
            step, back = run.last()
            assert step > reached and step >= int(said[-1] if said else 0)
            assert back["facts"] == {"n": step} and back["optimizer"] == {"s": step}
            assert torch.all(back["weights"]["a"] == step)
            kept = [json.loads(r)["step"] for r in (run.path / "metrics.jsonl").open()]
            assert kept == list(range(1, step + 1))
        assert not list((tmp_path / "run").rglob("*.part"))
        reached = step


def test_the_best_are_kept_and_the_best_of_them_is_the_model(
    tmp_path: Path, model: Checkpoint
) -> None:
    def kept() -> list[tuple[int, float]]:
        return [(best.step, best.wer) for best in run.best()]

    def holds(by: float) -> bool:
        return same(checkpoints.load(tmp_path / "model"), shifted(model, by))

    with RunFolder.open(tmp_path, text(), resume=False) as run:
        assert run.best() == []
        assert run.keep_best(10, 0.5, shifted(model, 1.0)) and holds(1.0)
        assert run.keep_best(20, 0.25, shifted(model, 2.0)) and holds(2.0)
        assert not run.keep_best(30, 0.3, shifted(model, 3.0)) and holds(2.0)
        assert kept() == [(20, 0.25), (30, 0.3)]
        assert not run.keep_best(40, 0.9, shifted(model, 4.0))
        assert kept() == [(20, 0.25), (30, 0.3)]
        assert run.keep_best(50, 0.25, shifted(model, 5.0)) and holds(5.0)  # the newer of equals
        assert kept() == [(50, 0.25), (20, 0.25)]
        assert not run.keep_best(60, float("nan"), shifted(model, 6.0)) and holds(5.0)
        names = sorted(p.name for p in (tmp_path / "best").iterdir())
        assert names == ["step-00000020-wer-0.2500", "step-00000050-wer-0.2500"]
        assert not run.keep_best(50, 0.26, shifted(model, 6.5))  # a mean, at the last step
        assert run.keep_best(50, 0.2, shifted(model, 7.0)) and holds(7.0)
        assert kept() == [(50, 0.2), (50, 0.25)]
        run.write_model(shifted(model, 8.0))
        assert holds(8.0) and kept() == [(50, 0.2), (50, 0.25)]
        assert same(checkpoints.load(run.best()[0].path), shifted(model, 7.0))


def test_a_wer_that_is_no_number_is_the_worst(tmp_path: Path, model: Checkpoint) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        assert run.keep_best(10, float("inf"), model)
        assert run.keep_best(20, 3.5, model)
        assert [best.step for best in run.best()] == [20, 10]


def test_the_model_is_mended_after_a_kill(tmp_path: Path, model: Checkpoint) -> None:
    begun(tmp_path)
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        run.keep_best(10, 0.5, shifted(model, 1.0))
        (tmp_path / "model").rename(tmp_path / ".model.x.part")  # between the two renames
        time.sleep(0.02)
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        assert same(checkpoints.load(tmp_path / "model"), shifted(model, 1.0))
        assert not list(tmp_path.glob(".*.part"))
        time.sleep(0.02)
        checkpoints.save(shifted(model, 2.0), tmp_path / "best" / "step-00000020-wer-0.1000")
    with RunFolder.open(tmp_path, text(), resume=True) as run:
        assert same(checkpoints.load(tmp_path / "model"), shifted(model, 2.0))
        time.sleep(0.02)
        run.write_model(shifted(model, 3.0))
    with RunFolder.open(tmp_path, text(), resume=True):
        assert same(checkpoints.load(tmp_path / "model"), shifted(model, 3.0))  # newer: a mean


def test_a_run_folder_is_a_model(tmp_path: Path, model: Checkpoint) -> None:
    folder = begun(tmp_path / "toy")
    with pytest.raises(CheckpointError, match="is a run that has no model yet"):
        checkpoints.load(folder)
    with RunFolder.open(folder, text(), resume=True) as run:
        run.keep_best(10, 0.5, model)
    found = checkpoints.load(folder)
    assert found.name == "toy" and same(found, model)
    asr = auricle.load(folder)
    assert asr.heads == ("ctc",) and asr.model == str(folder)


def test_a_bad_batch_is_saved(tmp_path: Path) -> None:
    item = Item("a.wav", None, 1.5, "one two", data={"x": object()})  # type: ignore[arg-type]
    features = torch.full((1, 80, 7), float("nan"))
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        path = run.dump_batch(12, 0, [item], {"features": features, "frames": torch.tensor([7])})
        run.dump_batch(12, 0, [item], {"features": features})
    assert path == tmp_path / "nan" / "step-00000012" / "batch-0"
    rows = json.loads((path / "items.json").read_text())["items"]
    assert rows == [{"name": "a.wav", "duration": 1.5, "text": "one two", "language": None}]
    from safetensors.torch import load_file

    assert load_file(path / "features.safetensors")["features"].isnan().all()


def test_plots_of_what_was_logged(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, text(), resume=False) as run:
        assert run.plots() == []
        run.log(1, "train", {"loss": 2.0, "lr": 0.1})
        assert [p.name for p in run.plots()] == ["loss.png", "lr.png"]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_fails_before_it_begins_leaves_nothing(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "run"
    if there:
        path.mkdir()
    with pytest.raises(KeyError), RunFolder.open(path, "name: a\n", resume=False):
        assert (path / ".lock").exists()
        raise KeyError
    assert path.exists() == there and not (path / ".lock").exists()
