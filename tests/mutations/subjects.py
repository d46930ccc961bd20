"""What is damaged, kind by kind, and what is then done with it.

A kind is a function of a random generator and an empty folder: it leaves a damaged input in the
folder, and gives back what it did and a function that uses the input as people would.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

import auricle
from auricle import audio, checkpoints, manifests
from auricle.checkpoints.nemo_archive import CONFIG, WEIGHTS, open_archive
from tests.checkpoints.archives import members_of, pickled, tar_of
from tests.conftest import GOLDEN
from tests.mutations.damage import (
    damaged_bytes,
    damaged_json,
    damaged_tar,
    damaged_tensors,
    damaged_text,
    damaged_values,
    damaged_zip,
)

Use = Callable[[], object]
Subject = Callable[[random.Random, Path], tuple[str, Use]]

RATE = 16000
CLIP = np.random.default_rng(7).normal(0, 0.1, RATE // 2).astype("float32")
SPEECH = GOLDEN / "wav" / "syllable.wav"


class CommandFault(Exception):
    """A command ended otherwise than by a result or a line that says what is wrong."""


def heard(path: Path, *, streamed: bool = False) -> object:
    """Load a model and let it hear a clip, whole or while it is spoken."""
    asr = auricle.load(path, local_only=True)
    prompt = {"language": asr.languages[0]} if asr.languages else {}
    if not streamed:
        return asr.transcribe(CLIP, sample_rate=RATE, **prompt)
    stream = asr.stream(**prompt)
    stream.push(CLIP)
    return stream.finish()


def command(*words: str | Path) -> str:
    """Run one command in this process; what it printed.

    Raises:
        CommandFault: Its exit code is none of those for results and mistakes, or it printed more
            than a line of 2 kB.
    """
    from auricle.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    said = err.getvalue()
    if code not in (0, 1, 2) or "please report" in said:
        raise CommandFault(f"exit {code}: {said[-300:]}")
    if long := [line for line in said.splitlines() if len(line.encode(errors="replace")) > 2100]:
        raise CommandFault(f"a line of {len(long[0])} characters: {long[0][:200]}")
    return f"exit {code}"


def nemo(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """A `.nemo`: its configuration, its tensors, its tokenizer, or the archive."""
    source = rng.choice(_nemo_files())
    members = dict(_members(source))
    path = folder / "m.nemo"
    content: bytes | None = None
    parts = {"config": 8, "tensors": 5, "tar": 3, "zip": 2, "artefact": 2, "bytes": 1}
    match rng.choices(list(parts), list(parts.values()))[0]:
        case "config":
            values, what = damaged_values(yaml.safe_load(members[CONFIG]), rng)
            members[CONFIG] = yaml.safe_dump(values, sort_keys=False).encode()
        case "tensors":
            state, what = damaged_tensors(_state(source), rng, pickled=True)
            members[WEIGHTS] = pickled(state, legacy=rng.random() < 0.2)
        case "tar":
            content, what = damaged_tar(members, rng)
        case "zip":
            members[WEIGHTS], what = damaged_zip(members[WEIGHTS], rng)
        case "artefact":
            name = rng.choice(sorted(set(members) - {WEIGHTS}))
            members[name], what = damaged_bytes(members[name], rng)
            what = f"{name}: {what}"
        case _:
            content, what = damaged_bytes(tar_of(members), rng)
    if content is None and rng.random() < 0.15:
        path = folder / "unpacked"
        path.mkdir()
        for name, data in members.items():
            (path / name).write_bytes(data)
    else:
        path.write_bytes(tar_of(members) if content is None else content)
    return f"{source.stem}: {what}", _loaded_somehow(path, folder, rng)


def huggingface(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """A folder of transformers': JSON files, safetensors or a pickle, shards and their map."""
    source = rng.choice(_huggingface_folders())
    path = folder / "m"
    shutil.copytree(source, path)
    return f"{source.name}: {_spoil_folder(path, rng)}", _loaded_somehow(path, folder, rng)


