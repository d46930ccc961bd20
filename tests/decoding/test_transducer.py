"""The batched loop against a decoder that reads one step after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from auricle.decoding import Hypothesis, transducer
from auricle.decoding.transducer import TransducerState
from auricle.models.heads import (
    Joint,
    JointConfig,
    Predictor,
    PredictorConfig,
    build_predictor,
)

from .chunks import assert_same_state, decode_in_chunks, joined, random_cuts, restored
from .fakes import CountingPredictor, TableJoint, slow_transducer

BLANK = 6
RNNT: tuple[int, ...] = ()
TDT = (0, 1, 2, 3, 4)
SPARSE = (0, 2, 7)


def _batch(lengths: list[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(50, (len(lengths), max(lengths), 1), generator=generator).float()


def _networks(
    durations: tuple[int, ...], bias: float, seed: int
) -> tuple[CountingPredictor, TableJoint]:
    outputs = BLANK + 1 + len(durations)
    return CountingPredictor(BLANK), TableJoint(outputs, BLANK, bias, seed)


def _decode(
    encodings: Tensor,
    lengths: list[int],
    networks: tuple[CountingPredictor, TableJoint],
    durations: tuple[int, ...],
    max_symbols: int | None,
    state: TransducerState | None = None,
) -> tuple[list[Hypothesis], TransducerState]:
    head = transducer.Transducer(*networks, BLANK, durations, max_symbols)
    return transducer.greedy(head, encodings, torch.tensor(lengths), state=state)


@pytest.mark.parametrize("durations", [RNNT, TDT, SPARSE], ids=["rnnt", "tdt", "sparse"])
@pytest.mark.parametrize("max_symbols", [1, 2, 10, None])
@pytest.mark.parametrize("bias", [-1.0, 1.5, 4.0])
def test_equals_the_slow_decoder(
    durations: tuple[int, ...], max_symbols: int | None, bias: float
) -> None:
    for seed, lengths in enumerate([[37, 0, 90, 1, 64, 12], [33], [3, 7, 7], [0, 0]]):
        encodings = _batch(lengths, seed)
        networks = _networks(durations, bias, seed)
        hypotheses, state = _decode(encodings, lengths, networks, durations, max_symbols)
        assert state.steps.tolist() == lengths
        for row, length, hypothesis in zip(encodings, lengths, hypotheses, strict=True):
            expected = slow_transducer(row[:length], *networks, durations, max_symbols)
            assert hypothesis.ids == tuple(e.id for e in expected)
            assert hypothesis.starts == tuple(e.start for e in expected)
            assert hypothesis.ends == tuple(e.start + max(1, e.duration) for e in expected)
            assert hypothesis.durations == (
                tuple(e.duration for e in expected) if durations else ()
            )
            assert hypothesis.confidences == pytest.approx([e.confidence for e in expected])
            assert hypothesis.score == pytest.approx(sum(e.log_prob for e in expected))
            assert hypothesis.steps == length
            assert hypothesis.head == ("tdt" if durations else "rnnt")


@pytest.mark.parametrize("durations", [RNNT, TDT, SPARSE], ids=["rnnt", "tdt", "sparse"])
@pytest.mark.parametrize("max_symbols", [1, 2, 10])
@pytest.mark.parametrize("bias", [-1.0, 2.0])
def test_chunks_with_the_state_carried_equal_one_call(
    durations: tuple[int, ...], max_symbols: int, bias: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    for seed in range(8):
        encodings = _batch([40, 40, 40], seed)
        networks = _networks(durations, bias, seed)
        whole, end = _decode(encodings, [40, 40, 40], networks, durations, max_symbols)
        # Every row has its own cuts, so that chunks of different lengths share a batch.
        cuts = torch.randint(0, 41, (3, 3), generator=generator).sort(dim=1).values
        edges = torch.cat([torch.zeros(3, 1, dtype=torch.int64), cuts], dim=1)
        edges = torch.cat([edges, torch.full((3, 1), 40)], dim=1)
        state: TransducerState | None = None
        parts: list[list[Hypothesis]] = []
        for piece in range(4):
            starts, stops = edges[:, piece], edges[:, piece + 1]
            lengths = (stops - starts).tolist()
            chunk = torch.zeros(3, max(lengths), 1)
            for row in range(3):
                chunk[row, : lengths[row]] = encodings[row, starts[row] : stops[row]]
            before = None if state is None else restored(state)
            hypotheses, after = _decode(chunk, lengths, networks, durations, max_symbols, state)
            if state is not None and before is not None:
                assert_same_state(state, before)  # the old state is still good
            state = after
            parts.append(hypotheses)
        assert state is not None
        for row, expected in enumerate(whole):
            assert sum((p[row].ids for p in parts), ()) == expected.ids
            assert sum((p[row].starts for p in parts), ()) == expected.starts
            assert sum((p[row].durations for p in parts), ()) == expected.durations
            assert sum(p[row].score for p in parts) == pytest.approx(expected.score)
        assert torch.equal(state.prediction, end.prediction)
        assert torch.equal(state.skip, end.skip)
        assert torch.equal(state.steps, end.steps)


@pytest.mark.parametrize("durations", [RNNT, TDT, SPARSE], ids=["rnnt", "tdt", "sparse"])
@pytest.mark.parametrize("seed", range(10))
def test_streams_that_come_and_go_at_random_equal_one_call(
    durations: tuple[int, ...], seed: int
) -> None:
    """Rows of different positions share a batch; empty chunks and single steps are among them."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [40, 0, 1, 23, 40]
    encodings = _batch(lengths, seed)
    networks = _networks(durations, 0.0, seed)
    whole, end = _decode(encodings, lengths, networks, durations, 10)
    assert sum(len(h.ids) for h in whole) > 20
    head = transducer.Transducer(*networks, BLANK, durations, max_symbols=10)
    parts, state = decode_in_chunks(
        lambda chunk, steps, state: transducer.greedy(head, chunk, steps, state=state),
        encodings,
        [random_cuts(length, generator) for length in lengths],
        transducer.initial_state(head, encodings),
        generator,
    )
    for own, expected in zip(parts, whole, strict=True):
        found = joined(own)
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert replace(found, score=expected.score) == expected
    assert_same_state(state, end)


