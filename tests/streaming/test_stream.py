"""A stream says what the offline path says, whatever the cuts, and can go on elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import auricle
from auricle import (
    AudioError,
    ConfigError,
    Endpointing,
    Final,
    Partial,
    Recognizer,
    StreamState,
    audio,
    checkpoints,
)
from auricle.decoding.times import decode_text, tokens_words_segments
from auricle.engines.torch import TorchEngine
from auricle.types import Transcript
from tests.conftest import GOLDEN
from tests.models.test_goldens import samples

STREAMING = [
    ("streaming_hybrid", "rnnt"),
    ("streaming_hybrid", "ctc"),
    ("streaming_factor4", "rnnt"),
    ("streaming_regular", "ctc"),
    ("streaming_tdt", "tdt"),
    ("prompt_rnnt", "rnnt"),
]
SHARED = [
    ("streaming_rnnt_tiny", "rnnt"),
    ("streaming_ctc_tiny", "ctc"),
    ("streaming_hybrid_tiny", "rnnt"),
    ("streaming_hybrid_tiny", "ctc"),
]
Clip = npt.NDArray[np.float32]
CUTS: dict[str, Callable[[np.random.Generator], int]] = {
    "10 ms": lambda _: 160,
    "37 ms": lambda _: 592,
    "1 s": lambda _: 16000,
    "random": lambda g: int(g.choice([0, 1, 7, 159, 161, 1000, 5000, 20000])),
}


@cache
def loaded(path: Path, head: str) -> Recognizer:
    return auricle.load(path, head=head, device="cpu", precision="fp32")


def golden(name: str, head: str) -> Recognizer:
    return loaded(GOLDEN / "nemo" / f"{name}.nemo", head)


def clip(name: str = "talk") -> Clip:
    found: Clip = samples(GOLDEN / "wav" / f"{name}.wav").numpy()
    return found


def engine_of(asr: Recognizer) -> TorchEngine:
    assert isinstance(asr._engine, TorchEngine)
    return asr._engine


def offline(asr: Recognizer, heard: Clip, context: tuple[int, ...]) -> Transcript:
    """What one pass over the whole recording says, under the mask of `context`."""
    engine = engine_of(asr)
    number = engine.prompt(None)
    with torch.inference_mode():
        encodings, steps = engine.model.encode(
            torch.from_numpy(heard)[None],
            torch.tensor([len(heard)]),
            context=context,
            prompt=None if number is None else torch.tensor([number]),
        )
        (hypothesis,), _ = engine.decode(encodings, steps)
    duration = len(heard) / asr.sample_rate
    tokens, words, segments = tokens_words_segments(
        hypothesis, engine.tokenizer, engine.model.seconds_per_step, duration=duration
    )
    text, language = decode_text(hypothesis.ids, engine.tokenizer)
    return Transcript(text, segments, words, tokens, language, duration, asr.model)


def cut(heard: Clip, size: Callable[[np.random.Generator], int], seed: int = 0) -> Iterator[Clip]:
    generator, at = np.random.default_rng(seed), 0
    while at < len(heard):
        step = size(generator)
        yield heard[at : at + step]
        at += step


def assert_same(ours: Transcript, theirs: Transcript) -> None:
    assert ours.text == theirs.text
    assert (ours.language, ours.duration) == (theirs.language, theirs.duration)
    for kind in ("tokens", "words"):
        mine, other = getattr(ours, kind), getattr(theirs, kind)
        assert [(t.text, t.start, t.end) for t in mine] == [(t.text, t.start, t.end) for t in other]
        assert [t.confidence for t in mine] == pytest.approx(
            [t.confidence for t in other], abs=1e-4
        )


def check_cuts(asr: Recognizer, heard: Clip, cuts: list[str]) -> int:
    tokens = 0
    for lookahead in asr.lookaheads:
        expected = offline(asr, heard, lookahead.context)
        tokens += len(expected.tokens)
        finals = []
        for name in cuts:
            stream = asr.stream(latency_ms=lookahead.latency_ms)
            assert stream.latency_ms == lookahead.latency_ms
            events = [event for piece in cut(heard, CUTS[name]) for event in stream.push(piece)]
            events += stream.flush()
            assert_same(stream.finish(), expected)
            finals.append([event for event in events if isinstance(event, Final)])
        for others in finals[1:]:
            assert [f.segment.text for f in others] == [f.segment.text for f in finals[0]]
    return tokens


@pytest.mark.parametrize(("name", "head"), STREAMING)
def test_any_cuts_give_what_offline_gives(name: str, head: str) -> None:
    assert check_cuts(golden(name, head), clip(), list(CUTS)) > 10


@pytest.mark.parametrize(("name", "head"), SHARED)
def test_any_cuts_give_what_offline_gives_shared(
    shared: Callable[[str], Path], name: str, head: str
) -> None:
    path = shared(f"golden/nemo/{name}.nemo")
    heard = samples(path.parents[1] / "wav" / "beckett.wav").numpy()
    assert check_cuts(loaded(path, head), heard, ["37 ms", "random"]) > 10


def test_sample_by_sample() -> None:
    asr, heard = golden("streaming_hybrid", "rnnt"), clip("phrase")[:12000]
    stream = asr.stream(lookahead=0)
    for i in range(len(heard)):
        stream.push(heard[i : i + 1])
    assert_same(stream.finish(), offline(asr, heard, (8, 0)))


@pytest.mark.parametrize("length", [0, 1, 159, 160, 1279, 1280, 1281, 8 * 1280 + 200])
def test_short_streams_lose_nothing(length: int) -> None:
    asr, heard = golden("streaming_hybrid", "rnnt"), clip()[:length]
    for lookahead in asr.lookaheads:
        stream = asr.stream(lookahead=lookahead.steps)
        stream.push(heard)
        said = stream.finish()
        if length < 160:
            assert (said.text, said.duration) == ("", length / 16000)
        else:
            assert_same(said, offline(asr, heard, lookahead.context))


@pytest.mark.parametrize(
    ("name", "head"), [*STREAMING, ("parakeet_tdt", "tdt"), ("citrinet", "ctc")]
)
def test_a_stream_moves_and_goes_on(name: str, head: str) -> None:
    asr = golden(name, head)
    endpointing = Endpointing(silence_ms=160)
    for latency in [known.latency_ms for known in asr.lookaheads] or [1280]:
        stayed = asr.stream(latency_ms=latency, endpointing=endpointing)
        moved = asr.stream(latency_ms=latency, endpointing=endpointing)
        for i, piece in enumerate(cut(clip(), CUTS["random"], seed=3)):
            if i % 3 == 0:
                saved = moved.state().to_bytes()
                abandoned = moved
                moved = asr.stream(state=StreamState.from_bytes(saved))
                abandoned.push(np.ones(4000, np.float32))  # must not be heard by the other
            assert moved.push(piece) == stayed.push(piece)
            assert moved.seconds == stayed.seconds
        assert moved.flush() == stayed.flush()
        assert moved.finish() == stayed.finish()


@pytest.mark.parametrize("name", ["prompt_rnnt", "prompt_hybrid"])
def test_a_stream_moves_in_its_language(name: str) -> None:
    """Of a model, by its cache or by windows, whose default is no language that it knows."""
    checkpoint = checkpoints.load(GOLDEN / "nemo" / f"{name}.nemo")
    config = checkpoint.config
    assert config.prompt is not None
    prompt = replace(config.prompt, default_language="xx")
    changed = replace(checkpoint, config=replace(config, prompt=prompt))
    asr = Recognizer(TorchEngine(changed, device="cpu", head="rnnt"))
    with pytest.raises(ConfigError, match="does not know the language 'xx'"):
        asr.stream()
    said = set()
    for language in ("es-ES", "en-US"):
        stayed, moved = (asr.stream(language=language) for _ in range(2))
        moved.push(clip()[:20000])
        moved = asr.stream(state=moved.state())
        moved.push(clip()[20000:])
        stayed.push(clip())
        transcript = stayed.finish()
        assert_same(moved.finish(), transcript)
        said.add(tuple(token.id for token in transcript.tokens))
    assert len(said) == 2


def test_a_stream_moves_to_another_process(tmp_path: Path) -> None:
    asr, heard = golden("streaming_hybrid", "rnnt"), clip()
    stream = asr.stream(lookahead=1)
    stream.push(heard[:30000])
    (tmp_path / "state").write_bytes(stream.state().to_bytes())
    np.save(tmp_path / "rest.npy", heard[30000:])
    program = (
        "import sys, numpy, auricle; from pathlib import Path; model, folder = sys.argv[1:];"
        "state = auricle.StreamState.from_bytes(Path(folder, 'state').read_bytes());"
        "stream = auricle.load(model, head='rnnt', device='cpu').stream(state=state);"
        "stream.push(numpy.load(Path(folder, 'rest.npy'))); print(stream.finish().text)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, asr.model, tmp_path], capture_output=True, check=True
    )
    stream.push(heard[30000:])
    assert run.stdout.decode("utf-8").strip() == stream.finish().text


def test_states_of_other_models_are_refused() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    stream = asr.stream()
    stream.push(clip())
    state = stream.state()
    for other in (golden("streaming_hybrid", "ctc"), golden("streaming_tdt", "tdt")):
        with pytest.raises(ConfigError, match="another model"):
            other.stream(state=state)
    with pytest.raises(ConfigError, match="version"):
        asr.stream(state=StreamState({**state.facts, "version": 99}, state.tensors))
    with pytest.raises(ConfigError, match="keeps its options"):
        asr.stream(state=state, keep=False)
    for data in (b"", b"rubbish", state.to_bytes()[:-100]):
        with pytest.raises(ConfigError, match="not a stream's state"):
            StreamState.from_bytes(data)


def test_damaged_states_are_refused() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    stream = asr.stream(sample_rate=8000)
    stream.push(clip()[:9000])
    state = stream.state()
    for name in state.facts:
        if name == "keep":
            continue
        facts = {key: value for key, value in state.facts.items() if key != name}
        with pytest.raises(ConfigError, match="damaged"):
            asr.stream(state=StreamState(facts, state.tensors))
        with pytest.raises(ConfigError):
            asr.stream(state=StreamState({**state.facts, name: {"rubbish": []}}, state.tensors))
    for name, tensor in state.tensors.items():
        others = {key: value for key, value in state.tensors.items() if key != name}
        with pytest.raises(ConfigError, match="damaged"):
            asr.stream(state=StreamState(state.facts, others))
        if tensor.dim() > 1 and tensor.numel():
            with pytest.raises(ConfigError, match="damaged"):
                wrong = torch.cat([tensor, tensor], dim=-1)
                asr.stream(state=StreamState(state.facts, {**others, name: wrong}))
    assert asr.stream(state=state).seconds == stream.seconds


@pytest.mark.parametrize(
    ("name", "head"), [("streaming_tdt", "tdt"), ("streaming_hybrid", "ctc"), ("citrinet", "ctc")]
)
def test_states_with_rubbish_in_them_neither_hang_nor_crash(name: str, head: str) -> None:
    """What is accepted runs to its end; everything else is one kind of error."""
    asr = golden(name, head)
    stream = asr.stream()
    stream.push(np.tile(clip(), 2))
    state = stream.state()
    counts = state.tensors["stepper.stream.counts"]
    rubbish: list[StreamState] = []
    for value in (-(2**40), -1, 2**40, 7):
        for i in range(len(counts)):
            wrong = counts.clone()
            wrong[i] = value
            tensors = {**state.tensors, "stepper.stream.counts": wrong}
            rubbish.append(StreamState(state.facts, tensors))
    for key, value in (
        ("tokens", [[10**9, 0, 1, 0.5, None]]),
        ("steps", None),
        ("marks", [5, 1, 0]),
    ):
        utterances = {**state.facts["utterances"], key: value}
        rubbish.append(StreamState({**state.facts, "utterances": utterances}, state.tensors))
    refused = 0
    for damaged in rubbish:
        try:
            other = asr.stream(state=damaged)
        except ConfigError:
            refused += 1
            continue
        other.push(clip()[:8000])
        other.finish()
    assert refused > len(rubbish) // 2


def test_a_stream_that_fails_ends_with_what_it_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asr = golden("streaming_hybrid", "ctc")
    stream = asr.stream()
    stream.push(clip()[:30000])

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(TorchEngine, "decode", fail)
        stream.push(clip()[30000:])
    with pytest.raises(ConfigError, match="finished"):
        stream.push(clip())
    assert stream.finish().text != ""


def test_latency_is_chosen_by_either_name() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    assert [(k.context, k.latency_ms) for k in asr.lookaheads] == [
        ((8, 3), 320),
        ((8, 1), 160),
        ((8, 0), 80),
    ]
    assert asr.stream().lookahead == 3
    assert asr.stream(lookahead=1).latency_ms == 160
    assert asr.stream(lookahead=np.int64(1)).latency_ms == 160  # type: ignore[arg-type]
    assert asr.stream(lookahead=[8, 0]).latency_ms == 80
    assert asr.stream(latency_ms=80).lookahead == 0
    assert asr.stream(lookahead=2, untrained=True).latency_ms == 240
    assert asr.stream(lookahead=[6, 2], untrained=True).cut.context == (6, 2)
    assert asr.stream(latency_ms=400, untrained=True).lookahead == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency_ms": 100}, r"latency_ms=100 is not .*320, 160, 80 \(lookahead 3, 1, 0\)"),
        ({"lookahead": 1.5}, r"lookahead=1.5: it must be R or \[L, R\]"),
        ({"lookahead": 2}, r"lookahead=2 is not .*320, 160, 80 \(lookahead 3, 1, 0\)"),
        ({"lookahead": [9, 1]}, r"lookahead=\[9, 1\] is not one of"),
        ({"lookahead": 1, "latency_ms": 160}, "give one of them"),
        ({"latency_ms": 100, "untrained": True}, "multiple of 80; the nearest is 80"),
        ({"latency_ms": -5, "untrained": True}, "latency_ms=-5: it must be above 0"),
        ({"latency_ms": float("nan")}, "latency_ms=nan is not one of"),
        ({"latency_ms": float("nan"), "untrained": True}, "latency_ms=nan"),
        ({"lookahead": -1, "untrained": True}, "0 or more"),
        ({"lookahead": 10**9, "untrained": True}, "at most 600"),
        ({"lookahead": [10**9, 0], "untrained": True}, "at most 600"),
        ({"latency_ms": 10**12, "untrained": True}, "at most 600"),
        ({"latency_ms": "160"}, "must be a number"),
        ({"endpointing": "x"}, "must be a Endpointing"),
        ({"state": b"x"}, "takes a StreamState"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"lookahead": [8, 1, 1], "untrained": True}, "2 numbers"),
        ({"sample_rate": 3}, "sample_rate"),
        ({"sample_rate": 16000.5}, "sample_rate"),
        ({"language": "en"}, "no choice of language"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        golden("streaming_hybrid", "rnnt").stream(**options)


def test_models_that_were_not_trained_to_stream_say_what_they_take() -> None:
    asr = golden("parakeet_tdt", "tdt")
    assert asr.lookaheads == ()
    assert asr.stream(latency_ms=2000).lookahead is None
    with pytest.raises(ConfigError, match="no lookaheads"):
        asr.stream(lookahead=1)


@pytest.mark.parametrize(
    "rubbish",
    [
        np.array([0.0, np.nan], np.float32),
        np.array([np.inf], np.float64),
        np.zeros(10, np.uint8),
        np.zeros(10, np.complex64),
        np.zeros((10, 2), np.float32),
        np.array(["a"]),
        np.array(1.0),
        torch.zeros(10, dtype=torch.bfloat16),
        [0.1, "x"],
    ],
)
def test_rubbish_is_refused_and_leaves_the_stream_as_it_was(rubbish: Any) -> None:
    asr, heard = golden("streaming_hybrid", "rnnt"), clip()
    stream = asr.stream()
    stream.push(heard[:20000])
    with pytest.raises(AudioError):
        stream.push(rubbish)
    stream.push(heard[20000:])
    assert_same(stream.finish(), offline(asr, heard, (8, 3)))


def test_every_kind_of_samples() -> None:
    asr, heard = golden("streaming_hybrid", "rnnt"), (clip() * 32767).astype(np.int16)
    said = set()
    for form in (
        heard,
        heard.astype(np.int32) * 65536,
        heard.astype(np.float32) / 32768,
        heard.astype(np.float64) / 32768,
        torch.from_numpy(heard),
    ):
        stream = asr.stream()
        stream.push(form)
        said.add(stream.finish().text)
    assert len(said) == 1


def test_another_rate_is_resampled() -> None:
    asr = golden("streaming_hybrid", "rnnt")
    heard = audio.resample(clip(), 16000, 44100)
    whole = audio.resample(heard, 44100, 16000)
    stream = asr.stream(sample_rate=44100)
    for piece in cut(heard, CUTS["random"]):
        stream.push(piece)
    assert stream.seconds == len(heard) / 44100
    assert [t.id for t in stream.finish().tokens] == [
        t.id for t in offline(asr, whole, (8, 3)).tokens
    ]


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_resampled_stream_moves_too(rate: int) -> None:
    asr = golden("streaming_hybrid", "ctc")
    heard = audio.resample(clip(), 16000, rate)
    stayed, moved = (asr.stream(sample_rate=rate) for _ in range(2))
    for piece in cut(heard, CUTS["random"], seed=4):
        moved = asr.stream(state=StreamState.from_bytes(moved.state().to_bytes()))
        assert moved.push(piece) == stayed.push(piece)
        assert (moved.sample_rate, moved.seconds) == (rate, stayed.seconds)
    assert moved.flush() == stayed.flush()
    assert moved.finish() == stayed.finish()


def test_after_the_end() -> None:
    stream = golden("streaming_hybrid", "rnnt").stream()
    stream.push(clip())
    said = stream.finish()
    assert stream.finish() is said
    assert stream.flush() == []
    with pytest.raises(ConfigError, match="finished: open a new one"):
        stream.push(clip())
    with pytest.raises(ConfigError, match="finished"):
        stream.state()


def test_events_tell_the_same_story() -> None:
    """Partials begin with what was stable before; Finals together are the transcript."""
    asr = golden("streaming_hybrid", "ctc")
    stream = asr.stream(lookahead=0, endpointing=Endpointing(silence_ms=160))
    events = [event for piece in cut(clip(), CUTS["10 ms"]) for event in stream.push(piece)]
    events += stream.flush()
    stable = ""
    for event in events:
        if isinstance(event, Partial):
            assert event.text.startswith(event.stable)
            assert event.text.startswith(stable)
            stable = event.stable
        else:
            assert event.segment.text.startswith(stable)
            stable = ""
    finals = [event.segment for event in events if isinstance(event, Final)]
    said = stream.finish()
    assert len(finals) > 1
    assert tuple(finals) == said.segments
    assert said.words[0].start == finals[0].words[0].start
    assert {Partial, Final} == {type(event) for event in events}


def test_what_is_not_kept_is_forgotten() -> None:
    asr = golden("streaming_hybrid", "ctc")
    kept, passed = asr.stream(), asr.stream(keep=False)
    events = [e for piece in cut(clip(), CUTS["1 s"]) for e in passed.push(piece)]
    events += passed.flush()
    kept.push(clip())
    said = passed.finish()
    assert (said.text, said.words, said.duration) == ("", (), len(clip()) / 16000)
    finals = [event.segment.text for event in events if isinstance(event, Final)]
    assert finals == [segment.text for segment in kept.finish().segments]


def test_latency_report() -> None:
    asr = golden("streaming_hybrid", "ctc")
    waits = {}
    for lookahead in (3, 0):
        stream = asr.stream(lookahead=lookahead)
        for piece in cut(clip(), CUTS["10 ms"]):
            stream.push(piece)
        words = stream.finish().words
        report = stream.latency()
        assert [word.text for word in report.words] == [word.text for word in words]
        assert report.shown_audio is not None
        waits[lookahead] = report.shown_audio.median
    # A word waits for the rest of its chunk, and for the last window of the features.
    assert 0 <= waits[0] <= 110
    assert waits[0] < waits[3] <= 350


def test_whisper_does_not_stream() -> None:
    class Engine:
        name = "whisper-tiny"

    with pytest.raises(ConfigError, match="whisper-tiny does not stream"):
        Recognizer(Engine()).stream()  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"normalize": "per_feature"}, {"exact_pad": True}])
def test_features_of_the_whole_recording_make_a_cache_aware_model_stream_in_windows(
    option: dict[str, Any],
) -> None:
    checkpoint = checkpoints.load(GOLDEN / "nemo" / "streaming_hybrid.nemo")
    features = replace(checkpoint.config.features, **option)
    changed = replace(checkpoint, config=replace(checkpoint.config, features=features))
    asr = Recognizer(TorchEngine(changed, device="cpu", head="rnnt"))
    assert asr.lookaheads == ()
    name = next(iter(option))
    with pytest.raises(ConfigError, match=rf"was trained with lookaheads.*{name}.*latency_ms"):
        asr.stream(lookahead=1)
    stream = asr.stream()
    stream.push(clip())
    assert stream.finish().text
