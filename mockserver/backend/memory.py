"""Memory within bounds: what is held is estimated and counted, and the oldest of it forgotten.

What clients can make large is measured, by a function next to each type, such as
`journal.exchange_footprint`. The rest of a thing, its objects and its places in tables, is a
constant here. `tests/backend/test_memory.py` compares the sums with what a process really takes.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K")
V = TypeVar("V")

# Bytes that one of each takes beside the texts and bytes that its footprint adds.
TENANT = 9000
PREDICTION = 600
FILE = 700
EXCHANGE = 750
VIOLATION = 500
DELIVERY = 500
COMBINATION = 900  # of the names in one input, which the coverage counts
PICTURE = 300
CONNECTION = 7000
HEADER = 150


def size_of(value: object, seen: set[int] | None = None) -> int:
    """Bytes that JSON values, and structs of them, take with all they hold; shared parts once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))

    parts: Iterable[object] = ()
    if isinstance(value, dict):
        parts = chain(value, value.values())
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, msgspec.Struct):
        parts = (getattr(value, name) for name in value.__struct_fields__)

    return sys.getsizeof(value) + sum(size_of(part, seen) for part in parts)


def compact(encoded: bytes) -> bytes:
    """A copy to keep: bytes from msgspec hold up to half as much again, room to grow in."""
    return b"%b" % encoded


class Meter:
    """Bytes held in memory, about. What is added here counts in the parent too."""

    __slots__ = ("_parent", "bytes")

    def __init__(self, parent: Meter | None = None) -> None:
        self.bytes = 0
        self._parent = parent

    def add(self, size: int) -> None:
        """Count some bytes more, or fewer."""
        meter: Meter | None = self
        while meter is not None:
            meter.bytes += size
            meter = meter._parent

    def detach(self) -> None:
        """Stop counting in the parent: what is held here is being forgotten."""
        if self._parent is not None:
            self._parent.add(-self.bytes)
            self._parent = None


class Outgoing:
    """Large bodies on their way to clients that may not read them.

    A body that is kept anyway, as of a file, is counted where it is kept. It counts here only
    after it has been forgotten there, for as long as it is still being sent.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._readers: dict[int, int] = {}  # by the identity of a body
        self._counted: set[int] = set()

    def begin(self, body: bytes, *, kept: bool) -> None:
        """A body begins to be sent."""
        self._readers[id(body)] = self._readers.get(id(body), 0) + 1
        if not kept:
            self.let_go(body)

    def let_go(self, body: bytes) -> None:
        """A body is no longer kept; while it is being sent it is still held."""
        if id(body) in self._readers and id(body) not in self._counted:
            self._counted.add(id(body))
            self._meter.add(len(body))

    def end(self, body: bytes) -> None:
        """A body has been sent, or its client has left."""
        self._readers[id(body)] -= 1
        if not self._readers[id(body)]:
            del self._readers[id(body)]
            if id(body) in self._counted:
                self._counted.remove(id(body))
                self._meter.add(-len(body))


class Bounded(Generic[K, V]):
    """Values by key, in the order in which they were added.

    `footprint` tells the bytes that a value holds, about: always the same for a value. The newest
    value is kept however large it is. `evicted` counts the values that were forgotten because of
    the bounds.
    """

    def __init__(
        self,
        footprint: Callable[[V], int],
        meter: Meter | None = None,
        *,
        max_items: int = sys.maxsize,
        max_bytes: int = sys.maxsize,
        on_forget: Callable[[V], None] | None = None,
    ) -> None:
        self._on_forget = on_forget
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
        values, growth = self._values, self._footprint(value)
        values[key] = value
        while len(values) > self._max_items or (
            self._meter.bytes + growth > self._max_bytes and len(values) > 1
        ):
            growth -= self._drop(values.popitem(last=False)[1])
            self.evicted += 1
        self._meter.add(growth)

    def replace(self, key: K, value: V) -> None:
        """Put another value of the same size in the place of one."""
        self._values[key] = value

    def evict(self) -> K:
        """Forget the oldest value because of a bound; its key."""
        key, value = self._values.popitem(last=False)
        self._meter.add(-self._drop(value))
        self.evicted += 1
        return key

    def remove(self, key: K) -> None:
        """Forget a value."""
        self._meter.add(-self._drop(self._values.pop(key)))

    def _drop(self, value: V) -> int:
        """Let go of a value; the bytes that it held."""
        if self._on_forget is not None:
            self._on_forget(value)
        return self._footprint(value)

    def clear(self) -> None:
        """Forget every value, and how many have been evicted."""
        for value in self._values.values():
            self._meter.add(-self._drop(value))
        self._values.clear()
        self.evicted = 0
