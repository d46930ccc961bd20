"""NeMo's parameter names and ours, both ways. Below the encoder they are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from auricle.models.asr import ModelConfig

# Ours, and theirs as a pattern: the joint's last layer is number 1 without dropout, 2 with it.
_TABLE = (
    ("features.window", r"preprocessor\.featurizer\.window"),
    ("features.filterbank", r"preprocessor\.featurizer\.fb"),
    ("ctc.", r"(?:ctc_)?decoder\.decoder_layers\.0\."),
    ("predictor.lstm.", r"decoder\.prediction\.dec_rnn\.lstm\."),
    ("predictor.", r"decoder\.prediction\."),
    ("joint.out.", r"joint\.joint_net\.[12]\."),
)
_FROM_NEMO = tuple((re.compile(f"^{theirs}"), ours) for ours, theirs in _TABLE)

# The front end of 2021, when torchaudio made the features.
_OLD_WINDOW = "preprocessor.featurizer._mel_spec_extractor.spectrogram.window"
_OLD_FILTERBANK = "preprocessor.featurizer._mel_spec_extractor.mel_scale.fb"

# Position tables, and the front end's marker of its dtype: computed, yet saved by some versions.
_COMPUTED = re.compile(
    r"^(encoder\.pos_enc\..*|preprocessor\.(featurizer\.)?dtype_sentinel_tensor"
    r"|encoder\.seq_range|.*\._extra_state)$"
)


def from_nemo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and shapes; keys that are not known keep their name, for the check to find."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if _COMPUTED.match(key):
            continue
        if key == _OLD_WINDOW:
            tensors["features.window"] = value
        elif key == _OLD_FILTERBANK and value.ndim == 2:  # [F, M]
            tensors["features.filterbank"] = value.T.contiguous()  # [M, F]
        else:
            ours = _renamed(key)
            tensors[ours] = _our_shape(ours, value)
    return tensors


def to_nemo(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The state dict of NeMo's class for `config`."""
    hybrid = config.ctc and config.transducer is not None
    joint = config.transducer.joint if config.transducer else None
    table = {
        "features.window": "preprocessor.featurizer.window",
        "features.filterbank": "preprocessor.featurizer.fb",
        "ctc.": f"{'ctc_' if hybrid else ''}decoder.decoder_layers.0.",
        "predictor.lstm.": "decoder.prediction.dec_rnn.lstm.",
        "predictor.": "decoder.prediction.",
        "joint.out.": f"joint.joint_net.{2 if joint and joint.dropout else 1}.",
    }
    state = {}
    for key, value in tensors.items():
        ours = next((prefix for prefix in table if key.startswith(prefix)), None)
        theirs = key if ours is None else table[ours] + key.removeprefix(ours)
        state[theirs] = _their_shape(key, value)
    return state


def _renamed(key: str) -> str:
    for pattern, ours in _FROM_NEMO:
        if pattern.match(key):
            return pattern.sub(ours, key)
    return key


def _our_shape(key: str, value: Tensor) -> Tensor:
    if key == "ctc.weight" and value.ndim == 3 and value.shape[2] == 1:
        return value[:, :, 0]  # [V+1, D, 1], a convolution of width one: [V+1, D]
    if key == "features.filterbank" and value.ndim == 3 and len(value) == 1:  # [1, M, F]
        return value[0]  # [M, F]
    return value


def _their_shape(key: str, value: Tensor) -> Tensor:
    if key == "ctc.weight":
        return value[:, :, None]  # [V+1, D, 1]
    if key == "features.filterbank":
        return value[None]  # [1, M, F]
    return value
