"""Engines: encode and decode a batch of clips behind one Protocol.

`torch` runs NVIDIA's families, `whisper` runs Whisper. An engine knows nothing of files, batching,
or how long audio is cut; it gets float32 mono clips at its `sample_rate` and returns transcripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from auricle.decoding import Greedy
from auricle.errors import ConfigError
from auricle.types import Transcript


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What a caller may ask of every engine; an engine refuses what it cannot do.

    `timestamps` False leaves out word times where that saves work; "nemo" gives NeMo's own numbers.
    """

    decode: Greedy = field(default_factory=Greedy)
    timestamps: bool | Literal["nemo"] = True
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"

    def __post_init__(self) -> None:
        if self.timestamps not in (True, False, "nemo"):
            raise ConfigError(f"unknown timestamps {self.timestamps!r}: use True, False, 'nemo'")
        if self.task not in ("transcribe", "translate"):
            raise ConfigError(f"unknown task {self.task!r}: use transcribe, translate")


class Engine(Protocol):
    """Encode + decode of one batch; safe to call from many threads at once."""

    @property
    def name(self) -> str:
        """What `Transcript.model` says."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """The output heads that the checkpoint has, whichever of them decodes."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """What `EngineOptions.language` may name; empty where there is no choice."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second of the clips it takes."""
        ...

    @property
    def batch_seconds(self) -> float:
        """Seconds of audio, padding included, that make a good batch on this device."""
        ...

    @property
    def any_length(self) -> bool:
        """Whether a clip may be hours long; if not, the caller cuts long audio."""
        ...

    def transcribe(
        self, clips: Sequence[NDArray[np.float32]], options: EngineOptions
    ) -> list[Transcript]:
        """One transcript per clip ([S] float32 mono at `sample_rate`), in the order given."""
        ...
