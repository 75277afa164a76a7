"""A container that forgets its oldest values when there are too many of them, or they hold too much memory."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Values by key, in the order in which they came.

    `footprint` tells the bytes that a value holds, about, and must not change while the value is here. The newest
    value is kept however large it is. `evicted` counts the values that were forgotten because of the bounds.
    """

    def __init__(
        self, footprint: Callable[[V], int], *, max_items: int = sys.maxsize, max_bytes: int = sys.maxsize
    ) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._footprint = footprint
        self._max_items, self._max_bytes = max_items, max_bytes
        self.bytes = 0
        self.evicted = 0
        self.get = self._values.get
        self.values = self._values.values

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._values)

    def put(self, key: K, value: V) -> None:
        """Add a value, or replace the one of that key, and keep the bounds."""
        if key in self._values:
            self.bytes -= self._footprint(self._values[key])
        self._values[key] = value
        self.bytes += self._footprint(value)
        while len(self._values) > self._max_items or (self.bytes > self._max_bytes and len(self._values) > 1):
            self.evict()

    def evict(self) -> K:
        """Forget the oldest value because of a bound; its key."""
        key, value = self._values.popitem(last=False)
        self.bytes -= self._footprint(value)
        self.evicted += 1
        return key

    def remove(self, key: K) -> None:
        """Forget a value."""
        self.bytes -= self._footprint(self._values.pop(key))

    def clear(self) -> None:
        """Forget every value, and how many have been evicted."""
        self._values.clear()
        self.bytes = self.evicted = 0