@pytest.mark.parametrize("durations", [RNNT, TDT], ids=["rnnt", "tdt"])
def test_an_empty_chunk_changes_nothing(durations: tuple[int, ...]) -> None:
    networks = _networks(durations, 2.0, 1)
    encodings = _batch([9, 9], 1)
    _, state = _decode(encodings, [9, 9], networks, durations, 10)
    (first, second), after = _decode(encodings[:, :0], [0, 0], networks, durations, 10, state)
    assert (first.ids, first.score, first.steps) == (second.ids, 0.0, 9) == ((), 0.0, 9)
    assert_same_state(after, state)


def test_rows_are_copied_out_and_put_back() -> None:
    networks = _networks(TDT, 2.0, 1)
    _, state = _decode(_batch([9, 5, 7], 1), [9, 5, 7], networks, TDT, 10)
    before = restored(state)
    part = state.select([2, 0])
    assert part.steps.tolist() == [7, 9]
    changed = state.put([0, 1], part)
    assert changed.steps.tolist() == [7, 9, 7]
    assert_same_state(changed.select([1, 0]), state.select([0, 2]))
    assert_same_state(changed.select([2]), state.select([2]))
    assert state.select([]).steps.tolist() == []
    part.prediction.zero_()
    part.steps.zero_()
    assert_same_state(state, before)


@pytest.mark.parametrize("durations", [RNNT, TDT], ids=["rnnt", "tdt"])
def test_the_batch_changes_nothing(durations: tuple[int, ...]) -> None:
    lengths = [50, 3, 29, 0, 41]
    encodings = _batch(lengths, 5)
    networks = _networks(durations, 2.0, 5)
    together, _ = _decode(encodings, lengths, networks, durations, 10)
    for row, length in enumerate(lengths):
        alone, _ = _decode(encodings[row : row + 1, :length], [length], networks, durations, 10)
        assert alone[0].ids == together[row].ids
        assert alone[0].starts == together[row].starts
        assert alone[0].durations == together[row].durations


def test_predictor_runs_once_a_token_and_blanks_are_read_in_blocks() -> None:
    encodings = _batch([1000], 0)
    silent = _networks(RNNT, 100.0, 0)
    hypotheses, _ = _decode(encodings, [1000], silent, RNNT, 10)
    assert hypotheses[0].ids == ()
    assert silent[0].calls == 1  # the blank that stands before the first token
    assert silent[1].steps_read == 1000

    talking = _networks(RNNT, 2.0, 0)
    hypotheses, _ = _decode(encodings, [1000], talking, RNNT, 10)
    assert talking[0].calls == 1 + len(hypotheses[0].ids) > 100


def test_rows_do_not_wait_for_each_other() -> None:
    """A batch takes no more rounds than its slowest row has tokens and blocks of blanks."""
    lengths = [300] * 8
    networks = _networks(RNNT, 2.5, 3)
    hypotheses, _ = _decode(_batch(lengths, 3), lengths, networks, RNNT, 10)
    tokens = [len(h.ids) for h in hypotheses]
    assert networks[0].calls - 1 <= max(tokens) + 300 // 4 < sum(tokens) / 2


def _real(durations: tuple[int, ...], kind: Literal["lstm", "stateless"]) -> transducer.Transducer:
    torch.manual_seed(0)
    predictor = build_predictor(PredictorConfig(BLANK, hidden=16, layers=2, kind=kind)).eval()
    joint = Joint(JointConfig(8, 16, 24, BLANK + 1 + len(durations), "tanh")).eval()
    with torch.no_grad():
        joint.out.weight.mul_(8)
    return transducer.Transducer(predictor, joint, BLANK, durations, max_symbols=3)


