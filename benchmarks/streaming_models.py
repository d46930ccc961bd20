"""Write the model that `streaming.py` runs: a cache-aware FastConformer RNNT of 115 M parameters.

    python benchmarks/streaming_models.py FOLDER

Random weights in the shape of the published streaming checkpoints, calibrated to the token rate
of real speech over its four lookaheads; a `.nemo` file by NeMo itself. Needs nemo-toolkit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from goldens import inputs
from goldens import nemo_models as nm
from goldens import nemo_record as rec
from speed_models import LARGE, PIECES, calibrate, pseudo_words

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
    folder: Path = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pieces = folder / "tokenizers" / "padded"
    tokenizer = inputs.sentencepiece_folder(pieces, pseudo_words(6000), PIECES, pad=True)
    encoder = nm.conformer(**LARGE, **STREAMED)
    # A random transducer emits in bursts; bounded so, its tokens are spread over time like speech.
    sizes = {"hidden": 640, "joint_hidden": 640, "max_symbols": 2}
    front = nm.preprocessor(normalize="NA")
    model = nm.build(nm.transducer(encoder, front, tokenizer=nm.spm(tokenizer), **sizes), 0)
    clips = [inputs.speech_like(15.0, seed) for seed in range(3)]
    nm.enliven(model, clips)
    encoded = []
    for context in CONTEXTS:
        model.encoder.set_default_att_context_size(context)
        encoded += [rec.encode(model, [clip])[2:] for clip in clips]
    found = calibrate(model, encoded)
    model.encoder.set_default_att_context_size(CONTEXTS[0])
    model.save_to(str(folder / "streaming_rnnt.nemo"))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"streaming_rnnt: {millions:.1f} M parameters, {found:.2f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
