"""How reasons are told to people."""

from __future__ import annotations

import re

_SIGNS = {"lt": "≥", "le": ">", "ge": "<", "gt": "≤"}


def readable(reason: str) -> str:
    """A condition that did not hold, the other way round: `wer not le 0.5` is `wer > 0.5`."""
    return re.sub(r" not (lt|le|ge|gt) ", lambda found: f" {_SIGNS[found[1]]} ", reason)
