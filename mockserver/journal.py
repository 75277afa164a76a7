"""The journal: what a tenant's clients sent and were answered, within bounds."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl, quote

import msgspec

from mockserver.clock import timestamp
from mockserver.violations import Violation, read_json
from mockserver.wire import Headers

MAX_RECORDED_BODY = 16 * 1024  # bytes of a body that are kept
SECRET_HEADERS = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization", "x-mock-admin-token"})
MIN_SECRET = 6  # characters
VIOLATION = 500  # bytes that one takes, about

_WEBHOOK_KEY = r"whsec_[A-Za-z0-9+/=]+"
T = TypeVar("T")

Origin = Literal["api", "files", "foreign"]


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A request and its answer.

    `received_at` is wall time and `tenant_time` the tenant's, in nanoseconds since the epoch. `operation_id` is
    None for a path or method that the contract does not have. `origin` is where it arrived: at the API, at a file
    host of its own, or at the foreign origin, a decoy. `fault` is the one applied, as JSON values.
    Bodies are cut to what is kept; their sizes are in bytes.
    """

    number: int
    received_at: int
    tenant_time: int
    token: str
    method: str
    path: str
    query: bytes
    headers: Headers
    headers_size: int
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

    @property
    def unmatched(self) -> bool:
        """Whether the contract has no such path and method."""
        return self.operation_id is None and self.origin != "foreign"

    @property
    def size(self) -> int:
        """Bytes that the exchange holds on to, about."""
        texts = self.headers_size + len(self.body) + len(self.response_body) + len(self.path) + len(self.query)
        return 500 + texts + (VIOLATION * len(self.violations) if self.violations else 0)

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
                "headers": dict(_displayed(self.headers)),
                "body": _body(self.body, self.body_size),
                "body_size": self.body_size,
            },
            "violations": [msgspec.to_builtins(violation) for violation in self.violations],
            "fault": self.fault,
            "committed": self.committed,
            "response": {
                "status": self.status,
                "content_type": self.content_type,
                "prediction_status": self.prediction_status,
                "body": _body(self.response_body, self.response_size),
                "body_size": self.response_size,
            },
        }
        return redacted(shown, self.token)


class Journal:
    """The last exchanges of a tenant; the oldest go first, and are counted.

    `violating` and `unmatched` count exchanges over the whole time, evicted ones too; `bytes` is what is held.
    """

    def __init__(self, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._sizes: deque[int] = deque()
        self._max_items, self._max_bytes, self.bytes = max_items, max_bytes, 0
        self.recorded = self.evicted = self.violating = self.unmatched = 0

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._exchanges)

    def record(self, exchange: Exchange) -> None:
        """Keep an exchange, and forget what is over the bounds."""
        kept, size = self._exchanges, exchange.size
        kept.append(exchange)
        self._sizes.append(size)
        self.bytes += size
        self.recorded += 1
        if exchange.violations:
            self.violating += 1
        if exchange.operation_id is None:
            self.unmatched += exchange.unmatched
        while len(kept) > self._max_items or (self.bytes > self._max_bytes and len(kept) > 1):
            kept.popleft()
            self.bytes -= self._sizes.popleft()
            self.evicted += 1

    def clear(self) -> None:
        """Forget every exchange. Numbers go on."""
        self._exchanges.clear()
        self._sizes.clear()
        self.bytes = self.evicted = self.violating = self.unmatched = 0


def redacted(shown: T, secret: str) -> T:
    """JSON values with secrets shown in part wherever they stand. A token too short to be a secret is left."""
    spelt = {secret, quote(secret), quote(secret, safe=""), msgspec.json.encode(secret).decode()[1:-1]}
    tokens = [re.escape(each) for each in sorted(spelt)] if len(secret) >= MIN_SECRET else []
    return cast(T, _redacted(shown, re.compile("|".join([*tokens, _WEBHOOK_KEY]))))


def _redacted(value: object, secrets: re.Pattern[str]) -> object:
    if isinstance(value, str):
        return secrets.sub(lambda found: shortened_secret(found.group()), value)
    if isinstance(value, dict):
        return {name: _redacted(part, secrets) for name, part in value.items()}
    if isinstance(value, list):
        return [_redacted(part, secrets) for part in value]
    return value


def shortened_secret(secret: str) -> str:
    """A secret shown in part: enough to know it again, too little to use it."""
    return secret[: min(6, len(secret) // 3)] + "…"


def _displayed(headers: Headers) -> Iterator[tuple[str, str]]:
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        yield name, _redacted_credentials(value) if name in SECRET_HEADERS else value


def _redacted_credentials(credentials: str) -> str:
    """The value of a header with all of it in part, but for the word that says what kind it is."""
    scheme, space, rest = credentials.partition(" ")
    kind = scheme + space if rest and "=" not in scheme else ""
    return kind + re.sub(r"[^\s;,=]+", lambda found: shortened_secret(found.group()), credentials.removeprefix(kind))


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