def native(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """Auricle's own folder."""
    source = rng.choice(_nemo_files())
    path = folder / "m"
    shutil.copytree(_native(source), path)
    return f"{source.stem}: {_spoil_folder(path, rng)}", _loaded_somehow(path, folder, rng)


def whisper(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """A Whisper in either form; what reads it is our conversion, before any other library."""
    from auricle.checkpoints import whisper as conversion

    form = rng.choice(["huggingface", "ctranslate2"])
    path = folder / "m"
    shutil.copytree(_whisper(form), path)
    what = f"{form}: {_spoil_folder(path, rng)}"

    def convert() -> object:
        if conversion.folder_kind(path) == "huggingface":
            conversion.to_ctranslate2(path, folder / "c")
        elif conversion.folder_kind(path) == "ctranslate2":
            conversion.to_huggingface(path, folder / "h")
        else:
            return checkpoints.load(path)
        return None

    return what, convert


def adapter(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """An adapter's two files."""
    path = folder / "a"
    shutil.copytree(_adapter(), path)
    what = _spoil_folder(path, rng)
    return what, lambda: _base().with_adapter(path).transcribe(CLIP, sample_rate=RATE)


def state(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """What a training saved at a step."""
    from auricle.training.saving import newest_state, read_state, write_state

    tensors = {"w": torch.ones(3, 4), "b": torch.zeros(3)}
    moments = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3, 4)}}}
    facts = {"epoch": 1, "items": [1, 2]}
    made = write_state(
        folder, 7, {"weights": tensors, "optimizer": moments, "ema": tensors, "facts": facts}
    )
    if rng.random() < 0.3:
        content, what = damaged_zip((made / "optimizer.pt").read_bytes(), rng)
        (made / "optimizer.pt").write_bytes(content)
    else:
        what = _spoil_folder(made, rng)
    if rng.random() < 0.3:
        return what, lambda: newest_state(folder)
    return what, lambda: read_state(made)


