"""What went wrong in NeMo AutoModel's speech recipes goes right here.

Its pull request 1671, as docs/finetuning.md lists it with the tests that would see it again; those
of the parts stand with the parts, and here are those of a whole run by one of its files.
"""

from __future__ import annotations

import json
import re
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from auricle.checkpoints import build, load
from auricle.checkpoints.whisper_model import build_whisper
from auricle.cli import main
from auricle.training import plots
from auricle.training.adapting import lora_targets
from auricle.training.reading import load_recipe
from auricle.training.recipe import DataRecipe, LoraRecipe, SourceRecipe
from auricle.training.sources import Source, open_sources
from tests.conftest import GOLDEN, ROOT
from tests.test_docs import blocks
from tests.training.test_automodel import theirs
from tests.training.test_recipe_pages import FINETUNING
from tests.training.tiny import metrics, state
from tests.training.tones import corpus

datasets = pytest.importorskip("datasets")
peft = pytest.importorskip("peft", reason="the extra 'finetune' is not installed")
transformers = pytest.importorskip("transformers")

BASE = GOLDEN / "huggingface" / "parakeet_ctc_hf"
TELEPHONE = 8000  # Hz; the model hears 16 000


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of this file's own, and no hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
        patch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield


def slow(path: Path) -> None:
    """Make of a recording one of half the rate."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(TELEPHONE)
        file.writeframes(samples[::2].tobytes())


def table(folder: Path, audio: str, text: str, count: int = 4, name: str = "") -> Path:
    """A data set in the hub's form, of `corpus`, with columns of these names."""
    if not (folder / "tones").exists():
        corpus(folder / "tones", count)
        for path in (folder / "tones").glob("*.wav"):
            slow(path)
    rows = [json.loads(line) for line in (folder / "tones" / "rows.jsonl").open()]
    made = datasets.Dataset.from_dict(
        {
            audio: [str(folder / "tones" / row["audio_filepath"]) for row in rows],
            text: [row["text"] for row in rows],
        }
    ).cast_column(audio, datasets.Audio(decode=False))
    path = folder / (name or f"{audio}-{text}")
    path.mkdir(parents=True)
    made.to_parquet(str(path / "train.parquet"))
    return path


@dataclass(frozen=True)
class Run:
    """A fine-tuning by AutoModel's file: its folder, and what was said."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """LoRA in bf16, on a stream of which one column is called otherwise; CUDA is out of reach."""
    folder = tmp_path_factory.mktemp("theirs")
    maker = "nemo_automodel.components.datasets.asr.datasets.make_custom_asr_dataset"
    source = {"_target_": maker, "path_or_dataset": str(table(folder, "audio", "transcription"))}
    source |= {"split": "train", "audio_column": "audio", "text_column": "transcription"}
    recipe = theirs("parakeet_ctc_0.6b_lora")
    recipe["recipe"] = "FinetuneRecipeForASR"
    recipe["model"]["pretrained_model_name_or_path"] = str(BASE)
    recipe["dataset"] = {**source, "streaming": True}
    recipe["validation_dataset"] = {**source, "streaming": False, "limit_dataset_samples": 3}
    recipe["dataloader"]["num_workers"] = 0
    recipe["step_scheduler"] |= {"global_batch_size": 4, "local_batch_size": 2, "max_steps": 2}
    path = folder / "theirs.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda *paths: [])
        patch.chdir(folder)
        if not torch.cuda.is_available():
            for name in _ASKS_CUDA:
                patch.setattr(torch.cuda, name, _refused(name))
        said: list[str] = []
        patch.setattr("auricle.cli.watching.Watch.said", lambda self, line: said.append(line))
        code = main(["finetune", "-c", str(path), "--step_scheduler.val_every_steps=2"])
        assert code == 0, said
        yield Run(folder / "runs" / "theirs", "\n".join(said))


_ASKS_CUDA = (
    "current_device",
    "set_device",
    "synchronize",
    "empty_cache",
    "memory_allocated",
    "max_memory_allocated",
    "reset_peak_memory_stats",
    "mem_get_info",
    "get_device_properties",
)


def _refused(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"torch.cuda.{name} on a machine without CUDA")

    return refuse


def test_a_stream_without_a_length_is_learnt_from(run: Run) -> None:
    """And is heard as it is, though the rate is another."""
    steps = metrics(run.folder, "train")
    assert [row["epoch"] for row in steps] == [1]
    assert metrics(run.folder, "validation")[-1]["step"] == 2
    assert "on the same 3 held-out clips" in run.said


def test_weights_that_are_asked_for_in_half_precision_are_kept_in_full(run: Run) -> None:
    """And AdamW's averages of them: small updates are lost otherwise."""
    saved = state(run.folder, 2)
    weights = [t for t in saved["weights"].values() if t.is_floating_point()]
    assert weights and {t.dtype for t in weights} == {torch.float32}
    moments = [t for s in saved["optimizer"]["state"].values() for t in s.values() if t.dim()]
    assert moments and {t.dtype for t in moments} == {torch.float32}
    assert load(run.folder).tensors["ctc.weight"].dtype == torch.float32


