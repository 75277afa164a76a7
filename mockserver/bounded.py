"""A container that forgets its oldest values when there are too many of them, or they hold too much memory."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Meter:
    """Bytes held in memory, about. What is added here counts in the parent too."""

    def __init__(self, parent: Meter | None = None) -> None:
        self.bytes = 0
        self._parent = parent

    def add(self, size: int) -> None:
        """Count some bytes more, or fewer."""
        self.bytes += size
        if self._parent is not None:
            self._parent.add(size)

    def detach(self) -> None:
        """Count no more in the parent: what is held here is being forgotten."""
        if self._parent is not None:
            self._parent.add(-self.bytes)
            self._parent = None


class Bounded(Generic[K, V]):
    """Values by key, in the order in which they came.

    `footprint` tells the bytes that a value holds, about: always the same for a value. The newest value is kept however
    large it is. `evicted` counts the values that were forgotten because of the bounds.
    """

    def __init__(
        self,
        footprint: Callable[[V], int],
        meter: Meter | None = None,
        *,
        max_items: int = sys.maxsize,
        max_bytes: int = sys.maxsize,
    ) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._footprint = footprint
        self._meter = Meter(meter)
        self._max_items, self._max_bytes = max_items, max_bytes
        self.evicted = 0
        self.get = self._values.get
        self.values = self._values.values

    @property
    def bytes(self) -> int:
        """What is held, about."""
        return self._meter.bytes

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
        """Add a value, and keep the bounds."""
        self._values[key] = value
        self._meter.add(self._footprint(value))
        while len(self._values) > self._max_items or (self.bytes > self._max_bytes and len(self._values) > 1):
            self.evict()

    def replace(self, key: K, value: V) -> None:
        """Have another value of the same size in the place of one."""
        self._values[key] = value

    def evict(self) -> K:
        """Forget the oldest value because of a bound; its key."""
        key, value = self._values.popitem(last=False)
        self._meter.add(-self._footprint(value))
        self.evicted += 1
        return key

    def remove(self, key: K) -> None:
        """Forget a value."""
        self._meter.add(-self._footprint(self._values.pop(key)))

    def clear(self) -> None:
        """Forget every value, and how many have been evicted."""
        self._meter.add(-self._meter.bytes)
        self._values.clear()
        self.evicted = 0
