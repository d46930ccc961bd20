"""Write the model that `streaming.py` runs: a cache-aware FastConformer RNNT of 115 M parameters.

    python benchmarks/streaming_models.py FOLDER CLIPS.npz

Random weights in the shape of the published streaming checkpoints, calibrated on the benchmark's
own clips to the token rate of real speech, on average over the four lookaheads; a `.nemo` file by
NeMo itself. Needs nemo-toolkit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import numpy as np
import torch
from goldens import inputs
from goldens import nemo_models as nm
from goldens import nemo_record as rec
from speed_models import LARGE, PIECES, calibrate, pseudo_words

Encoded = tuple[torch.Tensor, torch.Tensor]

CLIPS, SECONDS = 2, 30
CONTEXTS = [[70, 13], [70, 6], [70, 1], [70, 0]]
STREAMED = {
    "causal_downsampling": True,
    "att_context_size": CONTEXTS,
    "att_context_style": "chunked_limited",
    "conv_norm_type": "layer_norm",
    "conv_context_size": "causal",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("clips", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    with np.load(arguments.clips) as archive:
        whole = np.concatenate([archive[name] for name in archive.files])
    clips = np.split(whole[: CLIPS * SECONDS * 16000], CLIPS)
    pieces = folder / "tokenizers" / "padded"
    tokenizer = inputs.sentencepiece_folder(pieces, pseudo_words(6000), PIECES, pad=True)
    encoder = nm.conformer(**LARGE, **STREAMED)
    # A random transducer emits in bursts; bounded so, its tokens are spread over time like speech.
    sizes = {"hidden": 640, "joint_hidden": 640, "max_symbols": 2}
    front = nm.preprocessor(normalize="NA")
    model = nm.build(nm.transducer(encoder, front, tokenizer=nm.spm(tokenizer), **sizes), 0)
    encoded = steady_encodings(model, clips)
    nm.enliven_heads(model, torch.cat([encodings[0] for encodings, _ in encoded], dim=1).T)
    found = calibrate(model, encoded)
    model.encoder.set_default_att_context_size(CONTEXTS[0])
    model.save_to(str(folder / "streaming_rnnt.nemo"))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"streaming_rnnt: {millions:.1f} M parameters, {found:.2f} tokens/s", flush=True)


def steady_encodings(model: Any, clips: Sequence[np.ndarray]) -> list[Encoded]:
    """Encodings of each clip under each context, without the beginning.

    There a random encoder differs much more from step to step than when its window is full: heads
    made for both speak in the first seconds and never again.
    """
    found = []
    for context in CONTEXTS:
        model.encoder.set_default_att_context_size(context)
        for clip in clips:
            encodings, lengths = rec.encode(model, [clip])[2:]  # [1, D, T]
            found.append((encodings[:, :, context[0] :], lengths - context[0]))
    return found


if __name__ == "__main__":
    main()
