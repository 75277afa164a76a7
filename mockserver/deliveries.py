"""The record of a tenant's webhook deliveries, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One attempt to tell a receiver of an event.

    `timestamp` is what was signed, in seconds since the epoch. `status` is the receiver's answer, or None, and then
    `error` says why. `final` tells that no further attempt follows.
    """

    event: str
    prediction_id: str
    url: str
    webhook_id: str
    timestamp: int
    attempt: int
    status: int | None
    error: str | None
    delivered: bool
    final: bool
    body: bytes

    @property
    def footprint(self) -> int:
        """Bytes that the delivery holds on to, about."""
        return 500 + len(self.body) + len(self.url)

    def as_json(self) -> dict[str, Any]:
        """The delivery for people and tools."""
        shown: dict[str, Any] = msgspec.structs.asdict(self)
        return {**shown, "body": msgspec.json.decode(self.body)}


class Deliveries:
    """The last deliveries of a tenant; the oldest go first, and are counted. `bytes` is what is held, about."""

    def __init__(self, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._max_items, self._max_bytes = max_items, max_bytes
        self.recorded = self.bytes = 0

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._deliveries)

    def record(self, delivery: Delivery) -> None:
        """Keep a delivery, and forget the oldest beyond the bounds."""
        kept = self._deliveries
        kept.append(delivery)
        self.bytes += delivery.footprint
        self.recorded += 1
        while len(kept) > self._max_items or (self.bytes > self._max_bytes and len(kept) > 1):
            self.bytes -= kept.popleft().footprint

    def undelivered(self) -> Iterator[Delivery]:
        """The last attempts of events that never arrived."""
        return (delivery for delivery in self._deliveries if delivery.final and not delivery.delivered)
