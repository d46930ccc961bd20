"""Which device holds which stages' models, by their memory; knows no model and no device."""

from __future__ import annotations

from collections.abc import Mapping

from auricle.errors import ConfigError

SPARE = 0.1  # of a device, for what batches take beside the models


def packed(needs: Mapping[str, float], capacity: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """For each stage the devices that hold it, so that what is on a device fits there at once.

    Every stage stands on one device first, the largest first, where most is free; then further
    copies take what is left, so that stages with fewer copies come first.

    Args:
        needs: GB that a stage's models take.
        capacity: GB of each device.

    Raises:
        ConfigError: A stage that fits on no device, or stages that do not fit together.
    """
    free = {device: size * (1 - SPARE) for device, size in capacity.items()}
    placed: dict[str, list[str]] = {stage: [] for stage in needs}

    def put(stage: str, device: str) -> None:
        placed[stage].append(device)
        free[device] -= needs[stage]

    for stage in sorted(needs, key=lambda stage: (-needs[stage], stage)):
        device = max(free, key=lambda device: free[device])
        if needs[stage] > free[device]:
            raise ConfigError(_refusal(stage, needs, capacity))
        put(stage, device)
    for device in capacity:
        missing = [stage for stage in needs if device not in placed[stage]]
        for stage in sorted(missing, key=lambda stage: (len(placed[stage]), stage)):
            if needs[stage] <= free[device]:
                put(stage, device)
    order = list(capacity)
    return {stage: tuple(sorted(on, key=order.index)) for stage, on in placed.items()}


def _refusal(stage: str, needs: Mapping[str, float], capacity: Mapping[str, float]) -> str:
    sizes = ", ".join(f"{device} with {size:.1f} GB" for device, size in capacity.items())
    if needs[stage] > max(capacity.values()) * (1 - SPARE):
        what = f"{stage} needs {needs[stage]:.1f} GB"
    else:
        what = f"the models need {sum(needs.values()):.1f} GB together"
    return (
        f"{what}, and there is {sizes}, of which {SPARE:.0%} is kept for batches: take smaller "
        "models or precision, or more devices"
    )
