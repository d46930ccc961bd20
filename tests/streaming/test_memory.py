"""A stream that nobody keeps takes no more memory after ten hours than after one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auricle import checkpoints
from auricle.engines.torch import TorchEngine
from auricle.recognizer import Recognizer
from benchmarks import streaming_memory
from tests.checkpoints.goldens import clip, nemo

HOURS = 10


def tiny() -> Recognizer:
    """The golden model with one layer of its two, and chunks of 1120 ms.

    Of its heads the CTC one, whose tokens hang on what was heard last. Over hours the random
    transducer falls into a state in which it never pauses.
    """
    checkpoint = checkpoints.load(nemo("streaming_hybrid"))
    encoder = replace(checkpoint.config.encoder, n_layers=1, att_context_size=((70, 13),))
    kept = {k: v for k, v in checkpoint.tensors.items() if not k.startswith("encoder.layers.1.")}
    cut = replace(checkpoint, config=replace(checkpoint.config, encoder=encoder), tensors=kept)
    return Recognizer(TorchEngine(cut, head="ctc"))


@pytest.mark.slow
@pytest.mark.skipif(not streaming_memory.STATUS.exists(), reason="memory is read from /proc")
def test_ten_hours_in_constant_memory() -> None:
    stream = tiny().stream(latency_ms=1120, keep=False)
    speech = clip("syllable")[0].numpy()
    heard = list(streaming_memory.hours(stream, speech, HOURS))
    assert stream.seconds == HOURS * 3600
    assert all(hour.finals > 1000 and hour.words > 1000 for hour in heard)
    assert max(hour.megabytes for hour in heard) < heard[0].megabytes + streaming_memory.LIMIT_MB
    assert stream.finish().text == ""
