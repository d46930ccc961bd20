"""Trackers: what they are told, and that none of them can stop a training."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from auricle.errors import ConfigError, MissingExtra
from auricle.training import trackers
from auricle.training.recipe import LogRecipe, OptimizerRecipe, Recipe
from auricle.training.run import RunFolder
from auricle.training.trackers import TensorBoard, Trackers, open_trackers


def recipe(*names: str) -> Recipe:
    return Recipe("toy", optimizer=OptimizerRecipe(lr=0.5), log=LogRecipe(names, project="speech"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.open(tmp_path / "run", "name: toy", resume=False) as folder:
        folder.write_start({})
        yield folder


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_tensorboard_has_what_was_logged_and_forgets_what_a_kill_undid(run: RunFolder) -> None:
    tracker = open_trackers(recipe("tensorboard"), run)
    for step in (10, 20, 30):
        tracker.log(step, {"train/loss": step / 10, "train/lr": float("nan"), "train/head": "ctc"})
    tracker.close()
    folder = run.path / "tensorboard"
    assert points(folder) == {"train/loss": [(10, 1.0), (20, 2.0), (30, 3.0)]}
    again = open_trackers(recipe("tensorboard"), run)  # the save was at 20
    again.log(30, {"train/loss": 7.0})
    again.close()
    assert points(folder) == {"train/loss": [(10, 1.0), (20, 2.0), (30, 7.0)]}


def test_other_ranks_tell_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = open_trackers(recipe("tensorboard", "wandb"), None)
    tracker.log(1, {"train/loss": 1.0})
    tracker.close()
    assert list(tmp_path.iterdir()) == []


class FakeWandb(types.ModuleType):
    """Remembers what it is asked, as `import wandb` would give it."""

    def __init__(self, fail: str = "") -> None:
        super().__init__("wandb")
        self.began: list[dict] = []
        self.logged: list[tuple[dict, int]] = []
        self.finished = 0
        self.fail = fail

    def init(self, **options: object) -> types.SimpleNamespace:
        if self.fail:
            raise RuntimeError(self.fail)
        self.began.append(options)
        return types.SimpleNamespace(id=options["id"] or "new", log=self._log, finish=self._finish)

    def Settings(self, **options: object) -> dict:
        return options

    def _log(self, values: dict, step: int) -> None:
        if step == 13:
            raise ConnectionError("no route to host\nmore")
        self.logged.append((values, step))

    def _finish(self) -> None:
        self.finished += 1


def test_wandb_goes_on_with_the_same_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    tracker = open_trackers(recipe("wandb"), run)
    tracker.log(10, {"train/loss": 1, "validation/wer": float("inf")})
    tracker.close()
    (options,) = wandb.began
    assert (options["project"], options["name"], options["id"]) == ("speech", "toy", None)
    assert options["config"]["optimizer"]["lr"] == 0.5 and options["dir"] == str(run.path)
    assert wandb.logged == [({"train/loss": 1.0}, 10)] and wandb.finished == 1
    assert json.loads((run.path / "trackers.json").read_text()) == {"wandb": "new"}
    run.resumed = True
    open_trackers(recipe("wandb"), run)
    assert wandb.began[1]["id"] == "new"


def test_a_network_that_fails_is_said_once_and_tried_again_later(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    now = [0.0]
    monkeypatch.setattr(trackers.time, "monotonic", lambda: now[0])
    tracker = open_trackers(recipe("wandb", "tensorboard"), run)
    tracker.log(13, {"train/loss": 1.0})
    assert caplog.messages == [
        "wandb is not told everything (no route to host); the training goes on, and metrics.jsonl "
        "has all of it"
    ]
    now[0] = trackers.PAUSE - 1
    tracker.log(14, {"train/loss": 2.0})  # it rests
    now[0] = trackers.PAUSE
    tracker.log(13, {"train/loss": 3.0})
    now[0] = 2 * trackers.PAUSE
    tracker.log(15, {"train/loss": 4.0})
    tracker.close()
    assert wandb.logged == [({"train/loss": 4.0}, 15)] and wandb.finished == 1
    assert len(caplog.messages) == 1
    assert [step for step, _ in points(run.path / "tensorboard")["train/loss"]] == [13, 14, 13, 15]


class FakeClient:
    """An MLflow server in memory."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: list[dict] = []

    def get_experiment_by_name(self, name: str) -> types.SimpleNamespace | None:
        found = self.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment: str, run_name: str) -> types.SimpleNamespace:
        self.runs.append({"of": experiment, "name": run_name, "params": {}, "metrics": []})
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"r{len(self.runs) - 1}"))

    def update_run(self, run_id: str, status: str) -> None:
        self._run(run_id)["status"] = status

    def set_terminated(self, run_id: str) -> None:
        self._run(run_id)["status"] = "FINISHED"

    def log_batch(self, run_id: str, metrics: list = [], params: list = []) -> None:  # noqa: B006
        assert len(params) <= 100
        self._run(run_id)["params"] |= dict(params)
        self._run(run_id)["metrics"] += [(key, value, step) for key, value, _, step in metrics]

    def _run(self, run_id: str) -> dict:
        return self.runs[int(run_id[1:])]


def test_mlflow_goes_on_with_the_same_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    mlflow, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    mlflow.MlflowClient = lambda: client  # type: ignore[attr-defined]
    entities.Metric = entities.Param = lambda *values: values  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    tracker = open_trackers(recipe("mlflow"), run)
    tracker.log(10, {"train/loss": 1.0, "train/head": "ctc"})
    tracker.close()
    (there,) = client.runs
    assert (there["of"], there["name"], there["status"]) == ("0", "toy", "FINISHED")
    assert there["metrics"] == [("train/loss", 1.0, 10)]
    assert (
        there["params"]["optimizer.lr"] == "0.5" and there["params"]["log.trackers.0"] == "mlflow"
    )
    run.resumed = True
    open_trackers(recipe("mlflow"), run).log(20, {"train/loss": 0.5})
    assert len(client.runs) == 1 and there["status"] == "RUNNING"
    assert there["metrics"][1] == ("train/loss", 0.5, 20)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("wandb", "wandb", "wandb"),
        ("mlflow", "mlflow", "mlflow"),
        ("tensorboard", "torch.utils.tensorboard.writer", "train"),
    ],
)
def test_a_missing_package_names_its_extra(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"has {name}, .* pip install 'auricle\[{extra}\]'"):
        open_trackers(recipe(name), run)


def test_one_that_does_not_start_is_the_users_to_mend(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fail="No API key configured."))
    with pytest.raises(ConfigError, match=r"wandb does not start \(No API key.*\): log in by"):
        open_trackers(recipe("wandb"), run)


def test_an_empty_run_has_no_event_file(tmp_path: Path) -> None:
    Trackers({"tensorboard": TensorBoard(tmp_path / "tb")}).close()
    assert not (tmp_path / "tb").exists()
