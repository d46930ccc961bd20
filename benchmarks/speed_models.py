"""Write the models that `speed.py` runs: a FastConformer of 115 M parameters, CTC and RNNT.

    python benchmarks/speed_models.py FOLDER

Random weights, calibrated to the token rate of real speech; each as a `.nemo` file by NeMo itself
and as a folder for Transformers, with the same weights. Needs nemo-toolkit and transformers.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from goldens import huggingface, inputs
from goldens import nemo_models as nm
from goldens import nemo_record as rec

PIECES = 1024
RATE = (3.0, 4.0)  # tokens a second
LARGE = {
    "d_model": 512,
    "n_heads": 8,
    "n_layers": 17,
    "ff_expansion_factor": 4,
    "subsampling_conv_channels": 256,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder.resolve()
    clips = [inputs.speech_like(15.0, seed) for seed in range(3)]
    text = pseudo_words(6000)
    plain = inputs.sentencepiece_folder(folder / "tokenizers" / "plain", text, PIECES)
    padded = inputs.sentencepiece_folder(folder / "tokenizers" / "padded", text, PIECES, pad=True)
    encoder, front = nm.conformer(**LARGE), nm.preprocessor()
    write(folder, "ctc", nm.ctc(encoder, front, tokenizer=nm.spm(plain)), clips)
    # A random transducer emits in bursts; bounded so, its tokens are spread over time like speech.
    sizes = {"hidden": 640, "joint_hidden": 640, "max_symbols": 2}
    write(folder, "rnnt", nm.transducer(encoder, front, tokenizer=nm.spm(padded), **sizes), clips)


def write(folder: Path, head: str, config: nm.Config, clips: list[np.ndarray]) -> None:
    """Build, calibrate, and save in both forms, unless that was done before."""
    if (folder / f"{head}_hf").is_dir():
        return
    model = nm.build(config, 0)
    nm.enliven(model, clips)
    encoded = [rec.encode(model, [clip])[2:] for clip in clips]
    found = calibrate(model, encoded)
    model.save_to(str(folder / f"{head}.nemo"))
    golden = huggingface.Golden(lambda t: config, "parakeet", "Parakeet", head.upper())
    sized = {**config, "vocabulary_size": PIECES}
    huggingface.export(model, sized, golden).save_pretrained(folder / f"{head}_hf")
    tokenizer = Path(config["tokenizer"]["dir"])
    huggingface.processor(config, golden, tokenizer).save_pretrained(folder / f"{head}_hf")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{head}: {millions:.1f} M parameters, {found:.2f} tokens/s", flush=True)


def calibrate(model: Any, encoded: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Move the blank's bias until tokens come at `RATE`; gives the rate."""
    blank = _blank_bias(model)
    start = blank.item()
    below, above = -30.0, 30.0
    for _ in range(20):
        middle = (below + above) / 2
        blank.fill_(start + middle)
        found = token_rate(model, encoded)
        if RATE[0] <= found <= RATE[1]:
            break
        below, above = (middle, above) if found > RATE[1] else (below, middle)
    return found


def token_rate(model: Any, encoded: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Tokens a second that the model's greedy decoder emits; a step is 80 ms."""
    total, steps = 0, 0
    for encodings, lengths in encoded:
        steps += int(lengths)
        if hasattr(model, "joint"):
            total += len(rec.transducer_hypotheses(model, encodings, lengths)[0].y_sequence)
            continue
        best = rec.ctc_hypotheses(model, encodings, lengths)[0][0].argmax(-1)
        fresh = torch.diff(best, prepend=best[:1] * 0 + PIECES) != 0
        total += int((fresh & (best != PIECES)).sum())
    return total / (0.08 * steps)


def pseudo_words(count: int) -> str:
    """Enough made-up words for a tokenizer of a thousand pieces; equal on every run."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprstvw" for b in "aeiou" for c in ("", "n", "r", "s")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(count)]
    return "\n".join(" ".join(words[i : i + 12]) for i in range(0, count, 12))


def _blank_bias(model: Any) -> torch.Tensor:
    layer = (
        model.joint.joint_net[-1] if hasattr(model, "joint") else model.decoder.decoder_layers[0]
    )
    bias: torch.Tensor = layer.bias.data[PIECES]
    return bias


if __name__ == "__main__":
    main()
