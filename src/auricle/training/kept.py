"""Sound that is heard again and again is decoded once, as long as it takes little memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Self

from auricle.audio import Samples

BYTES = 128 << 20  # 35 minutes at 16 kHz


class Kept:
    """The sounds that were asked for last, up to `BYTES`; sent to a worker, it arrives empty.

    Whoever gets one must not write on it.
    """

    def __init__(self) -> None:
        self._sounds: OrderedDict[Hashable, Samples] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, read: Callable[[], Samples]) -> Samples:
        """The sound of `key`, read now if it is not kept."""
        if key in self._sounds:
            self._sounds.move_to_end(key)
            return self._sounds[key]
        sound = self._sounds[key] = read()
        self._bytes += sound.nbytes
        while self._bytes > BYTES and len(self._sounds) > 1:
            self._bytes -= self._sounds.popitem(last=False)[1].nbytes
        return sound

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), ()
