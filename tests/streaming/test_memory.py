"""A stream that nobody keeps takes no more memory after ten hours than after one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auricle import checkpoints
from auricle.engines.torch import TorchEngine
from auricle.recognizer import Recognizer
from benchmarks import streaming_memory
from tests.checkpoints.goldens import clip, nemo

HOURS = 10


def tiny() -> Recognizer:
    """The golden model cut down to one layer, with chunks of 1120 ms and tokens spread out."""
    checkpoint = checkpoints.load(nemo("streaming_hybrid"))
    config = checkpoint.config
    assert config.transducer is not None
    config = replace(
        config,
        encoder=replace(config.encoder, n_layers=1, att_context_size=((70, 13),)),
        transducer=replace(config.transducer, max_symbols=1),
    )
    kept = {k: v for k, v in checkpoint.tensors.items() if not k.startswith("encoder.layers.1.")}
    return Recognizer(TorchEngine(replace(checkpoint, config=config, tensors=kept), head="rnnt"))


@pytest.mark.slow
@pytest.mark.skipif(not streaming_memory.STATUS.exists(), reason="memory is read from /proc")
def test_ten_hours_in_constant_memory() -> None:
    stream = tiny().stream(latency_ms=1120, keep=False)
    speech = np.concatenate([clip(name)[0].numpy() for name in ("syllable", "phrase", "talk")])
    heard = list(streaming_memory.hours(stream, speech, HOURS))
    assert stream.seconds == HOURS * 3600
    assert all(hour.finals > 300 and hour.words > 1000 for hour in heard)
    assert max(hour.megabytes for hour in heard) < heard[0].megabytes + streaming_memory.LIMIT_MB
    assert stream.finish().text == ""
