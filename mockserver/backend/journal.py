"""The journal: what a tenant's clients sent and were answered, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from mockserver.backend.memory import Bounded, Meter
from mockserver.clock import timestamp
from mockserver.contract.violations import Violation
from mockserver.json_text import read_json
from mockserver.redaction import displayed, redacted


class Departure(msgspec.Struct, frozen=True, gc=False):
    """One thing in a gateway's answer that the contract does not allow.

    `pointer` is a JSON pointer into the body, `Name:` of a header, or empty for the answer as a
    whole. `contract` is a JSON pointer into the contract: what says otherwise.
    """

    rule: str
    severity: Literal["error", "warning"]
    operation: str
    pointer: str
    message: str
    contract: str


ANONYMOUS = "anonymous"  # the tenant of requests without a token
MAX_RECORDED_BODY = 16 * 1024  # bytes of a body that are kept
EXCHANGE = 700  # bytes that one takes beside its texts, about
VIOLATION = 500  # bytes that one takes, about
_BETWEEN = b"\0"  # what no header can hold
Headers = tuple[tuple[bytes, bytes], ...]  # names in lower case, and values, as ASGI has them
Origin = Literal["api", "files", "foreign", "receiver"]


def pack_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as one value: a journal keeps thousands, and many small ones cost memory, and time to forget."""
    return _BETWEEN.join(chain.from_iterable(headers))


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A request and its answer.

    `received_at` is wall time and `tenant_time` the tenant's, in nanoseconds since the epoch.
    `operation_id` is None for a path or method that the contract does not have. `origin` is where
    it arrived: at the API, at a file host of its own, at the foreign origin, a decoy, or, of a
    webhook, at the client's own receiver. `fault` is the one applied, as JSON values. Bodies are
    cut to what is kept; their sizes are in bytes. `response_headers` are those beside the content's
    type and length. `head` is what `pack_headers` made of the request's. `nearest` is what the
    contract has that looks most like an unmatched request. `took` is how long it was until the
    answer was ready, in nanoseconds; `departures` are what a gateway behind a proxy answered that
    the contract does not allow.
    """

    number: int
    received_at: int
    tenant_time: int
    token: str
    method: str
    path: str
    query: bytes
    head: bytes
    body: bytes
    body_size: int
    operation_id: str | None
    origin: Origin
    prediction_id: str | None
    prediction_status: str | None
    scenario: str
    violations: Sequence[Violation]
    fault: dict[str, Any] | None
    committed: bool
    status: int
    response_body: bytes
    response_size: int
    content_type: str
    response_headers: Headers = ()
    nearest: str = ""
    took: int = 0
    departures: Sequence[Departure] = ()

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        parts = self.head.split(_BETWEEN)
        return tuple(zip(parts[::2], parts[1::2], strict=False))

    @property
    def unmatched(self) -> bool:
        """Whether the contract has no such path and method."""
        return self.operation_id is None and self.origin not in ("foreign", "receiver")

    def as_json(self) -> dict[str, Any]:
        """The exchange for people and tools, with secrets shown in part."""
        shown = {
            "number": self.number,
            "received_at": timestamp(self.received_at),
            "tenant_time": timestamp(self.tenant_time),
            "operation": self.operation_id,
            "origin": self.origin,
            "prediction": self.prediction_id,
            "scenario": self.scenario,
            "request": {
                "method": self.method,
                "path": self.path,
                "query": dict(parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)),
                "headers": dict(displayed(self.headers)),
                "body": _body(self.body, self.body_size),
                "body_size": self.body_size,
            },
            "violations": [msgspec.to_builtins(violation) for violation in self.violations],
            "departures": [msgspec.to_builtins(departure) for departure in self.departures],
            "fault": self.fault,
            "committed": self.committed,
            "response": {
                "status": self.status,
                "content_type": self.content_type,
                "headers": {
                    "content-type": self.content_type,
                    **dict(displayed(self.response_headers)),
                },
                "prediction_status": self.prediction_status,
                "body": _body(self.response_body, self.response_size),
                "body_size": self.response_size,
            },
        }
        return redacted(shown, self.token)


class Journal:
    """The last exchanges of a tenant; the oldest go first, and are counted.

    `violating`, `unmatched` and `departing` count exchanges over the whole time, evicted ones too.
    """

    def __init__(
        self, meter: Meter | None = None, *, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> None:
        self._kept: Bounded[int, Exchange] = Bounded(
            _footprint, meter, max_items=max_items, max_bytes=max_bytes
        )
        self.recorded = self.violating = self.unmatched = self.departing = self._arrived = 0

    def __iter__(self) -> Iterator[Exchange]:
        """By their numbers: one that had to wait for its answer was written down behind others that came after it."""
        return iter(sorted(self._kept.values(), key=lambda exchange: exchange.number))

    def next_number(self) -> int:
        """The number of a request that has just arrived."""
        self._arrived += 1
        return self._arrived

    @property
    def bytes(self) -> int:
        """What is held, about."""
        return self._kept.bytes

    @property
    def last_received(self) -> int | None:
        """When the newest exchange came, in nanoseconds since the epoch."""
        newest = next(reversed(self._kept), None)
        return None if newest is None else self._kept[newest].received_at

    @property
    def evicted(self) -> int:
        """How many exchanges have been forgotten because of the bounds."""
        return self._kept.evicted

    def record(self, exchange: Exchange) -> None:
        """Keep an exchange, and forget what is over the bounds."""
        self.recorded += 1
        self._kept.put(self.recorded, exchange)
        if exchange.violations:
            self.violating += 1
        if exchange.departures:
            self.departing += any(
                departure.severity == "error" for departure in exchange.departures
            )
        if exchange.operation_id is None:
            self.unmatched += exchange.unmatched

    def clear(self) -> None:
        """Forget every exchange. Numbers go on."""
        self._kept.clear()
        self.violating = self.unmatched = self.departing = 0


def _footprint(exchange: Exchange) -> int:
    """Bytes held in memory, about."""
    texts = (
        len(exchange.head) + len(exchange.body) + len(exchange.response_body) + len(exchange.path)
    )
    return (
        EXCHANGE
        + texts
        + len(exchange.query)
        + VIOLATION * (len(exchange.violations) + len(exchange.departures))
    )


def _body(kept: bytes, size: int) -> Any:
    if not size:
        return None
    if len(kept) == size:
        try:
            return read_json(kept)
        except ValueError:
            pass
    text = kept.decode("utf-8", "replace")
    return text if len(kept) == size else f"{text[:200]}… ({size} bytes)"
