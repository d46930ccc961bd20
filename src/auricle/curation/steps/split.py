"""Train, dev and test without leaks: a speaker is in one part only, hours as were asked for."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from auricle.curation.items import Filtered, Item, Outcome, canonical
from auricle.curation.step import WholeExample, WholeStep
from auricle.errors import ConfigError

log = logging.getLogger("auricle")


@dataclass(frozen=True)
class Split(WholeStep):
    """Add `split`, the name of a part, to each item.

    Items that share the value of a key in `by` are in one part: with several keys, also those that
    are linked by a chain of them. `parts` are shares of the hours (of the items, where one has no
    `duration`). Speakers come in an order that `seed` draws; each goes to the part that is least
    full of those it fits into, and a part that would stay empty gets the smallest one there is.

    An item that has none of the keys is one with all that is of its recording (`recording`), or
    is filtered out as `no speaker` (`filter`).
    """

    by: str | tuple[str, ...] = "speaker"
    parts: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.9, "dev": 0.05, "test": 0.05}
    )
    seed: int = 0
    missing: Literal["recording", "filter"] = "recording"

    def __post_init__(self) -> None:
        shares = list(self.parts.values())
        if not shares or not all(math.isfinite(s) and s > 0 for s in shares):
            raise ConfigError(f"split: parts need shares of more than 0, got {dict(self.parts)}")
        if not 0.999 < sum(shares) < 1.001:
            raise ConfigError(f"split: the shares of parts must add up to 1, got {sum(shares):g}")
        if not self._keys:
            raise ConfigError("split: by needs a key, such as speaker")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The part's name."""
        return ("split",)

    @property
    def _keys(self) -> tuple[str, ...]:
        return (self.by,) if isinstance(self.by, str) else self.by

    @property
    def examples(self) -> tuple[WholeExample, ...]:
        """As many speakers as there are parts: each item gets one, whichever it is."""
        names = range(len(self.parts))
        items: list[Item] = [{self._keys[0]: str(name), "duration": 1.0} for name in names]
        return (WholeExample(items, [{"split": ...} for _ in items]),)

    def decide(self, items: Iterable[Item]) -> Iterator[Outcome]:
        """A number for each speaker and recording is held, none for items."""
        groups, timed = self._grouped(items)
        sizes: defaultdict[bytes, float] = defaultdict(float)
        for item in items:
            if (group := self._group(item, groups)) is not None:
                sizes[group] += _seconds(item) if timed else 1.0
        chosen = self._chosen(sizes)
        self._tell(sizes, chosen, timed)
        for item in items:
            group = self._group(item, groups)
            if group is None:
                yield Filtered(item, f"no {' or '.join(self._keys)}")
            else:
                yield {**item, "split": chosen[group]}

    def _grouped(self, items: Iterable[Item]) -> tuple[_Groups, bool]:
        """What belongs together, and whether every item has a duration."""
        groups, timed = _Groups(), True
        incomplete = set[bytes]()  # recordings of items that have none of the keys
        for item in items:
            timed = timed and _seconds(item) > 0
            nodes = self._nodes(item)
            if not nodes:
                incomplete.add(_recording(item))
            for node in nodes:
                groups.join(nodes[0], node)
        if self.missing == "recording" and incomplete:
            for item in items:
                nodes, recording = self._nodes(item), _recording(item)
                if nodes and recording in incomplete:
                    groups.join(nodes[0], recording)
        return groups, timed

    def _group(self, item: Item, groups: _Groups) -> bytes | None:
        nodes = self._nodes(item)
        if nodes:
            return groups.of(nodes[0])
        return groups.of(_recording(item)) if self.missing == "recording" else None

    def _nodes(self, item: Item) -> list[bytes]:
        """What stands for an item's values of the keys."""
        values = ((key, item.get(key)) for key in self._keys)
        return [_node(key, value) for key, value in values if value is not None and value != ""]

    def _chosen(self, sizes: Mapping[bytes, float]) -> dict[bytes, str]:
        """The part of each group."""
        total = sum(sizes.values())
        wanted = {name: share * total for name, share in self.parts.items()}
        filled = dict.fromkeys(wanted, 0.0)
        members: dict[str, list[bytes]] = {name: [] for name in wanted}
        # A group's bytes do not depend on the order of items, so neither does this one.
        for group in sorted(sizes, key=lambda group: _node(str(self.seed), group.hex())):
            size = sizes[group]
            fits = [n for n in wanted if filled[n] + size <= wanted[n] * (1 + 1e-9)]
            if fits:
                name = min(fits, key=lambda n: filled[n] / wanted[n])
            else:
                name = max(wanted, key=lambda n: wanted[n] - filled[n])
            filled[name] += size
            members[name].append(group)
        _fill_empty(members, sizes)
        return {group: name for name, groups in members.items() for group in groups}

    def _tell(self, sizes: Mapping[bytes, float], chosen: Mapping[bytes, str], timed: bool) -> None:
        for name in self.parts:
            groups = [group for group, part in chosen.items() if part == name]
            size = math.fsum(sizes[group] for group in groups)
            amount = f"{size / 3600:.2f} h" if timed else f"{size:.0f} items"
            level = logging.INFO if groups else logging.WARNING
            log.log(level, "split: %s has %s of %d groups", name, amount, len(groups))


class _Groups:
    """Nodes that are joined are in one group, whatever the order in which they were."""

    def __init__(self) -> None:
        self._parents: dict[bytes, bytes] = {}

    def of(self, node: bytes) -> bytes:
        """The group of a node: the least of its nodes."""
        root = node
        while (above := self._parents.get(root, root)) != root:
            root = above
        while (above := self._parents.get(node, node)) != root and node != root:
            self._parents[node] = root
            node = above
        return root

    def join(self, one: bytes, other: bytes) -> None:
        """Make two groups one."""
        one, other = self.of(one), self.of(other)
        self._parents[max(one, other)] = self._parents[min(one, other)] = min(one, other)


def _fill_empty(members: dict[str, list[bytes]], sizes: Mapping[bytes, float]) -> None:
    """Give a part without groups the smallest one of the part that has most of them."""
    for groups in members.values():
        richest = max(members, key=lambda n: len(members[n]))
        if not groups and len(members[richest]) > 1:
            smallest = min(members[richest], key=lambda group: (sizes[group], group))
            members[richest].remove(smallest)
            groups.append(smallest)


def _recording(item: Item) -> bytes:
    """What stands for the recording that an item is of, or was cut from."""
    file = item.get("source_filepath") or item.get("audio_filepath")
    return _node("", [item.get("source_tar") or item.get("tar"), file])


def _node(key: str, value: Any) -> bytes:
    content = canonical([key, value]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def _seconds(item: Item) -> float:
    value = item.get("duration")
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return 0.0
    return float(value)
