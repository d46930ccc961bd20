"""Models to train under the names that Hugging Face and NeMo AutoModel give them.

What comes out are networks in training mode with memory of their own: our `ASR` with the one head
that the class names, or transformers' Whisper. Nothing is trained here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from auricle import checkpoints
from auricle.checkpoints import Checkpoint, build
from auricle.checkpoints.huggingface_config import translate_config
from auricle.checkpoints.sections import Section
from auricle.checkpoints.whisper import folder_kind
from auricle.checkpoints.whisper_model import build_whisper, load_whisper
from auricle.config import shown
from auricle.errors import CheckpointError, ConfigError
from auricle.models.asr import ASR, ModelConfig
from auricle.recognizer import locate
from auricle.training.adapting import own_memory

_CLASSES = {
    "ctc": "AutoModelForCTC",
    "rnnt": "AutoModelForRNNT",
    "tdt": "AutoModelForTDT",
    "whisper": "AutoModelForSpeechSeq2Seq",
}
_HEADS = {"ctc": ("ctc.",), "transducer": ("predictor.", "joint.")}  # where their tensors are

Config = ModelConfig | Mapping[str, Any] | str | Path
DType = torch.dtype | str | None


class _OneHead:
    """Makes an `ASR` with one head."""

    head: ClassVar[str]

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        dtype: DType = None,
        torch_dtype: DType = None,
    ) -> ASR:
        """The networks of a model by its hub name, folder or `.nemo` file; of a hybrid one head.

        Args:
            name: Which model.
            revision: Of the hub's repository.
            dtype: What the weights are kept in, `torch.bfloat16` or its name; None and "auto" keep
                them as they are stored. The features stay in float32.
            torch_dtype: The older name of `dtype`.

        Raises:
            ModelNotFound, CheckpointError: As for `auricle.load`.
            ConfigError: The model has no such head, or there is no such floating-point type.
        """
        kept = _dtype(dtype, torch_dtype)
        path = locate(str(name), revision=revision)
        if folder_kind(path) is not None:
            raise _other(str(name), cls.head, ("whisper",))
        checkpoint = checkpoints.load(path)
        model = build(_with_head(checkpoint, cls.head))
        own_memory(model)
        return model.to(kept).train() if kept else model.train()

    @classmethod
    def from_config(cls, config: Config) -> ASR:
        """Networks with random numbers.

        Args:
            config: Ours, or transformers' `config.json` as a mapping, a file or its folder.

        Raises:
            CheckpointError: Of a family that is not run, or a key that has no place.
            ConfigError: The model has no such head.
        """
        if not isinstance(config, ModelConfig):
            values, where = _values(config)
            if values.get("model_type") == "whisper":
                raise _other(where, cls.head, ("whisper",))
            config = translate_config(Section(values, "", where), {}).config
        return ASR(_config_with(config, cls.head, "the configuration")).train()


class AutoModelForCTC(_OneHead):
    """Models with a CTC head: Parakeet CTC, Citrinet, QuartzNet, hybrids ..."""

    head = "ctc"


class AutoModelForRNNT(_OneHead):
    """Transducers: Parakeet RNNT, Nemotron, hybrids ..."""

    head = "rnnt"


class AutoModelForTDT(_OneHead):
    """Token-and-duration transducers: Parakeet TDT, hybrids ..."""

    head = "tdt"


class AutoModelForSpeechSeq2Seq:
    """Whisper, as transformers' WhisperForConditionalGeneration, in float32 if nothing is said."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        dtype: DType = None,
        torch_dtype: DType = None,
    ) -> Any:
        """The networks of a Whisper in Hugging Face's or CTranslate2's form, by name or folder.

        Arguments are those of `AutoModelForCTC.from_pretrained`.

        Raises:
            ModelNotFound, CheckpointError: As for `auricle.load`.
            ConfigError: The model is no Whisper.
            MissingExtra: transformers is not installed.
        """
        kept = _dtype(dtype, torch_dtype)
        path = locate(str(name), revision=revision)
        if folder_kind(path) is None:
            raise _other(str(name), "whisper", checkpoints.load(path).config.heads)
        start = load_whisper(path, name=str(name))
        model = build_whisper(start.config, start.tensors)
        return model.to(kept) if kept else model

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | Path) -> Any:
        """Networks with random numbers, by transformers' `config.json` in any form.

        Raises:
            ConfigError: It is no Whisper's.
            MissingExtra: transformers is not installed.
        """
        values, where = _values(config)
        if values.get("model_type") != "whisper":
            raise ConfigError(
                f"{where} is of the type {values.get('model_type')!r}: "
                "AutoModelForSpeechSeq2Seq makes Whisper models only"
            )
        return build_whisper(values)


def _dtype(*asked: DType) -> torch.dtype | None:
    """The type that one of two keywords names; None where neither does, or "auto"."""
    named = [value for value in asked if value is not None]
    if len(named) > 1:
        raise ConfigError("dtype and torch_dtype are one option: give one of them")
    if not named or named[0] == "auto":
        return None
    found: Any = named[0]
    if isinstance(found, str):
        found = getattr(torch, found.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(
            f"dtype is {shown(named[0])}; it must be float32, bfloat16, float16, float64 or auto"
        )
    return found


def _with_head(checkpoint: Checkpoint, head: str) -> Checkpoint:
    """The checkpoint with that head and without others."""
    config = _config_with(checkpoint.config, head, checkpoint.name)
    left_out = _HEADS["transducer" if head == "ctc" else "ctc"]
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith(left_out)}
    return replace(checkpoint, config=config, tensors=tensors)


def _config_with(config: ModelConfig, head: str, name: str) -> ModelConfig:
    if head not in config.heads:
        raise _other(name, head, config.heads)
    if head == "ctc":
        return replace(config, transducer=None, default_head=head)
    return replace(config, ctc=False, default_head=head)


def _other(name: str, head: str, heads: tuple[str, ...]) -> ConfigError:
    """The error that names the class to take."""
    classes = " or ".join(_CLASSES[h] for h in heads)
    return ConfigError(f"{name} has no {head} head: take {classes}")


def _values(config: Mapping[str, Any] | str | Path) -> tuple[dict[str, Any], str]:
    """A configuration of transformers, and where it stands."""
    if isinstance(config, str | Path):
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))), str(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is no readable config.json: {error}") from None
    plain = config if isinstance(config, Mapping) else config.to_dict()
    return dict(plain), "the configuration"
