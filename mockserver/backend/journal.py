"""The journal: a tenant's exchanges, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from mockserver.backend.memory import EXCHANGE, VIOLATION, Bounded, Meter
from mockserver.clock import timestamp
from mockserver.contract.violations import Violation
from mockserver.json_text import read_json
from mockserver.redaction import displayed, redacted
from mockserver.scenarios.scenario import Fault

ANONYMOUS = "anonymous"  # the tenant of requests without a token
MAX_RECORDED_BODY = 16 * 1024  # bytes of a body that are kept
_BETWEEN = b"\0"  # what no header can hold
Headers = tuple[tuple[bytes, bytes], ...]  # names in lower case, and values, as ASGI has them
Place = Literal["api", "files", "foreign", "receiver"]


class Departure(msgspec.Struct, frozen=True, gc=False):
    """One thing in a gateway's response that the contract does not allow.

    `pointer` is a JSON pointer into the body, `Name:` of a header, or empty for the response as a
    whole. `contract` is a JSON pointer into the contract, to what it says instead.
    """

    rule: str
    severity: Literal["error", "warning"]
    operation: str
    pointer: str
    message: str
    contract: str


def pack_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as one value: a journal keeps thousands, and small ones cost memory and time."""
    return _BETWEEN.join(chain.from_iterable(headers))


class RecordedRequest(msgspec.Struct, frozen=True, gc=False):
    """The request of an exchange.

    `received_at` is wall time, in nanoseconds since the epoch. `head` is what `pack_headers` made
    of its headers. `body` is cut to what is kept; `body_size` is its whole size in bytes.
    """

    received_at: int
    token: str
    method: str
    path: str
    query: bytes
    head: bytes
    body: bytes
    body_size: int

    @property
    def headers(self) -> Headers:
        """Names and values of the headers."""
        parts = self.head.split(_BETWEEN)
        return tuple(zip(parts[::2], parts[1::2], strict=False))


class RecordedResponse(msgspec.Struct, frozen=True, gc=False):
    """The response of an exchange.

    `body` is cut to what is kept, and empty for what is no text; `body_size` is its whole size in
    bytes. `headers` are those beside the content's type and length. `took` is the time from the
    request's arrival until the response was ready, in nanoseconds.
    """

    status: int
    content_type: str
    headers: Headers
    body: bytes
    body_size: int
    took: int = 0


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A request and its response, and what happened between.

    `tenant_time` is the tenant's time, in nanoseconds since the epoch. `operation_id` is None for a
    path or method that the contract does not have; `nearest` is then what it has that looks most
    like the request. `arrived_at` is where the request arrived: at the API, at a file host of its
    own, at the foreign address, a decoy, or, of a webhook, at the client's own receiver.
    `departures` are what a gateway behind a proxy sent that the contract does not allow.
    """

    number: int
    tenant_time: int
    operation_id: str | None
    arrived_at: Place
    scenario: str
    request: RecordedRequest
    response: RecordedResponse
    violations: Sequence[Violation] = ()
    fault: Fault | None = None
    prediction_id: str | None = None
    prediction_status: str | None = None
    committed: bool = False
    nearest: str = ""
    departures: Sequence[Departure] = ()

    @property
    def received_at(self) -> int:
        """When the request arrived, in nanoseconds since the epoch."""
        return self.request.received_at

    @property
    def token(self) -> str:
        """The token that the request was sent with; empty if there was none."""
        return self.request.token

    @property
    def method(self) -> str:
        """The request's method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The request's path."""
        return self.request.path

    @property
    def status(self) -> int:
        """The status of the response; 0 if there was none."""
        return self.response.status

    @property
    def unmatched(self) -> bool:
        """Whether the contract has no such path and method."""
        return self.operation_id is None and self.arrived_at not in ("foreign", "receiver")

    def as_json(self) -> dict[str, Any]:
        """The exchange for people and tools, with secrets shown in part."""
        request, response = self.request, self.response
        value = {
            "number": self.number,
            "received_at": timestamp(request.received_at),
            "tenant_time": timestamp(self.tenant_time),
            "operation": self.operation_id,
            "arrived_at": self.arrived_at,
            "origin": self.arrived_at,  # its former name
            "prediction": self.prediction_id,
            "scenario": self.scenario,
            "request": {
                "method": request.method,
                "path": request.path,
                "query": dict(parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)),
                "headers": dict(displayed(request.headers)),
                "body": _readable(request.body, request.body_size),
                "body_size": request.body_size,
            },
            "violations": [msgspec.to_builtins(violation) for violation in self.violations],
            "departures": [msgspec.to_builtins(departure) for departure in self.departures],
            "fault": None if self.fault is None else msgspec.to_builtins(self.fault),
            "committed": self.committed,
            "response": {
                "status": response.status,
                "content_type": response.content_type,
                "headers": {
                    "content-type": response.content_type,
                    **dict(displayed(response.headers)),
                },
                "prediction_status": self.prediction_status,
                "body": _readable(response.body, response.body_size),
                "body_size": response.body_size,
            },
        }
        return redacted(value, request.token)


def exchange_footprint(exchange: Exchange) -> int:
    """Bytes that an exchange in a journal holds."""
    request = exchange.request
    size = EXCHANGE + len(request.path) + len(request.query) + len(request.head)
    size += len(request.body) + len(exchange.response.body)
    if exchange.violations or exchange.departures:
        size += VIOLATION * (len(exchange.violations) + len(exchange.departures))
    return size


def _readable(kept: bytes, size: int) -> Any:
    """A body as JSON, if it is whole and is JSON; else as text, cut."""
    if not size:
        return None
    if len(kept) == size:
        try:
            return read_json(kept)
        except ValueError:
            pass
    text = kept.decode("utf-8", "replace")
    return text if len(kept) == size else f"{text[:200]}… ({size} bytes)"


class Journal:
    """The last exchanges of a tenant; the oldest are forgotten first, and counted.

    `violating`, `unmatched` and `departing` count exchanges over the whole time, evicted ones too.
    """

    def __init__(
        self, meter: Meter | None = None, *, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024
    ) -> None:
        self._kept: Bounded[int, Exchange] = Bounded(
            exchange_footprint, meter, max_items=max_items, max_bytes=max_bytes
        )
        self.recorded = self.violating = self.unmatched = self.departing = self._arrived = 0

    def __iter__(self) -> Iterator[Exchange]:
        """By their numbers: an exchange that waited is recorded after others that arrived later."""
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
        """When the newest exchange arrived, in nanoseconds since the epoch."""
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
