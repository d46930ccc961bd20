"""One implementation in one process, asked by `rnnt_loss.py`; a JSON line an answer.

    python benchmarks/rnnt_loss_worker.py auricle|nemo|nemo-fused B,T,U,V THREADS

Every line on standard input is a forward and a backward of joint and RNNT loss on the same random
batch; the answer holds the seconds, the loss, the gradient's norm, and the peak of memory.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from speed_worker import answer, memory, open_answers

WIDTH = 640


def main() -> None:
    engine, sizes, threads = sys.argv[1:]
    answers = open_answers()
    import torch

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    batch, steps, length, vocabulary = map(int, sizes.split(","))
    encodings = torch.randn(batch, steps, WIDTH, requires_grad=True)
    predictions = torch.randn(batch, length + 1, WIDTH, requires_grad=True)
    tokens = torch.randint(0, vocabulary - 1, (batch, length))
    lengths = torch.full((batch,), steps), torch.full((batch,), length)
    weights = torch.randn(vocabulary, WIDTH) * WIDTH**-0.5
    leaves, loss, version = ENGINES[engine](weights, encodings, predictions, tokens, *lengths)
    before = memory("VmRSS")
    answer(answers, version=version, seconds=0.0)
    for _ in sys.stdin:
        for leaf in leaves:
            leaf.grad = None
        begun = time.perf_counter()
        value = loss()
        value.backward()
        seconds = time.perf_counter() - begun
        norm = sum(float(leaf.grad.double().square().sum()) for leaf in leaves) ** 0.5
        peak = memory("VmHWM") - before
        answer(answers, seconds=seconds, loss=float(value), norm=norm, peak=peak)


def auricle_loss(weights: Any, encodings: Any, predictions: Any, *batch: Any) -> Any:
    import auricle
    from auricle.models.heads import Joint, JointConfig
    from auricle.training.losses import transducer_loss

    joint = Joint(JointConfig(WIDTH, WIDTH, WIDTH, len(weights)))
    _set(joint.enc, joint.pred, joint.out, weights)

    def loss() -> Any:
        return transducer_loss(joint, encodings, predictions, *batch).mean()

    return [encodings, predictions, *joint.parameters()], loss, auricle.__version__


def nemo_loss(weights: Any, encodings: Any, predictions: Any, *batch: Any) -> Any:
    joint, criterion, version = _nemo(weights)
    tokens, steps, lengths = batch

    def loss() -> Any:
        logits = joint(
            encoder_outputs=encodings.transpose(1, 2), decoder_outputs=predictions.transpose(1, 2)
        )
        return criterion(
            log_probs=logits, targets=tokens, input_lengths=steps, target_lengths=lengths
        )

    return [encodings, predictions, *joint.parameters()], loss, version


def nemo_fused_loss(weights: Any, encodings: Any, predictions: Any, *batch: Any) -> Any:
    joint, criterion, version = _nemo(weights, fuse_loss_wer=True, fused_batch_size=2)
    tokens, steps, lengths = batch
    joint.set_loss(criterion)
    joint.set_wer(object())

    def loss() -> Any:
        found = joint(
            encoder_outputs=encodings.transpose(1, 2),
            decoder_outputs=predictions.transpose(1, 2),
            encoder_lengths=steps,
            transcripts=tokens,
            transcript_lengths=lengths,
            compute_wer=False,
        )
        return found[0]

    return [encodings, predictions, *joint.parameters()], loss, version


def _nemo(weights: Any, **options: Any) -> Any:
    import nemo
    from nemo.collections.asr.losses.rnnt import RNNTLoss
    from nemo.collections.asr.modules.rnnt import RNNTJoint
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.ERROR)
    net = {
        "encoder_hidden": WIDTH,
        "pred_hidden": WIDTH,
        "joint_hidden": WIDTH,
        "activation": "relu",
        "dropout": 0.0,
    }
    joint = RNNTJoint(net, num_classes=len(weights) - 1, log_softmax=None, **options)
    _set(joint.enc, joint.pred, joint.joint_net[-1], weights)
    criterion = RNNTLoss(len(weights) - 1, reduction="mean_batch", loss_name="warprnnt_numba")
    return joint, criterion, nemo.__version__


def _set(first: Any, second: Any, last: Any, weights: Any) -> None:
    """The same weights everywhere."""
    import torch

    with torch.no_grad():
        for layer in (first, second):
            layer.weight.copy_(torch.eye(WIDTH))
            layer.bias.zero_()
        last.weight.copy_(weights)
        last.bias.zero_()


ENGINES: dict[str, Callable[..., Any]] = {
    "auricle": auricle_loss,
    "nemo": nemo_loss,
    "nemo-fused": nemo_fused_loss,
}

if __name__ == "__main__":
    main()
