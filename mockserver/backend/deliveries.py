"""The record of a tenant's webhook deliveries, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from mockserver.backend.memory import DELIVERY, Bounded, Meter


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One attempt to deliver an event to a receiver.

    `timestamp` is what was signed, in seconds since the epoch, `sent_at` when it really was sent,
    in nanoseconds. `status` is that of the receiver's response; if there was none it is None, and
    `error` says why. `final` tells that no further attempt follows. A delivery that is not
    `genuine` was sent to be refused.
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
    sent_at: int = 0
    genuine: bool = True

    def as_json(self) -> dict[str, Any]:
        """The delivery for people and tools."""
        value: dict[str, Any] = msgspec.structs.asdict(self)
        del value["sent_at"], value["genuine"]
        return {**value, "body": msgspec.json.decode(self.body)}


def delivery_footprint(delivery: Delivery) -> int:
    """Bytes that the record of a delivery holds."""
    return DELIVERY + len(delivery.body) + len(delivery.url) + len(delivery.error or "")


class Deliveries:
    """The last deliveries of a tenant; the oldest are forgotten first.

    Those in `sending` wait for the receiver's response.
    """

    def __init__(
        self, meter: Meter | None = None, *, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> None:
        self._kept: Bounded[int, Delivery] = Bounded(
            delivery_footprint, meter, max_items=max_items, max_bytes=max_bytes
        )
        self.recorded = 0
        self.sending: list[Delivery] = []

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._kept.values())

    @contextmanager
    def awaiting(self, delivery: Delivery) -> Iterator[None]:
        """Keep a delivery among those in `sending` during the block, however it ends."""
        self.sending.append(delivery)
        try:
            yield
        finally:
            self.sending.remove(delivery)

    @property
    def bytes(self) -> int:
        """What is held, about."""
        return self._kept.bytes

    def record(self, delivery: Delivery) -> None:
        """Keep a delivery, and forget the oldest beyond the bounds."""
        self.recorded += 1
        self._kept.put(self.recorded, delivery)

    def undelivered(self) -> Iterator[Delivery]:
        """The last attempts of events that never arrived."""
        return (delivery for delivery in self if delivery.final and not delivery.delivered)
