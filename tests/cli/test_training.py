"""`auricle train`: its options, exit codes and last words, with a loop that trains nothing."""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path

import pytest
import yaml

import auricle.training
from auricle.errors import ConfigError, NonFiniteLoss
from auricle.training.progress import Progress
from auricle.training.reading import recipe_names
from auricle.training.recipe import Recipe
from tests.checkpoints.goldens import GOLDEN
from tests.cli.conftest import Run, start
from tests.patience import PATIENCE
from tests.tiny_whisper import write_tiny_whisper
from tests.training.tones import corpus


class FakeLoop(types.ModuleType):
    """Makes three steps and ends as it is told."""

    def __init__(self) -> None:
        super().__init__("auricle.training.loop")
        self.ending, self.wer, self.error = "finished", 0.0625, None
        self.recipe: Recipe | None = None
        self.asked: dict = {}

    def train(self, recipe: Recipe, folder: Path, *, resume: bool, progress: Progress) -> object:
        self.recipe, self.asked = recipe, {"folder": folder, "resume": resume}
        if self.error is not None:
            raise self.error
        progress.started(3, None, 0)
        for step in (1, 2, 3):
            progress.step(step, 4.0 / step, lr=1e-3, seconds_of_audio=9.0, wer=None, memory=None)
        progress.said("lost.wav: no such file")
        progress.validating(5, None)
        progress.validated(3, 0.0625, 1.5, True)
        progress.saved(3, folder / "checkpoints")
        progress.finished(self.ending)
        result = {"folder": folder, "step": 3, "wer": self.wer, "ending": self.ending}
        return types.SimpleNamespace(**result)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLoop:
    fake = FakeLoop()
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(auricle.training, "loop", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return fake


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A recipe for 8 utterances of tones."""
    corpus(tmp_path / "tones", 8)
    manifest = next((tmp_path / "tones").glob("*.jsonl"))
    encoder = {"n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 8}
    recipe = {
        "tokenizer": {"kind": "char", "size": 32},
        "model": {"encoder": encoder},
        "data": {"train": [{"manifest": str(manifest)}]},
        "train": {"steps": 3},
    }
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def hold_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: toy")
    return folder


def test_a_training_ends_with_the_model_and_what_to_do_with_it(
    run: Run, loop: FakeLoop, toy: Path
) -> None:
    code, out, err = run("train", toy, "optimizer.lr=0.5", "train.steps=7")
    assert (code, out) == (0, "runs/toy\n")
    assert loop.recipe is not None and loop.recipe.optimizer.lr == 0.5
    assert loop.asked == {"folder": Path("runs/toy"), "resume": False}
    assert err.splitlines() == [
        "auricle: training toy in runs/toy",
        "step 1/3, loss 4.000, " + err.splitlines()[1].split(", ", 2)[2],
        "lost.wav: no such file",
        "step 3: validation WER 6.25 %, loss 1.500, the best so far",
        "auricle: done at step 3: WER 6.25 %; the model is in runs/toy/model; "
        "try: auricle transcribe -m runs/toy RECORDING",
    ]
    assert "h of audio/h, " in err and " left, learning rate 1.00e-03" in err


def test_quiet_is_the_folder_alone(run: Run, loop: FakeLoop, toy: Path) -> None:
    assert run("train", toy, "-q", "-o", "here") == (0, "here\n", "")
    assert loop.asked["folder"] == Path("here")


@pytest.mark.parametrize(
    ("ending", "expected", "words"),
    [
        ("interrupted", 130, "interrupted and saved at step 3; go on with the same command and"),
        ("terminated", 143, "terminated and saved at step 3; go on with the same command and"),
        ("early", 0, "done at step 3, as the WER falls no more: WER 6.25 %"),
        ("minutes", 0, "done at step 3, as its time is over: WER 6.25 %"),
    ],
)
def test_endings(
    run: Run, loop: FakeLoop, toy: Path, ending: str, expected: int, words: str
) -> None:
    loop.ending = ending
    code, out, err = run("train", toy)
    assert code == expected and words in err
    assert out == ("runs/toy\n" if expected == 0 else "")
    if expected:
        assert err.endswith("-o runs/toy --resume\n")


def test_without_validation_there_is_no_wer(run: Run, loop: FakeLoop, toy: Path) -> None:
    loop.wer = None
    assert "auricle: done at step 3; the model is in runs/toy/model;" in run("train", toy)[2]


def test_errors_are_a_line(run: Run, loop: FakeLoop, toy: Path) -> None:
    loop.error = ConfigError("runs/toy holds\na run")
    code, out, err = run("train", toy, "-q")
    assert (code, out, err) == (2, "", "auricle: error: runs/toy holds a run\n")
    loop.error = NonFiniteLoss("the loss of step 3 is no number")
    code, out, err = run("train", toy, "-q")
    assert (code, out, err) == (1, "", "auricle: error: the loss of step 3 is no number\n")
    loop.error = OSError(28, "No space left on device", "runs/toy/checkpoints/step-00000003")
    code, _, err = run("train", toy, "-q")
    assert code == 1 and "step-00000003: No space left on device; make room" in err


def test_the_folder_is_numbered_and_found_again(run: Run, loop: FakeLoop, toy: Path) -> None:
    def chosen(*words: str) -> Path:
        assert run("train", toy, "-q", *words)[0] == 0
        return loop.asked["folder"]

    assert chosen("--resume") == Path("runs/toy")
    Path("runs/toy").mkdir(parents=True)  # holds no run
    assert chosen() == Path("runs/toy")
    Path("runs/toy").rmdir()
    hold_run(Path("runs/toy"))
    assert chosen("--resume") == Path("runs/toy")
    assert chosen() == Path("runs/toy-2")
    hold_run(Path("runs/toy-3"))
    hold_run(Path("runs/toy-large"))
    assert chosen() == Path("runs/toy-4")
    assert chosen("--resume") == Path("runs/toy-3") and loop.asked["resume"]


def test_to_go_on_with_nothing_is_said(run: Run, loop: FakeLoop, toy: Path) -> None:
    said = "auricle: training toy in runs/toy, from the start\n"
    assert run("train", toy, "--resume")[2].startswith(said)
    hold_run(Path("runs/toy"))
    assert run("train", toy, "--resume")[2].startswith("auricle: training toy in runs/toy\n")


def test_only_the_first_rank_speaks(
    run: Run, loop: FakeLoop, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run("train", toy) == (0, "", "")
    loop.ending = "terminated"
    assert run("train", toy) == (143, "", "")
    loop.error = NonFiniteLoss("the loss of step 3 is no number")
    assert run("train", toy) == (1, "", "")
    assert run("train", toy, "--check") == (0, "", "")


@pytest.mark.parametrize(
    ("workers", "said", "left"), [(1, None, 3), (9, None, 1), (0, None, 4), (1, "4", 4)]
)
def test_workers_get_cores_of_their_own(
    run: Run,
    loop: FakeLoop,
    toy: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    said: str | None,
    left: int,
) -> None:
    threads = [4]
    monkeypatch.setattr("torch.get_num_threads", lambda: threads[-1])
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert run("train", toy, "-q", f"data.workers={workers}")[0] == 0
    assert threads[-1] == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a recipe: a YAML file, or a name that `auricle train --list` shows"),
        (["data.train.0.manifest=a"], "auricle train init_from=MODEL train.jsonl"),
        (["a.jsonl"], "auricle train init_from=MODEL train.jsonl"),
        (["init_from=nowhere.nemo", "a.jsonl"], "nowhere.nemo"),
        (["no_such"], "there is no recipe 'no_such'"),
        (["toy.yaml", "optimizer.rl=1"], "optimizer.lr"),
        (["toy.yaml", "train.steps=many"], "train.steps"),
    ],
)
def test_mistakes(run: Run, loop: FakeLoop, toy: Path, words: list[str], message: str) -> None:
    code, out, err = run("train", *words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert loop.recipe is None and not Path("runs").exists()


def test_show_prints_what_reads_back(run: Run, loop: FakeLoop, toy: Path) -> None:
    code, out, err = run("train", toy, "optimizer.lr=0.5", "--show")
    assert (code, err) == (0, "") and "lr: 0.5" in out and "shuffle_buffer: 10000" in out
    Path("again.yaml").write_text(out)
    assert run("train", "again.yaml", "--show") == (0, out, "")
    assert loop.recipe is None


def test_list_describes_every_recipe_of_the_command(run: Run) -> None:
    listed = {}
    for command in ("train", "finetune"):
        code, out, err = run(command, "--list")
        rows = dict(line.split("\t") for line in out.splitlines())
        assert (code, err) == (0, "")
        assert all(len(description) > 20 for description in rows.values()), rows
        listed[command] = set(rows)
    assert {"citrinet_1024", "digits"} <= listed["train"]
    assert {"whisper_small_sft", "parakeet_ctc_0.6b_lora", "digits_noise"} <= listed["finetune"]
    assert not listed["train"] & listed["finetune"]
    assert listed["train"] | listed["finetune"] == set(recipe_names())


@pytest.mark.parametrize("command", ["train", "finetune"])
@pytest.mark.parametrize(
    ("model", "recipe", "style"),
    [
        ("fastconformer_ctc.nemo", "finetune_fastconformer", "as_is"),
        ("quartznet_char.nemo", "finetune_citrinet", "lower"),
    ],
)
def test_a_model_and_data_are_enough(
    run: Run, loop: FakeLoop, toy: Path, command: str, model: str, recipe: str, style: str
) -> None:
    path = GOLDEN / "nemo" / model
    manifest = str(next((toy.parent / "tones").glob("*.jsonl")))
    words = (f"init_from={path}", manifest, "optimizer.lr=0.5", "train.steps=7")
    code, out, err = run(command, *words)
    assert code == 0, err
    name = f"{path.stem}-finetuned"
    assert out == f"runs/{name}\n"
    assert f"auricle: recipe {recipe} with " in err
    made = loop.recipe
    assert made is not None
    assert (made.name, made.init_from) == (name, str(path))
    assert [source.manifest for source in made.data.train] == [manifest]
    assert (made.data.validation, made.data.text) == ((), style)
    assert (made.optimizer.lr, made.train.steps) == (0.5, 7)
    held_out = f"data.validation.0.manifest={manifest}"
    assert run(command, *words, held_out)[0] == 0
    assert loop.recipe is not None and len(loop.recipe.data.validation) == 1


def test_a_whisper_gets_a_recipe_of_its_own(run: Run, loop: FakeLoop, toy: Path) -> None:
    whisper = write_tiny_whisper(toy.parent / "whisper")
    code, _, err = run("finetune", f"init_from={whisper}", "some.jsonl", "more.jsonl")
    assert code == 0, err
    assert "auricle: recipe finetune_whisper with data.validation=[]" in err
    made = loop.recipe
    assert made is not None and made.data.max_seconds == 30.0
    here = Path.cwd()
    assert [s.manifest for s in made.data.train] == [
        str(here / "some.jsonl"),
        str(here / "more.jsonl"),
    ]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["train", "digits"], "data.train.0.manifest"),
        (["train", "citrinet_256", "TONES"], "data.validation.0.manifest"),
        (["finetune", "finetune_citrinet"], "data.train.0.manifest"),
    ],
)
def test_data_that_only_the_recipe_names_is_said_to_be_its_default(
    run: Run, loop: FakeLoop, toy: Path, words: list[str], key: str
) -> None:
    manifest = str(next((toy.parent / "tones").glob("*.jsonl")))
    words = [manifest if word == "TONES" else word for word in words]
    code, out, err = run(*words)
    assert (code, out) == (2, "") and loop.recipe is None
    assert f"recipe {words[1]} names it by default; give yours by {key}=FILE.jsonl" in err


def test_check_tells_what_becomes_of_the_data(run: Run, loop: FakeLoop, toy: Path) -> None:
    code, out, err = run("train", toy, "--check")
    assert (code, err) == (0, "")
    assert out.startswith("TRAINING\nsource") and "8 of 8 items can be learnt from" in out
    Path("tones/003.wav").unlink()
    code, out, err = run("train", toy, "--check")
    assert (code, err) == (0, "")
    assert "missing files" in out and "7 of 8 items can be learnt from" in out
    code, out, err = run("train", toy, "data.invalid=refuse", "--check")
    assert code == 1 and "7 of 8 items" in out
    assert err.startswith("auricle: error: training: missing files: 1 (") and err.count("\n") == 1
    assert loop.recipe is None


def test_check_lists_the_rows_that_cannot_be_read(run: Run, loop: FakeLoop, toy: Path) -> None:
    manifest = next(Path("tones").glob("*.jsonl"))
    rows = manifest.read_text().splitlines()
    rows[2], rows[5] = "{no json", json.dumps({"text": "do"})
    manifest.write_text("\n".join(rows) + "\n")
    code, out, err = run("train", toy, "--check")
    assert code == 2 and err.startswith("auricle: error: ") and "line 3" in err
    assert [f"line {n}" in line for n, line in zip((3, 6), out.splitlines(), strict=True)]


def test_held_out_texts_are_written_as_those_to_learn_from(
    run: Run, loop: FakeLoop, toy: Path
) -> None:
    manifest = next(Path("tones").glob("*.jsonl"))
    loud = [
        {**row, "text": row["text"].upper()}
        for row in map(json.loads, manifest.read_text().splitlines())
    ]
    (manifest.parent / "loud.jsonl").write_text("".join(json.dumps(r) + "\n" for r in loud))
    words = ("train", toy, "data.validation.0.manifest=tones/loud.jsonl", "--check")
    code, _, err = run(*words)
    assert code == 2 and "is upper" in err and "set data.text" in err
    assert run(*words, "data.text=lower")[0] == 0


def test_help_needs_no_torch() -> None:
    program = (
        "import atexit\n"
        "atexit.register(lambda: print([m for m in ('torch', 'numpy', 'rich', 'matplotlib') "
        "if m in sys.modules], file=sys.stderr))"
    )
    process = start("train", "--help", program=program)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "--resume" in out and err == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux alone")
def test_a_name_in_bytes_that_are_no_text_is_shown_and_written(loop: FakeLoop, toy: Path) -> None:
    """In what --dry-run shows, and in a run folder; the process has a real stdout."""
    manifest = next(Path("tones").glob("*.jsonl"))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    name = os.fsdecode(b"tones/\xff.wav")
    Path("tones", rows[0]["audio_filepath"]).rename(name)
    rows[0]["audio_filepath"] = Path(name).name
    rows.append({**rows[1], "audio_filepath": "gone-\udcff.wav"})
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start("train", str(toy), "--dry-run", cwd=Path.cwd())
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "gone-\\udcff.wav" in out and err == ""
