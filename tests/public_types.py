"""What a type checker knows of the public calls: mypy reads this file with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt
import torch

import auricle
from auricle import Failure, Recognizer, SubtitleOptions, Transcript
from auricle.transcribe import OnError


def one_recording(asr: Recognizer, samples: npt.NDArray[np.float32], tensor: torch.Tensor) -> None:
    """A single input gives a transcript."""
    assert_type(asr.transcribe("talk.mp4"), Transcript)
    assert_type(asr.transcribe(Path("talk.mp4"), language="de"), Transcript)
    assert_type(asr.transcribe(b"RIFF", on_error="raise"), Transcript)
    assert_type(asr.transcribe(samples, sample_rate=16000, progress=True), Transcript)
    assert_type(asr.transcribe(tensor, sample_rate=16000), Transcript)
    assert_type(asr.transcribe({"array": samples, "sampling_rate": 16000}), Transcript)
    assert_type(asr.transcribe("talk.mp4", on_error="return"), Transcript | Failure)
    with Path("talk.mp4").open("rb") as file:
        assert_type(asr.transcribe(file), Transcript)


def many_recordings(asr: Recognizer, samples: npt.NDArray[np.float32], said: OnError) -> None:
    """A list or any other iterable gives a list; failures only where they were asked for."""
    assert_type(asr.transcribe(["a.wav", "b.wav"]), list[Transcript])
    assert_type(asr.transcribe([samples, samples], sample_rate=16000), list[Transcript])
    assert_type(asr.transcribe(path for path in [Path("a.wav")]), list[Transcript])
    assert_type(asr.transcribe(["a.wav"], on_error="return"), list[Transcript | Failure])
    assert_type(asr.transcribe_iter(["a.wav"]), Iterator[Transcript])
    assert_type(asr.transcribe_iter("folder", progress=True), Iterator[Transcript])
    assert_type(asr.transcribe_iter("folder", on_error="return"), Iterator[Transcript | Failure])
    for result in asr.transcribe_iter("folder", on_error=said):
        assert_type(result, Transcript | Failure)


def what_comes_of_it(transcript: Transcript) -> None:
    """The members complete."""
    options = SubtitleOptions(max_line_width=32)
    assert_type(auricle.load(), Recognizer)
    assert_type(transcript.words[0].start, float)
    assert_type(transcript.save("talk.srt", subtitles=options), Path)
    assert_type(transcript.to_srt(options) + transcript.to_vtt(), str)
