"""Windows lose no step and double none, and a stream hears what its windows would say offline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from auricle import checkpoints
from auricle.decoding import Greedy, Hypothesis, ctc, transducer
from auricle.engines.torch import TorchEngine
from auricle.errors import ConfigError
from auricle.features import LogMelConfig
from auricle.models.conformer import ConformerConfig
from auricle.streaming.buffered import QUIET, BufferedStepper, Buffering
from auricle.streaming.stepping import Decoded
from tests.checkpoints.goldens import clip, nemo
from tests.decoding.fakes import CountingPredictor, TableJoint

Audio = npt.NDArray[np.float32]

VOCABULARY = 7
HOP, RATE, FACTOR = 10, 1000, 4
STEP = HOP * FACTOR


def merged(decoded: Sequence[Decoded]) -> Hypothesis:
    """The chunks of one stream as one hypothesis."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("ids", "starts", "ends", "confidences", "durations")
    }
    for hypothesis in (d.hypothesis for d in decoded):
        for name, column in columns.items():
            if hypothesis.continues and column:
                column.pop()
            column += getattr(hypothesis, name)
    last = decoded[-1].hypothesis
    score = sum(d.hypothesis.score for d in decoded)
    return Hypothesis(
        **{name: tuple(column) for name, column in columns.items()},
        score=score,
        steps=last.steps,
        head=last.head,
    )


def same(a: Hypothesis, b: Hypothesis) -> None:
    """Equal but for rounding."""
    assert (a.ids, a.starts, a.ends, a.durations) == (b.ids, b.starts, b.ends, b.durations)
    assert a.steps == b.steps
    assert a.confidences == pytest.approx(b.confidences, abs=1e-3)
    assert a.score == pytest.approx(b.score, abs=1e-2, rel=1e-4)


def drain(stepper: BufferedStepper, slot: int) -> list[Decoded]:
    """All chunks that are ready."""
    decoded = []
    while stepper.ready(slot):
        decoded += stepper.step([slot])
    return decoded


def streamed(
    stepper: BufferedStepper, audio: Audio, cuts: Sequence[int] = (), prompt: int | None = None
) -> list[Decoded]:
    """A stream alone, pushed in pieces and stepped whenever it can be."""
    slot = stepper.open(prompt=prompt)
    decoded = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(audio)]):
        stepper.push(slot, audio[start:stop])
        decoded += drain(stepper, slot)
    stepper.end(slot)
    decoded += drain(stepper, slot)
    stepper.close(slot)
    return decoded


