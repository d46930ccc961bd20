"""Transducer decoding alone: Auricle's loop against NeMo's label looping, same random weights.

    python benchmarks/decode.py [--tdt] [--threads 1] [--batch 1 4 16] [--seconds 60]

Sizes are those of a 115M FastConformer (LSTM and joint 640 wide, 1024 tokens, 12.5 steps a second).
The blank's bias is set so that about `--rate` tokens are emitted per second of speech. Where
nemo-toolkit is not installed only Auricle is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from auricle.decoding import Hypothesis, transducer
from auricle.decoding.transducer import Transducer
from auricle.models.heads import Joint, JointConfig, Predictor, PredictorConfig

VOCABULARY, WIDTH, ENCODER = 1024, 640, 512
STEPS_PER_SECOND = 12.5
DURATIONS = (0, 1, 2, 3, 4)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    durations = DURATIONS if arguments.tdt else ()
    predictor, joint = _networks(durations)
    head = Transducer(predictor, joint, VOCABULARY, durations, max_symbols=10)
    steps = int(arguments.seconds * STEPS_PER_SECOND)
    noise = torch.randn(max(arguments.batch), steps, ENCODER)
    encodings = noise + 0.7 * noise.roll(1, dims=1)  # neighbouring steps are alike in speech
    _calibrate(head, encodings[:2], joint.out.bias[VOCABULARY], arguments.rate)
    predictor.premultiply()
    reference = _nemo(predictor, joint, durations)
    for batch in arguments.batch:
        rows, lengths = encodings[:batch], torch.full((batch,), steps)
        own = partial(_greedy, head, rows, lengths)
        found, ours = own(), _seconds(own)
        tokens = sum(len(h.ids) for h in found)
        line = f"batch {batch:3}  {tokens / batch / arguments.seconds:.2f} tokens/s  "
        line += f"auricle {1e3 * ours:7.1f} ms ({1e6 * ours / tokens:.0f} us a token)"
        if reference is not None:
            run = partial(reference, rows.transpose(1, 2).contiguous(), lengths)  # [B, D, T]
            same = [h.ids == tuple(map(int, t)) for h, t in zip(found, run(), strict=True)]
            theirs = _seconds(run, repeats=5)
            line += f"  NeMo {1e3 * theirs:7.1f} ms  x{theirs / ours:.1f}  same ids: {all(same)}"
        print(line, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tdt", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=3.5)
    return parser.parse_args()


def _networks(durations: Sequence[int]) -> tuple[Predictor, Joint]:
    torch.manual_seed(1)
    predictor = Predictor(PredictorConfig(VOCABULARY, WIDTH))
    outputs = VOCABULARY + 1 + len(durations)
    joint = Joint(JointConfig(ENCODER, WIDTH, WIDTH, outputs))
    with torch.no_grad():
        predictor.embed.weight.normal_()
        predictor.embed.weight[VOCABULARY] = 0
        for weight in predictor.lstm.parameters():
            weight.mul_(2)
    return predictor.eval(), joint.eval()


def _greedy(head: Transducer, encodings: Tensor, lengths: Tensor) -> list[Hypothesis]:
    hypotheses, _ = transducer.greedy(head, encodings, lengths)
    return hypotheses


@torch.inference_mode()
def _calibrate(head: Transducer, encodings: Tensor, blank_bias: Tensor, rate: float) -> None:
    """Find by bisection the blank's bias that gives `rate` tokens per second."""
    low, high = 0.0, 10.0
    lengths = torch.full((len(encodings),), encodings.shape[1])
    seconds = len(encodings) * encodings.shape[1] / STEPS_PER_SECOND
    for _ in range(14):
        middle = (low + high) / 2
        blank_bias.fill_(middle)
        found = _greedy(head, encodings, lengths)
        if sum(len(h.ids) for h in found) > rate * seconds:
            low = middle
        else:
            high = middle


def _seconds(run: Callable[[], Any], repeats: int = 15) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)  # what else the machine does only adds


def _nemo(
    predictor: Predictor, joint: Joint, durations: Sequence[int]
) -> Callable[[Tensor, Tensor], list[Tensor]] | None:
    """NeMo's `greedy_batch` over the same weights; None where NeMo is not installed."""
    try:
        from nemo.collections.asr.modules import RNNTDecoder, RNNTJoint
        from nemo.collections.asr.parts.submodules import rnnt_greedy_decoding
    except ImportError:
        return None
    decoder = RNNTDecoder(
        prednet={"pred_hidden": WIDTH, "pred_rnn_layers": 1}, vocab_size=VOCABULARY
    )
    weights = predictor.state_dict()
    names = {"embed.weight": "prediction.embed.weight"}
    decoder.load_state_dict(
        {names.get(k, f"prediction.dec_rnn.{k}"): v for k, v in weights.items()}
    )
    network = {"encoder_hidden": ENCODER, "pred_hidden": WIDTH, "joint_hidden": WIDTH}
    theirs = RNNTJoint(
        jointnet={**network, "activation": "relu"},
        num_classes=VOCABULARY,
        num_extra_outputs=len(durations),
    )
    last = len(theirs.joint_net) - 1
    theirs.load_state_dict(
        {k.replace("out.", f"joint_net.{last}."): v for k, v in joint.state_dict().items()}
    )
    options = {"blank_index": VOCABULARY, "max_symbols_per_step": 10}
    if durations:
        infer = rnnt_greedy_decoding.GreedyBatchedTDTInfer(
            decoder.eval(), theirs.eval(), durations=list(durations), **options
        )
    else:
        infer = rnnt_greedy_decoding.GreedyBatchedRNNTInfer(
            decoder.eval(), theirs.eval(), **options
        )

    @torch.inference_mode()
    def run(features: Tensor, lengths: Tensor) -> list[Tensor]:
        (hypotheses,) = infer(encoder_output=features, encoded_lengths=lengths)
        return [h.y_sequence for h in hypotheses]

    return run


if __name__ == "__main__":
    main()
