"""What goes through a pipeline, and what becomes of it.

An item is a manifest row: a dict that keeps the keys nobody here knows. It is never changed in
place; a step gives a new one. Whatever comes in is kept, filtered, quarantined or cut into others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Item = dict[str, Any]

ID = "item_id"
PARENT = "parent_id"


@dataclass(frozen=True, slots=True)
class Filtered:
    """An item that a step decided against. `reason` is short and counted; `detail` has values."""

    item: Item
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An item that could not be worked on: damaged sound, or the end of every worker it met."""

    item: Item
    reason: str
    detail: str = ""


Outcome = Item | Filtered | Quarantined


def canonical(value: Any) -> str:
    """JSON in one form only, so that equal values have equal bytes.

    Raises:
        TypeError, ValueError: It is not JSON, or holds NaN or an infinity.
    """
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )


def digest(*parts: Any) -> str:
    """32 hexadecimal digits that stand for the content of values."""
    content = "\n".join(canonical(part) for part in parts)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def child(item: Mapping[str, Any], number: int, **changes: Any) -> Item:
    """A new item, the `number`th of those that `item` is cut into."""
    return {**item, **changes, ID: f"{item[ID]}-{number:04d}", PARENT: item[ID]}
