"""Our confidence measures against NeMo's own functions."""

from __future__ import annotations

import pytest
import torch

from auricle.decoding.confidence import entropy, max_prob

bank = pytest.importorskip(
    "nemo.collections.asr.parts.utils.asr_confidence_utils", reason="needs nemo-toolkit"
)

pytestmark = pytest.mark.parity
NAMES = (
    "max_prob",
    *(f"entropy_{k}_{n}" for k in ("gibbs", "tsallis", "renyi") for n in ("lin", "exp")),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.2, 0.33, 0.9, 1.0, 1.3])
@pytest.mark.parametrize("size", [2, 29, 1025])
def test_measure(name: str, alpha: float, size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(50, size, generator=generator, dtype=torch.float64)
    x = logits.log_softmax(dim=-1)
    expected = bank.get_confidence_measure_bank()[name](x, size, alpha)
    if name == "max_prob":
        found = max_prob(x, alpha)
    else:
        _, kind, norm = name.split("_")
        found = entropy(kind, alpha=alpha, norm=norm)(x)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
