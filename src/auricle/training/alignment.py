"""Whether a text fits its sound: the steps of an encoder against the tokens that CTC must place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auricle.decoding.align import needed_steps
from auricle.models.asr import ModelConfig, PromptConfig
from auricle.models.conformer import ConformerConfig
from auricle.models.jasper import JasperConfig
from auricle.training.items import Item


@dataclass(frozen=True)
class ModelFacts:
    """What the check must know of a model: its heads, and the steps that seconds of sound make.

    Where it has a `prompt`, each text must say a language that this knows.
    """

    heads: tuple[str, ...]
    steps: Callable[[float], int]
    prompt: PromptConfig | None = None

    @classmethod
    def of(cls, config: ModelConfig) -> ModelFacts:
        """Those of a model."""
        return cls(config.heads, lambda seconds: steps_of(config, seconds), config.prompt)

    @property
    def needs_alignment(self) -> bool:
        """Whether nothing is learnt from a text that CTC cannot align."""
        return set(self.heads) == {"ctc"}


def steps_of(config: ModelConfig, seconds: float) -> int:
    """The length of the encoder's output for so many seconds of sound."""
    features, encoder = config.features, config.encoder
    frames = round(seconds * features.sample_rate) // features.hop_length
    frames = max(0, frames - features.exact_pad)
    if isinstance(encoder, JasperConfig):
        for block in encoder.blocks:
            for _ in range(1 if block.stride_last else block.repeat):
                frames = -(-frames // block.stride)
        return frames
    steps = _subsampled(encoder, frames)
    if encoder.reduces:
        pooled = encoder.reduction == "pooling"
        steps = (
            steps // encoder.reduction_factor if pooled else -(-steps // encoder.reduction_factor)
        )
    return steps


def _subsampled(encoder: ConformerConfig, frames: int) -> int:
    factor = max(1, encoder.subsampling_factor)
    if not encoder.causal_downsampling or not encoder.subsampling.endswith("striding"):
        return -(-frames // factor)
    for _ in range(factor.bit_length() - 1):
        frames = frames // 2 + 1
    return frames


def drop_reason(
    item: Item, tokens: Sequence[int], steps: int, heads: Sequence[str] = ("ctc",)
) -> str | None:
    """Why nothing can be learnt from an item whose encoding has `steps`; None where it can.

    Transducers emit several tokens at a step, so only CTC alone cannot learn from a long text.
    """
    if steps < 1:
        return f"{item.name}: {item.duration:.2f} s of sound make no step of the encoder"
    needed = needed_steps(tokens)
    if needed > steps and set(heads) == {"ctc"}:
        return (
            f"{item.name}: CTC needs {needed} steps for {len(tokens)} tokens, "
            f"{item.duration:.2f} s of sound make {steps}"
        )
    return None