@pytest.mark.parametrize("durations", [RNNT, TDT], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("kind", ["lstm", "stateless"])
def test_real_networks_at_random_cuts(
    durations: tuple[int, ...], kind: Literal["lstm", "stateless"]
) -> None:
    """Both predictors' memories are saved and restored with as many tensors as they have."""
    head = _real(durations, kind)
    lengths = [50, 31, 0, 44]
    encodings = 2 * torch.randn(4, 50, 8, generator=torch.Generator().manual_seed(1))
    whole, end = transducer.greedy(head, encodings, torch.tensor(lengths))
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        parts, state = decode_in_chunks(
            lambda chunk, steps, state: transducer.greedy(head, chunk, steps, state=state),
            encodings,
            [random_cuts(length, generator, most=20) for length in lengths],
            transducer.initial_state(head, encodings),
            generator,
        )
        for own, expected in zip(parts, whole, strict=True):
            found = joined(own)
            assert (found.ids, found.starts) == (expected.ids, expected.starts)
            assert (found.ends, found.durations) == (expected.ends, expected.durations)
            assert found.confidences == pytest.approx(expected.confidences, abs=1e-4)
            assert found.score == pytest.approx(expected.score, abs=1e-3)
        assert len(state.memory) == len(end.memory)
        assert_same_state(state, end)


@pytest.mark.parametrize("durations", [RNNT, TDT], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("kind", ["lstm", "stateless"])
def test_real_networks_in_chunks_and_batches(
    durations: tuple[int, ...], kind: Literal["lstm", "stateless"]
) -> None:
    """The real predictors' states are picked, written back and carried along."""
    head = _real(durations, kind)
    networks: Any = (head.predictor, head.joint)
    encodings = 2 * torch.randn(4, 50, 8)
    lengths = [50, 31, 0, 44]
    together, end = _decode(encodings, lengths, networks, durations, 3)
    assert sum(len(h.ids) for h in together) > 30
    cut = [20, 31, 0, 13]
    first, state = _decode(encodings[:, :31], cut, networks, durations, 3)
    rest = torch.zeros(4, 31, 8)
    for row in range(4):
        rest[row, : lengths[row] - cut[row]] = encodings[row, cut[row] : lengths[row]]
    second, state = _decode(
        rest, [a - b for a, b in zip(lengths, cut, strict=True)], networks, durations, 3, state
    )
    for row, length in enumerate(lengths):
        alone, _ = _decode(encodings[row : row + 1, :length], [length], networks, durations, 3)
        assert alone[0].ids == together[row].ids == first[row].ids + second[row].ids
        assert alone[0].starts == together[row].starts == first[row].starts + second[row].starts
    torch.testing.assert_close(state.prediction, end.prediction)
    for mine, other in zip(state.memory, end.memory, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("durations", [RNNT, TDT], ids=["rnnt", "tdt"])
def test_on_cuda(durations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    predictor = Predictor(PredictorConfig(BLANK, hidden=16)).eval()
    joint = Joint(JointConfig(8, 16, 24, BLANK + 1 + len(durations))).eval()
    with torch.no_grad():
        joint.out.weight.mul_(8)
    encodings, lengths = 2 * torch.randn(3, 60, 8), [60, 0, 41]
    expected, _ = _decode(encodings, lengths, (predictor, joint), durations, 3)  # type: ignore[arg-type]
    networks: Any = (predictor.cuda(), joint.cuda())
    head = transducer.Transducer(*networks, BLANK, durations, max_symbols=3)
    found, state = transducer.greedy(head, encodings.cuda(), torch.tensor(lengths).cuda())
    assert [h.ids for h in found] == [h.ids for h in expected]
    assert [h.starts for h in found] == [h.starts for h in expected]
    assert state.prediction.is_cuda


def test_half_precision() -> None:
    torch.manual_seed(0)
    predictor = Predictor(PredictorConfig(BLANK, hidden=16)).eval().bfloat16()
    joint = Joint(JointConfig(8, 16, 24, BLANK + 1)).eval().bfloat16()
    networks: Any = (predictor, joint)
    (found,), state = _decode(torch.randn(1, 40, 8).bfloat16(), [40], networks, RNNT, 3)
    assert state.prediction.dtype == torch.bfloat16
    assert len(found.confidences) == len(found.ids) > 0
    assert all(0 <= sure <= 1 for sure in found.confidences)


def test_many_tokens_are_scored_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = _networks(TDT, 1.0, 2)
    encodings = _batch([80, 60], 2)
    expected, _ = _decode(encodings, [80, 60], networks, TDT, 10)
    monkeypatch.setattr(transducer, "PENDING_VALUES", 20)
    found, _ = _decode(encodings, [80, 60], networks, TDT, 10)
    for a, b in zip(found, expected, strict=True):
        assert a.ids == b.ids
        assert a.confidences == pytest.approx(b.confidences)
        assert a.score == pytest.approx(b.score)