class Ruler:
    """An engine that hears where it is: sample i is the number i + 1, a step's encoding its place.

    Tokens are a function of the place, in runs, so that what is lost or doubled shows in them.
    """

    name = "ruler"
    device = torch.device("cpu")

    def __init__(self, head: str, *, extra: int = 0, normalize: Any = None, encoder: Any = None):
        self.head, self.extra = head, extra
        self.windows: list[tuple[int, int]] = []  # first step and samples of each window
        self.contexts: list[Any] = []
        features = LogMelConfig(sample_rate=RATE, hop_length=HOP, normalize=normalize)
        self.model = SimpleNamespace(
            config=SimpleNamespace(features=features, encoder=encoder, prompt=None),
            features=SimpleNamespace(frames=lambda lengths: lengths // HOP),
            encoder=SimpleNamespace(factor=FACTOR),
            seconds_per_step=STEP / RATE,
            encode=self.encode,
        )
        durations = (0, 1, 2, 4) if head == "tdt" else ()
        joint = TableJoint(VOCABULARY + 1 + len(durations), VOCABULARY, 2.0, seed=3)
        self.networks = transducer.Transducer(
            CountingPredictor(VOCABULARY), joint, VOCABULARY, durations, 5
        )

    def encode(
        self, samples: Tensor, lengths: Tensor, *, prompt: Any = None, context: Any = None
    ) -> tuple[Tensor, Tensor]:
        self.contexts.append(context)
        firsts, counts = [], []
        for row, length in zip(samples, lengths.tolist(), strict=True):
            at = int(row.ne(0).int().argmax())
            first = int(row[at]) - 1 - at
            numbers = torch.arange(first + 1.0, first + len(row) + 1.0)
            assert torch.equal(row, numbers.where(row != 0, 0.0))
            assert first % STEP == 0
            firsts.append(first // STEP)
            counts.append(self.steps(length))
            self.windows.append((first // STEP, length))
        places = torch.tensor(firsts)[:, None] + torch.arange(max(counts))  # [B, T]
        return places.float().unsqueeze(-1), torch.tensor(counts)

    def steps(self, samples: int) -> int:
        frames = samples // HOP
        if self.extra > 0:
            return frames // FACTOR + self.extra
        return max(0, math.ceil(frames / FACTOR) + self.extra)

    def takes(self, prompt: int | None) -> bool:
        return prompt is None

    def initial_state(self, streams: int) -> Any:
        if self.head == "ctc":
            return ctc.initial_state(streams, VOCABULARY)
        return transducer.initial_state(self.networks, torch.zeros(streams, 1, 1))

    def decode(
        self, encodings: Tensor, steps: Tensor, decode: Greedy = Greedy(), *, state: Any = None
    ) -> Any:
        if self.head == "ctc":
            place = encodings[..., 0].long() // 3  # runs of three steps
            ids = (place * place) % (VOCABULARY + 1)
            logits = torch.nn.functional.one_hot(ids, VOCABULARY + 1).float() * 9
            return ctc.greedy(logits, steps, state=state)
        return transducer.greedy(self.networks, encodings % 50, steps, state=state)

    def whole(self, samples: int) -> Hypothesis:
        """The offline answer for so many samples."""
        count = self.steps(samples) if samples >= HOP else 0
        encodings = torch.arange(float(max(1, count))).view(1, -1, 1)
        (hypothesis,), _ = self.decode(encodings, torch.tensor([count]))
        return hypothesis


def ramp(samples: int) -> Audio:
    return np.arange(1, samples + 1, dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(
    head=st.sampled_from(["ctc", "rnnt", "tdt"]),
    extra=st.sampled_from([-1, 0, 1]),
    normalize=st.sampled_from([None, "per_feature"]),
    sizes=st.tuples(st.integers(1, 12), st.integers(0, 30), st.integers(0, 12)),
    samples=st.integers(1, 60 * STEP),
    cuts=st.lists(st.integers(0, 60 * STEP), max_size=12),
)
def test_every_step_is_kept_once(
    head: str,
    extra: int,
    normalize: str | None,
    sizes: tuple[int, int, int],
    samples: int,
    cuts: list[int],
) -> None:
    # Without any context a last window may be too short for a frame.
    assume(extra <= 0 or sizes[1] + sizes[2] > 0)
    engine: Any = Ruler(head, extra=extra, normalize=normalize)
    chunk, left, right = (size * STEP / RATE for size in sizes)
    stepper = BufferedStepper(engine, Buffering(chunk, left, right, settle_seconds=0.3))
    decoded = streamed(stepper, ramp(samples), [cut for cut in cuts if cut < samples])
    same(merged(decoded), engine.whole(samples))


def test_windows_reach_left_and_right_and_end_with_the_audio() -> None:
    engine: Any = Ruler("rnnt")
    stepper = BufferedStepper(engine, Buffering(0.08, 0.2, 0.12))
    assert stepper.seconds_per_step == 0.04
    assert stepper.latency == pytest.approx(5 * 0.04)
    streamed(stepper, ramp(12 * STEP + 25))
    stops = [5, 7, 9, 11]
    full = [(max(0, stop - 10), stop - max(0, stop - 10)) for stop in stops]
    assert engine.windows[:-1] == [(first, steps * STEP) for first, steps in full]
    assert engine.windows[-1] == (3, 9 * STEP + 25)  # from five steps before the last four


def test_a_chunk_waits_for_its_right_context_alone() -> None:
    engine: Any = Ruler("ctc")
    stepper = BufferedStepper(engine, Buffering(0.08, 0.2, 0.12))
    slot = stepper.open()
    stepper.push(slot, ramp(5 * STEP - 1))
    assert not stepper.ready(slot)
    stepper.push(slot, ramp(5 * STEP)[-1:])
    assert stepper.ready(slot)
    (decoded,) = stepper.step([slot])
    assert decoded.hypothesis.steps == 2
    assert not stepper.ready(slot)
    stepper.end(slot)
    assert stepper.ready(slot)
    (decoded,) = stepper.step([slot])
    assert decoded.hypothesis.steps == 5
    assert decoded.tentative == ()
    assert not stepper.ready(slot)


def test_a_stream_of_nothing_has_nothing_to_decode() -> None:
    engine: Any = Ruler("ctc")
    stepper = BufferedStepper(engine)
    slot = stepper.open()
    stepper.end(slot)
    assert not stepper.ready(slot)


@pytest.mark.parametrize("head", ["ctc", "rnnt", "tdt"])
def test_tentative_tokens_are_those_that_the_right_context_brings(head: str) -> None:
    engine: Any = Ruler(head)
    decoded = streamed(BufferedStepper(engine, Buffering(0.2, 0.4, 0.4)), ramp(40 * STEP))
    for i, chunk in enumerate(decoded[:-1]):
        known = merged(decoded[: i + 1]).ids
        until = chunk.hypothesis.steps + 10
        assert known + chunk.tentative == engine.whole(until * STEP).ids
    assert any(chunk.tentative for chunk in decoded)


def test_nothing_is_final_before_a_normalised_stream_has_settled() -> None:
    buffering = Buffering(0.08, 1.0, 0.08, settle_seconds=0.4)
    engine: Any = Ruler("rnnt", normalize="per_feature")
    decoded = streamed(BufferedStepper(engine, buffering), ramp(30 * STEP))
    assert [d.hypothesis.steps for d in decoded[:5]] == [0, 0, 0, 8, 10]
    assert [d.tentative for d in decoded[:3]] == [engine.whole(n * STEP).ids for n in (4, 6, 8)]
    plain: Any = Ruler("rnnt")
    first = streamed(BufferedStepper(plain, buffering), ramp(30 * STEP))[0]
    assert first.hypothesis.steps == 2


@pytest.mark.parametrize(
    ("left", "settle", "silent", "moved"),
    [
        (3.0, 0.8, 1200, {5: 32}),  # to the step that the silence ends in
        (1.2, 1.2, 1600, {10: 30}),  # until no more than the settling time is left
    ],
)
def test_digital_silence_is_no_left_context_of_a_normalised_window(
    left: float, settle: float, silent: int, moved: dict[int, int]
) -> None:
    assert silent > QUIET * RATE
    audio = ramp(6000)
    audio[100 : 100 + silent] = 0.0
    buffering = Buffering(0.4, left, 0.4, settle_seconds=settle)
    engine, plain = Ruler("rnnt", normalize="per_feature"), Ruler("rnnt")
    for each in (engine, plain):
        same(
            merged(streamed(BufferedStepper(cast(Any, each), buffering), audio)), plain.whole(6000)
        )
    firsts = [first for first, _ in plain.windows]
    assert moved.keys() < set(firsts)
    assert [first for first, _ in engine.windows] == [moved.get(f, f) for f in firsts]


def test_attention_in_chunks_is_told_of_them_and_windows_begin_with_one() -> None:
    encoder = ConformerConfig(80, 1, 8, att_context_style="chunked_limited_with_rc")
    engine: Any = Ruler("ctc", encoder=encoder)
    stepper = BufferedStepper(engine, Buffering(0.12, 0.2, 0.08))
    same(merged(streamed(stepper, ramp(50 * STEP + 7))), engine.whole(50 * STEP + 7))
    assert set(engine.contexts) == {(6, 3, 2)}
    assert all(first % 3 == 0 for first, _ in engine.windows)


def test_an_encoder_that_loses_steps_is_refused() -> None:
    engine: Any = Ruler("ctc", extra=-3)
    stepper = BufferedStepper(engine, Buffering(0.4, 0.4, 0.4))
    with pytest.raises(ConfigError, match="ruler cannot be streamed"):
        streamed(stepper, ramp(4000))


def test_audio_that_no_window_needs_is_forgotten() -> None:
    engine: Any = Ruler("ctc", normalize="per_feature")
    stepper = BufferedStepper(engine, Buffering(0.2, 1.0, 0.2))
    slot = stepper.open()
    audio = ramp(100_000)
    held = []
    for start in range(0, len(audio), 100):
        stepper.push(slot, audio[start : start + 100])
        drain(stepper, slot)
        held.append(len(stepper.state(slot)["stream.audio"]))
    assert max(held[100:]) <= 1400 + 100
    stepper.end(slot)
    drain(stepper, slot)
    assert len(stepper.state(slot)["stream.audio"]) == 0


@pytest.mark.parametrize("head", ["ctc", "rnnt", "tdt"])
def test_a_stream_moves_elsewhere(head: str) -> None:
    engine: Any = Ruler(head, normalize="per_feature")
    buffering = Buffering(0.2, 0.6, 0.2)
    audio, cuts = ramp(8000), range(0, 8000, 333)
    stepper = BufferedStepper(engine, buffering)
    slot, decoded = stepper.open(), []
    for start in cuts:
        stepper.push(slot, audio[start : start + 333])
        saved = safetensors.torch.load(safetensors.torch.save(stepper.state(slot)))
        stepper = BufferedStepper(engine, buffering)
        stepper.open()
        slot = stepper.open(saved)
        decoded += drain(stepper, slot)
    stepper.end(slot)
    saved = stepper.state(slot)
    rest = drain(stepper, slot)
    same(merged(decoded + rest), engine.whole(8000))
    other = BufferedStepper(engine, buffering)
    assert drain(other, other.open(saved)) == rest  # what was saved is not what went on
    with pytest.raises(ConfigError, match=r"go on with the same buffering"):
        BufferedStepper(engine, Buffering()).open(saved)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chunk_seconds": 0.0}, "chunk_seconds=0.0: it must be a number above 0"),
        ({"chunk_seconds": math.nan}, "chunk_seconds=nan"),
        ({"left_seconds": -1.0}, "left_seconds=-1.0: it must be a number at least 0"),
        ({"right_seconds": math.inf}, "right_seconds=inf"),
        ({"settle_seconds": -0.1}, "settle_seconds"),
    ],
)
def test_impossible_bufferings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Buffering(**values)


@pytest.mark.parametrize(
    ("latency", "chunk", "right"),
    [(160, 1, 1), (400, 3, 2), (560, 4, 3), (639, 4, 3), (4000, 25, 25)],
)
def test_a_latency_is_halved_and_never_passed(latency: float, chunk: int, right: int) -> None:
    buffering = Buffering.within(latency, 0.08)
    assert buffering.chunk_seconds == pytest.approx(chunk * 0.08)
    assert buffering.right_seconds == pytest.approx(right * 0.08)
    assert buffering.left_seconds == 10.0
    stepper = BufferedStepper(golden("parakeet_tdt"), buffering)
    assert stepper.latency == pytest.approx((chunk + right) * 0.08)


@pytest.mark.parametrize("latency", [0, 159, -5, math.nan, math.inf])
def test_a_latency_of_less_than_two_steps_is_refused(latency: float) -> None:
    with pytest.raises(ConfigError, match="at least 160"):
        Buffering.within(latency, 0.08)


def test_cost_is_how_often_audio_is_heard() -> None:
    assert Buffering().cost == 7.0
    assert Buffering(1, 3, 1).cost == 5.0


@lru_cache(maxsize=3)
def golden(name: str, head: str | None = None) -> TorchEngine:
    """A golden model."""
    return TorchEngine(checkpoints.load(nemo(name)), device="cpu", head=head)


def speech(name: str = "talk") -> Audio:
    """A golden clip [S]."""
    samples: Audio = clip(name)[0].numpy()
    return samples


def prompt_of(engine: TorchEngine) -> int | None:
    """The prompt that gives speech-like numbers of tokens."""
    return engine.prompt("en-US") if engine.languages else None


def encode(engine: TorchEngine, audio: Audio, context: Any = None) -> Tensor:
    """The steps of one window, alone [T, D]."""
    prompt = prompt_of(engine)
    numbers = None if prompt is None else torch.tensor([prompt])
    with torch.inference_mode():
        encodings, steps = engine.model.encode(
            torch.from_numpy(audio)[None],
            torch.tensor([len(audio)]),
            prompt=numbers,
            context=context,
        )
    return encodings[0, : int(steps)]


def decode(engine: TorchEngine, encodings: Tensor) -> Hypothesis:
    """The whole of a recording's steps [T, D], at once."""
    (hypothesis,), _ = engine.decode(encodings[None], torch.tensor([len(encodings)]))
    return hypothesis


MODELS = [
    ("parakeet_tdt", None),
    ("fastconformer_rnnt", None),
    ("fastconformer_ctc", None),
    ("conformer_rnnt", None),
    ("conformer_ctc", None),
    ("stateless_rnnt", None),
    ("hybrid_tdt_ctc", "tdt"),
    ("hybrid_tdt_ctc", "ctc"),
    ("prompt_hybrid", "rnnt"),
    ("prompt_hybrid", "ctc"),
    ("citrinet", None),
    ("quartznet_char", None),
    ("jasper_dense_char", None),
]


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_with_all_the_context_a_stream_says_what_offline_says(name: str, head: str | None) -> None:
    model, audio = golden(name, head), speech()
    offline = decode(model, encode(model, audio))
    assert offline.ids
    stepper = BufferedStepper(model, Buffering(0.5, 100.0, 100.0))
    decoded = streamed(stepper, audio, range(0, len(audio), 7001), prompt_of(model))
    same(merged(decoded), offline)


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_chunks_are_the_middles_of_windows(name: str, head: str | None) -> None:
    model, audio = golden(name, head), speech()
    step = round(model.model.seconds_per_step * model.sample_rate)
    chunk, left, right = (4 * round(s * model.sample_rate / step / 4) for s in (0.32, 1.28, 0.64))
    rc = name == "prompt_hybrid"
    kept: list[Tensor] = []
    for start in range(0, len(audio), chunk * step):
        stop = start + (chunk + right) * step
        first = max(0, start - left * step)
        context = (left, chunk, right) if rc else None
        steps = encode(model, audio[first:stop], context)[(start - first) // step :]
        kept.append(steps if stop > len(audio) else steps[:chunk])
        if stop > len(audio):
            break
    seconds = model.model.seconds_per_step
    buffering = Buffering(chunk * seconds, left * seconds, right * seconds, settle_seconds=0)
    decoded = streamed(BufferedStepper(model, buffering), audio, [50, 9000], prompt_of(model))
    assert len(decoded) == len(kept) > 8
    found, offline = merged(decoded), decode(model, encode(model, audio))
    same(found, decode(model, torch.cat(kept)))
    assert found.steps == offline.steps
    steps_done = [d.hypothesis.steps for d in decoded[:-1]]
    assert steps_done == [(i + 1) * chunk for i in range(len(steps_done))]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("parakeet_tdt", None),
        ("hybrid_tdt_ctc", "ctc"),
        ("prompt_hybrid", "rnnt"),
        ("citrinet", None),
    ],
)
def test_a_crowd_says_what_each_says_alone(name: str, head: str | None) -> None:
    model = golden(name, head)
    clips = [speech("talk"), speech("phrase"), speech("syllable"), speech("talk")[20_000:]]
    prompts = [prompt_of(model)] * 4
    if model.languages:
        prompts[3] = model.prompt("es-ES")
    buffering = Buffering(0.32, 1.0, 0.32, settle_seconds=0.7)
    alone = [
        streamed(BufferedStepper(model, buffering), audio, prompt=prompt)
        for audio, prompt in zip(clips, prompts, strict=True)
    ]
    draw = np.random.default_rng(5)
    stepper = BufferedStepper(model, buffering)
    streams: list[Client] = []
    waiting = [Client(i % 4, clips[i % 4], prompts[i % 4]) for i in range(7)]
    done: list[Client] = []
    batches = []
    while waiting or streams:
        if waiting and draw.random() < 0.5:
            client = waiting.pop()
            client.slot = stepper.open(prompt=client.prompt)
            streams.append(client)
        for client in streams:
            client.push(stepper, int(draw.integers(0, 12_000)))
        ready = [client for client in streams if stepper.ready(client.slot)]
        draw.shuffle(ready)  # type: ignore[arg-type]
        batches.append(len(ready))
        if ready:
            for client, decoded in zip(
                ready, stepper.step([client.slot for client in ready]), strict=True
            ):
                client.decoded.append(decoded)
        for client in [c for c in streams if c.ended and not stepper.ready(c.slot)]:
            stepper.close(client.slot)
            streams.remove(client)
            done.append(client)
    assert max(batches) > 2
    for client in done:
        same(merged(client.decoded), merged(alone[client.number]))
        tentative = [d.tentative for d in alone[client.number]]
        assert [d.tentative for d in client.decoded] == tentative


@dataclass(eq=False)
class Client:
    """A stream on its way."""

    number: int
    audio: Audio
    prompt: int | None
    slot: int = -1
    sent: int = 0
    ended: bool = False
    decoded: list[Decoded] = field(default_factory=list)

    def push(self, stepper: BufferedStepper, samples: int) -> None:
        """Send so many more samples, and the end behind the last."""
        if not self.ended:
            stepper.push(self.slot, self.audio[self.sent : self.sent + samples])
            self.sent += samples
            if self.sent >= len(self.audio):
                self.ended = True
                stepper.end(self.slot)


@pytest.mark.parametrize("name", ["quartznet_char", "local_asymmetric_ctc", "regular_context_ctc"])
def test_enough_context_makes_seams_vanish(name: str) -> None:
    """Of models that see a limited stretch, with features that do not depend on the window."""
    checkpoint = checkpoints.load(nemo(name))
    config = checkpoint.config
    fixed = replace(config, features=replace(config.features, normalize=None))
    model = TorchEngine(replace(checkpoint, config=fixed), device="cpu")
    audio = np.concatenate([speech("talk"), speech("phrase"), speech("talk")[::-1]])
    offline = decode(model, encode(model, audio))
    right = set(zip(offline.ids, offline.starts, strict=True))
    wrong = []
    for context in (0.0, 0.25, 3.0):
        stepper = BufferedStepper(model, Buffering(0.32, context, context))
        found = merged(streamed(stepper, audio))
        assert found.steps == offline.steps
        wrong.append(len(right ^ set(zip(found.ids, found.starts, strict=True))))
    assert wrong[0] > 2 * wrong[1]
    assert wrong[2] == 0
    same(found, offline)