def media(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """An audio file of some format."""
    name = rng.choice(sorted(_media()))
    content, what = damaged_bytes(_media()[name], rng)
    path = folder / name
    path.write_bytes(content)
    if rng.random() < 0.2:
        return f"{name}: {what}", lambda: command("transcribe", "-m", _base_path(), path, "-q")

    def read() -> object:
        with contextlib.suppress(auricle.AudioError):
            audio.probe(path)
        offset = rng.choice([{}, {"start": 0.5, "seconds": 0.2}, {"start": 0.1}])
        return audio.read(path, sample_rate=RATE, **offset)

    return f"{name}: {what}", read


def array(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """Samples in memory that no converter gives."""
    made: dict[str, Any] = {
        "objects": np.array([None, "x", 3], dtype=object),
        "complex": CLIP.astype("complex64"),
        "text": np.array(["a", "b"]),
        "NaN": np.where(np.arange(len(CLIP)) == 9, np.nan, CLIP),
        "infinite": np.where(np.arange(len(CLIP)) == 9, np.inf, CLIP),
        "empty": CLIP[:0],
        "one sample": CLIP[:1],
        "scalar": np.float32(1.0),
        "cube": CLIP[:8].reshape(2, 2, 2),
        "no channel": np.zeros((0, 100), "float32"),
        "int64": (CLIP * 2**40).astype("int64"),
        "uint8": (CLIP * 100 + 128).clip(0, 255).astype("uint8"),
        "bool": CLIP > 0,
        "dates": np.array(["2020-01-01"], dtype="datetime64[s]"),
        "float16": CLIP.astype("float16"),
        "swapped": CLIP.astype(">f4"),
        "huge": CLIP * 1e30,
        "double huge": CLIP.astype("float64") * 1e300,
        "records": np.zeros(5, dtype=[("a", "f4")]),
        "list": [0.1, 0.2],
        "tuple": (0.1, 0.2),
        "number": 3,
        "nothing": None,
        "mapping": {"array": CLIP, "sampling_rate": RATE},
        "bytes": b"no audio at all",
        "text file": io.StringIO("x"),
    }
    name = rng.choice(sorted(made))
    rate = rng.choice([RATE, 8000, 0, -1, 1, 10**9, 44100.5, None, "x", float("nan")])
    if rng.random() < 0.5:
        rate = RATE
    return f"{name} at {rate!r}", lambda: _base().transcribe(made[name], sample_rate=rate)


def manifest(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """Rows of a manifest, one of them wrong."""
    rows = [
        {"audio_filepath": str(SPEECH), "duration": 0.8, "text": "one", "speaker": "a"},
        {
            "audio_filepath": str(SPEECH),
            "duration": 0.4,
            "offset": 0.2,
            "text": "two",
            "lang": "en",
        },
        {"audio_filepath": "syllable.wav", "duration": 0.8, "text": "three", "label": [1, 2]},
    ]
    shutil.copy(SPEECH, folder / "syllable.wav")
    at = rng.randrange(len(rows))
    if rng.random() < 0.7:
        rows[at], what = damaged_values(rows[at], rng)
        text = "".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in rows)
        content = text.encode(errors="surrogatepass")
    else:
        content, what = damaged_text("".join(json.dumps(row) + "\n" for row in rows), rng)
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    match rng.randrange(5):
        case 0:
            return what, lambda: list(manifests.read(path))
        case 1:
            return what, lambda: _base().transcribe(path, on_error="return")
        case 2:
            out = folder / "out.jsonl"
            return what, lambda: command("transcribe", "-m", _base_path(), path, "-q", "-o", out)
        case 3:
            data = ["data.train.0.manifest=" + str(path), "data.validation.0.manifest=" + str(path)]
            return what, lambda: command(
                "train", "fastconformer_ctc_large_tiny", "--check", *data, "data.workers=0"
            )
        case _:
            read = f"read.manifest.path={path}"
            return what, lambda: command("curate", "clean", "--dry-run", read, "-o", folder / "job")


def recipe(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """A packaged recipe."""
    return _spoiled_yaml("recipes", rng, folder, lambda path: command("train", path, "--show"))


def pipeline(rng: random.Random, folder: Path) -> tuple[str, Use]:
    """A packaged pipeline."""
    rows = folder / "rows.jsonl"
    rows.write_text(
        json.dumps({"audio_filepath": str(SPEECH), "duration": 0.8, "text": "a"}) + "\n"
    )
    return _spoiled_yaml(
        "pipelines",
        rng,
        folder,
        lambda path: command("curate", path, "--dry-run", "-o", folder / "j"),
    )


SUBJECTS: Mapping[str, tuple[Subject, int]] = {  # with how often each comes
    "nemo": (nemo, 30),
    "huggingface": (huggingface, 18),
    "native": (native, 12),
    "whisper": (whisper, 8),
    "adapter": (adapter, 6),
    "state": (state, 3),
    "media": (media, 8),
    "array": (array, 3),
    "manifest": (manifest, 6),
    "recipe": (recipe, 4),
    "pipeline": (pipeline, 3),
}


def _loaded_somehow(path: Path, folder: Path, rng: random.Random) -> Use:
    """Mostly heard, sometimes streamed or converted by a command."""
    way = rng.random()
    if way < 0.9:
        return lambda: heard(path, streamed=way > 0.7)
    target = folder / rng.choice(["out.nemo", "out"])
    return lambda: command("convert", path, target)


def _spoil_folder(path: Path, rng: random.Random) -> str:
    """Damage one file of a checkpoint's folder, or what kind of file it is."""
    files = sorted(file.name for file in path.iterdir())
    name = rng.choice(files)
    if rng.random() < 0.4 and "config.json" in files:
        name = "config.json"
    file = path / name
    special = rng.random()
    if special < 0.03:
        file.unlink()
        return f"{name} left out"
    if special < 0.06:
        file.unlink()
        file.mkdir()
        return f"{name} is a folder"
    if special < 0.09:
        file.unlink()
        os.mkfifo(file)
        return f"{name} is a pipe"
    if name.endswith(".safetensors") and rng.random() < 0.8:
        return _spoil_tensors(file, rng)
    if name.endswith(".json"):
        content, what = damaged_json(file.read_text(encoding="utf-8"), rng)
    else:
        content, what = damaged_bytes(file.read_bytes(), rng)
    file.write_bytes(content)
    return f"{name}: {what}"


def _spoil_tensors(file: Path, rng: random.Random) -> str:
    """Damage a file of safetensors, or the pickle or the map of shards that is put in its place."""
    tensors = load_file(file)
    way = rng.random() if file.name == "model.safetensors" else 1.0
    if way < 0.3:
        file.unlink()
        state, what = damaged_tensors(tensors, rng, pickled=True)
        content = pickled(state)
        if rng.random() < 0.5:
            content, what = damaged_zip(pickled(tensors), rng)
        file.with_name("pytorch_model.bin").write_bytes(content)
        return f"pytorch_model.bin: {what}"
    if way < 0.5:
        shard = "model-00001-of-00001.safetensors"
        file.rename(file.with_name(shard))
        places = {"weight_map": dict.fromkeys(tensors, shard)}
        content, what = damaged_json(json.dumps(places), rng)
        file.with_name("model.safetensors.index.json").write_bytes(content)
        return f"index: {what}"
    tensors, what = damaged_tensors(tensors, rng, pickled=False)
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return f"{file.name}: {what}"


def _spoiled_yaml(
    kind: str, rng: random.Random, folder: Path, use: Callable[[Path], object]
) -> tuple[str, Use]:
    files = sorted(resources.files("auricle").joinpath(kind).iterdir(), key=lambda f: f.name)
    source = rng.choice([file for file in files if file.name.endswith(".yaml")])
    text = source.read_text(encoding="utf-8")
    if rng.random() < 0.7:
        values, what = damaged_values(yaml.safe_load(text), rng)
        content = yaml.safe_dump(values, sort_keys=False).encode()
    else:
        content, what = damaged_text(text, rng)
    path = folder / source.name
    path.write_bytes(content)
    return f"{source.name}: {what}", lambda: use(path)


@functools.cache
def _nemo_files() -> list[Path]:
    return sorted((GOLDEN / "nemo").glob("*.nemo"))


@functools.cache
def _huggingface_folders() -> list[Path]:
    return sorted(path for path in (GOLDEN / "huggingface").iterdir() if path.is_dir())


@functools.cache
def _members(path: Path) -> Mapping[str, bytes]:
    return members_of(path)


@functools.cache
def _state(path: Path) -> Mapping[str, torch.Tensor]:
    with open_archive(path) as archive:
        return {key: value.clone() for key, value in archive.weights().items()}


@functools.cache
def _room() -> Path:
    """Where valid inputs are made, once a process."""
    folder = Path(tempfile.mkdtemp(prefix="auricle-mutations-"))
    os.environ["AURICLE_CACHE"] = str(folder / "cache")
    return folder


@functools.cache
def _native(source: Path) -> Path:
    path = _room() / "native" / source.stem
    checkpoints.save(checkpoints.load(source), path)
    return path


@functools.cache
def _whisper(form: str) -> Path:
    from auricle.checkpoints import whisper as conversion
    from tests.tiny_whisper import write_tiny_whisper

    path = _room() / f"whisper-{form}"
    if form == "huggingface":
        return write_tiny_whisper(path)
    conversion.to_ctranslate2(_whisper("huggingface"), path)
    return path


def _base_path() -> Path:
    return GOLDEN / "nemo" / "conformer_ctc.nemo"


@functools.cache
def _base() -> Any:
    return auricle.load(_base_path())


@functools.cache
def _adapter() -> Path:
    from auricle.checkpoints.adapters import save_adapter
    from tests.checkpoints.random_adapters import random_adapter

    checkpoint = checkpoints.load(_base_path())
    path = _room() / "adapter"
    save_adapter(random_adapter(checkpoint, dora=True), path, checkpoint.config)
    return path


FORMATS = {  # file name to codec
    "a.wav": "pcm_s16le",
    "f.wav": "pcm_f32le",
    "a.flac": "flac",
    "a.ogg": "libopus",
    "v.ogg": "libvorbis",
    "a.mp3": "libmp3lame",
    "a.m4a": "aac",
    "a.webm": "libopus",
    "a.aac": "aac",
    "a.mkv": "pcm_s16le",
    "a.aiff": "pcm_s16be",
    "a.ts": "aac",
}


@functools.cache
def _media() -> Mapping[str, bytes]:
    """A second of tones in every format that this PyAV writes."""
    made = {}
    for name, codec in FORMATS.items():
        with contextlib.suppress(av.FFmpegError, ValueError):
            made[name] = _encoded(name, codec)
    return made


def _encoded(name: str, codec: str) -> bytes:
    path = _room() / name
    times = np.arange(48000) / 48000
    tone = (np.sin(2 * np.pi * 300 * times) * 12000).astype("int16")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 48000
        resampler = av.AudioResampler(stream.format, "mono", 48000, stream.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path.read_bytes()
