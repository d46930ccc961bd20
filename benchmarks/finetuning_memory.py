"""Peak memory of one fp32 step on Parakeet CTC 0.6b's shape: all of it, by LoRA, layers twice.

    python benchmarks/finetuning_memory.py

Random weights, a clip of 10 s, AdamW; each way in a process of its own that reads the same
checkpoint. Peak memory is less what the process had before it read it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from speed_worker import memory

SECONDS, TOKENS = 10, 40
AGAIN = "train.gradient_checkpointing=true"
WAYS = {
    "all of it": ("parakeet_ctc_0.6b_sft",),
    "all of it, layers computed twice": ("parakeet_ctc_0.6b_sft", AGAIN),
    "LoRA, rank 16": ("parakeet_ctc_0.6b_lora",),
    "LoRA, rank 16, layers computed twice": ("parakeet_ctc_0.6b_lora", AGAIN),
}


def main() -> None:
    """A row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", nargs="+", help="(a worker) model, recipe and changes")
    if (words := parser.parse_args().step) is not None:
        print(json.dumps(step(*words)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model")
        print("| | peak, GB | of all | parameters that move |\n|---|---|---|---|")
        whole = None
        for name, words in WAYS.items():
            command = [sys.executable, __file__, "--step", f"{folder}/model", *words]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            found = json.loads(said.splitlines()[-1])
            whole = whole or found["peak"]
            share = f"{100 * found['moving'] / found['parameters']:.2f} %"
            ratio = f"{100 * found['peak'] / whole:.0f} %"
            print(f"| {name} | {found['peak']:.2f} | {ratio} | {share} |", flush=True)


def write_model(folder: Path) -> None:
    """A checkpoint of the shape with random weights."""
    from auricle import checkpoints
    from auricle.checkpoints import Checkpoint
    from auricle.features import LogMelConfig
    from auricle.models.asr import ASR, ModelConfig
    from auricle.models.conformer import ConformerConfig
    from auricle.tokenizers import CharTokenizer

    encoder = ConformerConfig(
        feat_in=80,
        n_layers=24,
        d_model=1024,
        n_heads=8,
        subsampling="dw_striding",
        subsampling_factor=8,
        subsampling_conv_channels=256,
        conv_kernel_size=9,
        xscaling=False,
        use_bias=True,
    )
    pieces = tuple(chr(0x4E00 + number) for number in range(1024))
    config = ModelConfig(LogMelConfig(n_mels=80), encoder, len(pieces), ctc=True, transducer=None)
    tensors = ASR(config).state_dict()
    checkpoints.save(Checkpoint(config, CharTokenizer(pieces), tensors, "random"), folder)


def step(model: str, recipe: str, *changes: str) -> dict[str, float]:
    """One step of a training; gigabytes and counts."""
    import torch

    from auricle.training.adapting import rates
    from auricle.training.optimizing import build_optimizer
    from auricle.training.progress import Silent
    from auricle.training.reading import load_recipe
    from auricle.training.starting import trainee_of

    said = load_recipe(recipe, [f"init_from={model}", *changes])
    torch.manual_seed(0)
    before = memory("VmRSS")
    objective = trainee_of(said, None, Silent()).objective.train()
    optimizer = build_optimizer(objective.model, said.optimizer, rates(objective.model, said.adapt))
    features = torch.randn(1, 80, 100 * SECONDS)
    tokens = torch.randint(0, 1024, (1, TOKENS))
    frames, lengths = torch.tensor([100 * SECONDS]), torch.tensor([TOKENS])
    objective(features, frames, tokens, lengths)["loss"].backward()
    optimizer.step()
    parameters = list(objective.model.parameters())
    return {
        "peak": memory("VmHWM") - before,
        "parameters": sum(p.numel() for p in parameters),
        "moving": sum(p.numel() for p in parameters if p.requires_grad),
    }


if __name__ == "__main__":
    main()
