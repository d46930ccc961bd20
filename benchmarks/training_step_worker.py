"""One implementation in one process, asked by `training_step.py`; a JSON line an answer.

    python benchmarks/training_step_worker.py auricle|nemo B,SECONDS,U THREADS

Every line on standard input is a step of training (forward, backward, AdamW) on the same random
features and tokens; the answer holds the seconds, the loss, and the peak of memory.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from speed_worker import answer, memory, open_answers

MELS, VOCABULARY, WIDTH, LAYERS, HEADS, CHANNELS, PREDICTOR = 80, 1024, 176, 11, 4, 176, 320
DROPOUT, JOINT_DROPOUT = 0.1, 0.2


def main() -> None:
    engine, sizes, threads = sys.argv[1:]
    answers = open_answers()
    import torch

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    batch, seconds, length = map(int, sizes.split(","))
    features = torch.randn(batch, MELS, 100 * seconds)
    frames = torch.full((batch,), 100 * seconds)
    tokens = torch.randint(0, VOCABULARY, (batch, length))
    lengths = torch.full((batch,), length)
    parameters, loss, version = ENGINES[engine](features, frames, tokens, lengths)
    optimizer = torch.optim.AdamW(parameters, 1e-4)
    count = sum(parameter.numel() for parameter in parameters) / 1e6
    before = memory("VmRSS")
    answer(answers, version=f"{version} ({count:.1f} M)", seconds=0.0)
    for _ in sys.stdin:
        begun = time.perf_counter()
        optimizer.zero_grad()
        value = loss()
        value.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        optimizer.step()
        taken = time.perf_counter() - begun
        peak = memory("VmHWM") - before
        answer(answers, seconds=taken, loss=float(value), norm=norm, peak=peak)


def auricle_step(features: Any, frames: Any, tokens: Any, lengths: Any) -> Any:
    import auricle
    from auricle.features import LogMelConfig
    from auricle.models.asr import ASR, ModelConfig, TransducerConfig
    from auricle.models.conformer import ConformerConfig
    from auricle.models.heads import JointConfig, PredictorConfig
    from auricle.training.objective import Objective
    from auricle.training.recipe import LossRecipe

    encoder = ConformerConfig(
        feat_in=MELS,
        n_layers=LAYERS,
        d_model=WIDTH,
        subsampling="dw_striding",
        subsampling_factor=8,
        subsampling_conv_channels=CHANNELS,
        n_heads=HEADS,
        conv_kernel_size=9,
        xscaling=False,
        dropout=DROPOUT,
        dropout_pre_encoder=DROPOUT,
        dropout_emb=0.0,
        dropout_att=DROPOUT,
    )
    transducer = TransducerConfig(
        PredictorConfig(VOCABULARY, PREDICTOR, dropout=JOINT_DROPOUT),
        JointConfig(WIDTH, PREDICTOR, PREDICTOR, VOCABULARY + 1, dropout=JOINT_DROPOUT),
    )
    config = ModelConfig(
        LogMelConfig(n_mels=MELS), encoder, VOCABULARY, False, transducer, default_head="rnnt"
    )
    objective = Objective(ASR(config), LossRecipe()).train()

    def loss() -> Any:
        return objective(features, frames, tokens, lengths)["loss"] / len(features)

    return list(objective.parameters()), loss, auricle.__version__


def nemo_step(features: Any, frames: Any, tokens: Any, lengths: Any) -> Any:
    import nemo
    from nemo.collections.asr.losses.rnnt import RNNTLoss
    from nemo.collections.asr.modules import ConformerEncoder
    from nemo.collections.asr.modules.rnnt import RNNTDecoder, RNNTJoint
    from nemo.utils import logging as nemo_logging
    from torch import nn

    nemo_logging.setLevel(logging.ERROR)
    encoder = ConformerEncoder(
        feat_in=MELS,
        n_layers=LAYERS,
        d_model=WIDTH,
        subsampling="dw_striding",
        subsampling_factor=8,
        subsampling_conv_channels=CHANNELS,
        n_heads=HEADS,
        conv_kernel_size=9,
        xscaling=False,
        dropout=DROPOUT,
        dropout_pre_encoder=DROPOUT,
        dropout_emb=0.0,
        dropout_att=DROPOUT,
    )
    prediction = {"pred_hidden": PREDICTOR, "pred_rnn_layers": 1, "dropout": JOINT_DROPOUT}
    net = {
        "encoder_hidden": WIDTH,
        "pred_hidden": PREDICTOR,
        "joint_hidden": PREDICTOR,
        "activation": "relu",
        "dropout": JOINT_DROPOUT,
    }
    decoder = RNNTDecoder(prediction, vocab_size=VOCABULARY, blank_as_pad=True)
    joint = RNNTJoint(net, num_classes=VOCABULARY, log_softmax=None)
    criterion = RNNTLoss(VOCABULARY, reduction="mean_batch", loss_name="warprnnt_numba")
    modules = nn.ModuleList([encoder, decoder, joint]).train()

    def loss() -> Any:
        encoded, steps = encoder(audio_signal=features, length=frames)
        predicted, targets, _ = decoder(targets=tokens, target_length=lengths)
        logits = joint(encoder_outputs=encoded, decoder_outputs=predicted)
        return criterion(
            log_probs=logits, targets=tokens, input_lengths=steps, target_lengths=targets
        )

    return list(modules.parameters()), loss, nemo.__version__


ENGINES: dict[str, Callable[..., Any]] = {"auricle": auricle_step, "nemo": nemo_step}

if __name__ == "__main__":
    main()
