"""How figures are told to people."""

from __future__ import annotations


def percent(share: float) -> str:
    """0.4 %, 12.3 %, 100 %: never 0 for something, nor 100 for less than all."""
    value = 100 * share
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 <= value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %" if value < 100 and value else f"{value:.0f} %"


def span(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