def test_peft_loads_the_adapter_of_a_training(run: Run) -> None:
    values = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert values["task_type"] is None
    assert values["lora_dropout"] == 0.05
    model = transformers.AutoModelForCTC.from_pretrained(BASE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = peft.PeftModel.from_pretrained(model, run.folder / "adapter")
    assert type(wrapped) is peft.PeftModel  # and not one that generates text
    assert wrapped.peft_config["default"].lora_dropout == 0.05
    theirs_ = wrapped.merge_and_unload().state_dict()
    changed = [name for name, value in theirs_.items() if not torch.equal(value, before[name])]
    layers = len(values["target_modules"])
    assert len(changed) == layers == 2 * 9  # attention, and both feed-forwards
    out = run.folder.parent / "hf"
    assert main(["convert", str(run.folder), str(out), "--to", "huggingface"]) == 0
    ours = transformers.AutoModelForCTC.from_pretrained(out).state_dict()
    for name, value in theirs_.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)


# Patterns.


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_the_whisper_recipes_reach_every_projection(tmp_path: Path, kind: str) -> None:
    """`*.o_proj` is no layer of Whisper's, which has `out_proj`."""
    path = "whisper_small_lora"
    if kind == "theirs":
        path = str(tmp_path / "theirs.yaml")
        Path(path).write_text(json.dumps(theirs("whisper_small_lora")))
    recipe = load_recipe(path)
    assert recipe.adapt is not None and recipe.adapt.lora is not None
    model = whisper()
    wanted = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and "_attn." in n]
    assert len(wanted) == 4 * 3
    assert lora_targets(model, recipe.adapt.lora) == tuple(wanted)


def test_feed_forward_of_whisper_can_be_adapted() -> None:
    found = lora_targets(whisper(), LoraRecipe(targets=("*.fc1", "*.fc2", "*.out_proj")))
    assert sum(name.endswith((".fc1", ".fc2")) for name in found) == 4
    assert sum(name.endswith(".out_proj") for name in found) == 3


def test_the_head_of_ctc_can_be_adapted() -> None:
    """A convolution in transformers, and a linear layer here."""
    assert lora_targets(build(load(BASE)), LoraRecipe(targets=("ctc_head",))) == ("ctc",)


def whisper() -> nn.Module:
    """One layer each, of random weights."""
    sizes = {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    small = {"model_type": "whisper", "d_model": 16, "vocab_size": 51865, **sizes, **heads}
    model: nn.Module = build_whisper(small)
    return model


# Data.


@pytest.mark.parametrize("columns", [("audio", "transcription"), ("sound", "text")])
@pytest.mark.parametrize("streaming", [False, True])
def test_one_column_alone_may_have_another_name(
    tmp_path: Path, columns: tuple[str, str], streaming: bool
) -> None:
    audio, text = columns
    source = opened(
        table(tmp_path, *columns), audio_column=audio, text_column=text, streaming=streaming
    )
    items = list(source.items())
    assert len(items) == 4 and all(item.text for item in items)
    heard = items[0].sound.read(16000)  # in the files are 8000 Hz
    assert len(heard) == pytest.approx(16000 * items[0].duration, abs=2)


def test_every_subset_can_be_reached(tmp_path: Path) -> None:
    """A repository of several, as LibriSpeech's: `test` of `other` is not that of `clean`."""
    home = tmp_path / "libri"
    page = ["---", "configs:"]
    for subset, count in (("clean", 4), ("other", 2)):
        folder = table(tmp_path, "audio", "text", name=f"libri/{subset}")
        whole = datasets.Dataset.from_parquet(str(folder / "train.parquet"))
        whole.select(range(count)).to_parquet(str(folder / "test.parquet"))
        (folder / "train.parquet").unlink()
        files = f"data_files: [{{split: test, path: {subset}/test.parquet}}]"
        page.append(f"- {{config_name: {subset}, {files}}}")
    (home / "README.md").write_text("\n".join([*page, "---", ""]))
    sizes = [opened(home, subset=s, split="test").size for s in ("clean", "other")]
    assert sizes == [4, 2]


def opened(path: Path, **source: Any) -> Source:
    (found,) = open_sources([SourceRecipe(dataset=str(path), **source)], DataRecipe(workers=0))
    return found


# What the page says to type.


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first recipe and the commands above it, on a tiny model in place of the large one."""
    monkeypatch.setattr(plots, "draw", lambda *paths: [])
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in corpus(tmp_path / "tones", 4).open()]
    for name in ("train", "dev"):
        lines = [{**row, "audio_filepath": f"tones/{row['audio_filepath']}"} for row in rows]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    commands = blocks(FINETUNING, "console")[0].splitlines()
    example = blocks(FINETUNING, "yaml")[0]
    model = yaml.safe_load(example)["init_from"]
    assert model in example and any(model in command for command in commands)
    Path("mine.yaml").write_text(example.replace(model, str(BASE)))
    short = ["train.steps=1", "train.validate_every=1", "data.workers=0", "log.trackers=[]"]
    for command in commands:
        words = command.replace(model, str(BASE)).replace("RECORDING", "tones/000.wav").split()
        assert words[:2] == ["$", "auricle"]
        more = short if words[2] == "finetune" else []
        assert main([*words[2:], *more]) == 0, command
    assert "| before | " in Path("runs/mine/report.md").read_text()


def test_the_tests_that_the_page_names_are_there() -> None:
    rows = [
        row
        for row in FINETUNING.read_text(encoding="utf-8").splitlines()
        if "test_automodel_" in row or "`test_whisper.py`" in row
    ]
    assert len(rows) == 8
    for row in rows:
        for file in re.findall(r"`([\w/]+\.py)`", row):
            path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / "training" / file
            assert path.exists(), file
        found = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"`(test_\w+)`", row):
            assert f"def {name}(" in found, name
