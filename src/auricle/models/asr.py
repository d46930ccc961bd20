"""A whole recogniser: features, encoder, heads; and the faster form of it for inference."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from auricle.config import Size, Within, made, settle, shown
from auricle.errors import ConfigError
from auricle.features import LogMel, LogMelConfig
from auricle.models import optimising
from auricle.models.conformer import ConformerConfig, ConformerEncoder
from auricle.models.heads import CTCHead, Joint, JointConfig, PredictorConfig, build_predictor
from auricle.models.jasper import JasperConfig, JasperEncoder

# Tokens at one step where a model sets no bound: one that never emits a blank must not hang.
MOST_SYMBOLS = 100


@dataclass(frozen=True)
class TransducerConfig:
    """An RNN transducer; a TDT when there are `durations`, which are counted in encoder steps.

    `max_symbols` bounds the tokens at one step, None for no bound but `MOST_SYMBOLS`.
    """

    predictor: PredictorConfig
    joint: JointConfig
    durations: tuple[Annotated[int, Within(0, 1000)], ...] = ()
    max_symbols: Annotated[int, Within(1, 10_000)] | None = 10

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class PromptConfig:
    """A language prompt: `languages` gives each tag the number that is shown to the model."""

    num_prompts: Size = 128
    languages: Mapping[str, int] = field(default_factory=dict)
    default_language: str = "auto"

    def __post_init__(self) -> None:
        settle(self)
        for language, number in self.languages.items():
            if not 0 <= number < self.num_prompts:
                raise ConfigError(
                    f"language {shown(language)} has the prompt {number}, and there are "
                    f"{self.num_prompts} of them from 0 on"
                )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to build the networks; `vocab_size` does not count the blank."""

    features: LogMelConfig
    encoder: ConformerConfig | JasperConfig
    vocab_size: Annotated[int, Within(1, 2**22)]
    ctc: bool
    transducer: TransducerConfig | None
    prompt: PromptConfig | None = None
    default_head: str = "ctc"

    def __post_init__(self) -> None:
        settle(self)
        if self.default_head not in self.heads:
            raise ConfigError(
                f"default_head {shown(self.default_head)} is not one of the model's heads: "
                f"{', '.join(self.heads) or 'it has none'}"
            )
        for name, (found, wanted) in self._sizes().items():
            if found != wanted:
                raise ConfigError(f"{name} is {found} and the networks beside it need {wanted}")

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """What has to be equal for one network to take what another gives."""
        encoder, features = self.encoder, self.features
        spliced = encoder.frame_splicing if isinstance(encoder, JasperConfig) else 1
        sizes = {
            "features.n_mels": (
                features.n_mels * features.frame_splicing,
                encoder.feat_in * spliced,
            )
        }
        if self.transducer is not None:
            predictor, joint = self.transducer.predictor, self.transducer.joint
            outputs = self.vocab_size + 1 + len(self.transducer.durations)
            sizes["joint.encoder_dim"] = joint.encoder_dim, encoder.d_out
            sizes["joint.predictor_dim"] = joint.predictor_dim, predictor.hidden
            sizes["joint.n_outputs"] = joint.n_outputs, outputs
            sizes["predictor.vocab_size"] = predictor.vocab_size, self.vocab_size
        return sizes

    @property
    def heads(self) -> tuple[str, ...]:
        """The ways this model can decode: a subset of ctc, rnnt and tdt."""
        transducer: tuple[str, ...] = ()
        if self.transducer is not None:
            transducer = ("tdt",) if self.transducer.durations else ("rnnt",)
        return (("ctc",) if self.ctc else ()) + transducer

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        data: dict[str, Any] = _plain(asdict(self))
        kind = "conformer" if isinstance(self.encoder, ConformerConfig) else "jasper"
        return {**data, "encoder": {"kind": kind, **data["encoder"]}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: A key is unknown or missing, or a value does not fit.
        """
        if isinstance(data, Mapping) and "encoder" in data:
            data = {**data, "encoder": _encoder(data["encoder"])}
        config: Self = made(cls, data)
        return config


class ASR(nn.Module):
    """Features, an encoder and the heads that a configuration asks for."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.features = LogMel(config.features)
        self.encoder: ConformerEncoder | JasperEncoder = (
            ConformerEncoder(config.encoder)
            if isinstance(config.encoder, ConformerConfig)
            else JasperEncoder(config.encoder)
        )
        width = self.encoder.d_out
        self.ctc = CTCHead(width, config.vocab_size + 1) if config.ctc else None
        transducer = config.transducer
        self.predictor = build_predictor(transducer.predictor) if transducer else None
        self.joint = Joint(transducer.joint) if transducer else None
        self.prompt_kernel = _prompt_kernel(config.prompt, width) if config.prompt else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The ways this model can decode: a subset of ctc, rnnt and tdt."""
        return self.config.heads

    @property
    def blank_id(self) -> int:
        """The number of the blank: that of the last token, plus one."""
        return self.config.vocab_size

    @property
    def seconds_per_step(self) -> float:
        """From the start of one encoding to the start of the next."""
        features = self.config.features
        return features.hop_length * self.encoder.factor / features.sample_rate

    def encode(
        self,
        samples: Tensor,
        lengths: Tensor,
        *,
        prompt: Tensor | None = None,
        context: tuple[int, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode recordings.

        Args:
            samples: [B, S] at the model's sample rate, padded with anything.
            lengths: Samples in each row [B].
            prompt: The number of each row's language [B], for models with a prompt.
            context: What attention may see; None is the model's default.

        Returns:
            Encodings [B, T, D] and lengths [B].

        Raises:
            ConfigError: A prompt is missing or not wanted, or `context` does not fit.
        """
        ragged = not self.training and bool((lengths < lengths.max()).any())
        if ragged and self.encoder.hears_padding:
            return self._encode_each(samples, lengths, prompt, context)
        features, frames = self.features(samples, lengths)
        return self.encode_features(features, frames, prompt=prompt, context=context)

    def encode_features(
        self,
        features: Tensor,
        frames: Tensor,
        *,
        prompt: Tensor | None = None,
        context: tuple[int, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`encode` from features [B, M, T] and their lengths [B] on, as training batches have them.

        Rows of an encoder that hears padding are not parted here.
        """
        dtype = next(self.encoder.parameters()).dtype
        encodings, steps = self.encoder(features.to(dtype), frames, context=context)
        return self.prompted(encodings, prompt), steps

    def _encode_each(
        self,
        samples: Tensor,
        lengths: Tensor,
        prompt: Tensor | None,
        context: tuple[int, ...] | None,
    ) -> tuple[Tensor, Tensor]:
        """Encode row by row, so that no row depends on its neighbours' lengths."""
        rows, steps = [], []
        for i, length in enumerate(lengths.tolist()):
            own = None if prompt is None else prompt[i : i + 1]
            alone = samples[i : i + 1, :length], lengths[i : i + 1]
            row, step = self.encode(*alone, prompt=own, context=context)
            rows.append(row[0])
            steps.append(step)
        return pad_sequence(rows, batch_first=True), torch.cat(steps)  # [B, T, D], [B]

    def prompted(self, encodings: Tensor, prompt: Tensor | None) -> Tensor:
        """Tell every encoding [B, T, D] its row's prompt [B]; the identity without a prompt."""
        if self.config.prompt is None or self.prompt_kernel is None:
            if prompt is not None:
                raise ConfigError("this model takes no prompt")
            return encodings
        if prompt is None:
            raise ConfigError("this model needs a prompt: the number of a language for each row")
        shown = F.one_hot(prompt, self.config.prompt.num_prompts).to(encodings.dtype)
        shown = shown.unsqueeze(1).expand(-1, encodings.shape[1], -1)  # [B, T, prompts]
        out: Tensor = self.prompt_kernel(torch.cat([encodings, shown], dim=-1))
        return out


def _prompt_kernel(config: PromptConfig, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width + config.num_prompts, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
    )


def optimise(model: ASR) -> ASR:
    """The same model in a form that is faster, for inference where it now is.

    Move the model to its device and precision first. The copy shares the weights that it does not
    derive others from, or on the CPU none; it has no state to save, and must not be moved.

    Raises:
        ConfigError: The model is in training, and so needs gradients that this form has not.
    """
    if model.training:
        raise ConfigError("a model in training cannot be optimised: call eval() first")
    shared: dict[int, Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        shared[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False)
    faster = copy.deepcopy(model, shared)
    optimising.fuse(faster)
    optimising.pack(faster)
    faster.register_state_dict_pre_hook(_refuse_to_save)  # type: ignore[no-untyped-call]
    return faster


def _refuse_to_save(model: nn.Module, prefix: str, keep_vars: bool) -> None:
    raise ConfigError("an optimised model has nothing to save: save the one it was made from")


def _encoder(data: Any) -> ConformerConfig | JasperConfig:
    kinds = {"conformer": ConformerConfig, "jasper": JasperConfig}
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"encoder.kind {shown(kind)} is neither conformer nor jasper")
    rest = {key: value for key, value in data.items() if key != "kind"}
    encoder: ConformerConfig | JasperConfig = made(kinds[kind], rest, "encoder")
    return encoder


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
