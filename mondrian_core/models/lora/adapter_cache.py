"""Adapters that stay in memory: the arrays of the most recently used ones, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

# (W + A B,) or (A, B), with the scale in B; of a DoRA (W',) or (A, B, factor minus 1), with the factor in B
AdapterDelta = tuple[mx.array, ...]
AdapterDeltas = Mapping[str, AdapterDelta]  # by module
DEFAULT_CACHE_BYTES = 512 << 20


class AdapterCache:
    """Arrays by key, least recently used first. The newest entry stays even when it alone exceeds the budget.

    Args:
        on_evicted: receives the arrays that leave the cache, so that whatever was computed with them can go too.
    """

    def __init__(self, on_evicted: Callable[[AdapterDeltas], None]) -> None:
        self._budget = DEFAULT_CACHE_BYTES
        self._on_evicted = on_evicted
        self._entries: OrderedDict[tuple[Any, ...], AdapterDeltas] = OrderedDict()

    def __len__(self) -> int:
        """Number of adapters."""
        return len(self._entries)

    @property
    def budget(self) -> int:
        """Bytes that the arrays may take; setting it evicts what is beyond."""
        return self._budget

    @budget.setter
    def budget(self, nbytes: int) -> None:
        self._budget = nbytes
        self._evict()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(adapter_nbytes(deltas) for deltas in self._entries.values())

    def get(self, key: tuple[Any, ...]) -> AdapterDeltas | None:
        """The arrays of a key, which becomes the newest; None when it is not here."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: tuple[Any, ...], deltas: AdapterDeltas) -> None:
        """Add the newest entry, and evict the oldest ones beyond the budget."""
        self._entries[key] = deltas
        self._entries.move_to_end(key)
        self._evict()

    def _evict(self) -> None:
        while len(self._entries) > 1 and self.nbytes > self.budget:
            _, evicted = self._entries.popitem(last=False)
            self._on_evicted(evicted)


def adapter_nbytes(deltas: AdapterDeltas) -> int:
    """Bytes of an adapter's arrays in memory."""
    return sum(array.nbytes for delta in deltas.values() for array in delta)
