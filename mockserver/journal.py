"""The journal: what a tenant's clients sent and were answered, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl, quote

import msgspec

from mockserver.bounded import Bounded, Meter
from mockserver.clock import timestamp
from mockserver.departures import Departure
from mockserver.violations import Violation, read_json

ANONYMOUS = "anonymous"  # the tenant of requests without a token
MAX_RECORDED_BODY = 16 * 1024  # bytes of a body that are kept
SECRET_HEADERS = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization", "x-mock-admin-token"})
MIN_SECRET = 6  # characters
EXCHANGE = 700  # bytes that one takes beside its texts, about
VIOLATION = 500  # bytes that one takes, about

MAX_BEGINNINGS = 50  # places that are looked at where a text may end within a secret

_OWN_NAME = re.compile(r"[a-z_]{1,30}")  # a name in JSON that is the double's, or no secret in any case
_BETWEEN = b"\0"  # what no header can hold
_WEBHOOK_MARK = "whsec_"
_WEBHOOK_KEY = rf"{_WEBHOOK_MARK}[A-Za-z0-9+/=]+"
T = TypeVar("T")

Headers = tuple[tuple[bytes, bytes], ...]  # names in lower case, and values, as ASGI has them

Origin = Literal["api", "files", "foreign", "receiver"]


def pack_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as one value: a journal keeps thousands, and many small ones cost memory, and time to forget."""
    return _BETWEEN.join(chain.from_iterable(headers))


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A request and its answer.

    `received_at` is wall time and `tenant_time` the tenant's, in nanoseconds since the epoch. `operation_id` is
    None for a path or method that the contract does not have. `origin` is where it arrived: at the API, at a file
    host of its own, at the foreign origin, a decoy, or, of a webhook, at the client's own receiver. `fault` is the one
    applied, as JSON values.
    Bodies are cut to what is kept; their sizes are in bytes. `response_headers` are those beside the content's type and
    length. `head` is what `pack_headers` made of the request's. `nearest` is what the contract has that looks most
    like an unmatched request. `took` is how long it was until the answer was ready, in nanoseconds; `departures` are
    what a gateway behind a proxy answered that the contract does not allow.
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
                "headers": dict(_displayed(self.headers)),
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
                "headers": {"content-type": self.content_type, **dict(_displayed(self.response_headers))},
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

    def __init__(self, meter: Meter | None = None, *, max_items: int = 1000, max_bytes: int = 4 * 1024 * 1024) -> None:
        self._kept: Bounded[int, Exchange] = Bounded(_footprint, meter, max_items=max_items, max_bytes=max_bytes)
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
            self.departing += any(departure.severity == "error" for departure in exchange.departures)
        if exchange.operation_id is None:
            self.unmatched += exchange.unmatched

    def clear(self) -> None:
        """Forget every exchange. Numbers go on."""
        self._kept.clear()
        self.violating = self.unmatched = self.departing = 0


def _footprint(exchange: Exchange) -> int:
    """Bytes held in memory, about."""
    texts = len(exchange.head) + len(exchange.body) + len(exchange.response_body) + len(exchange.path)
    return EXCHANGE + texts + len(exchange.query) + VIOLATION * (len(exchange.violations) + len(exchange.departures))


def redacted(shown: T, secret: str) -> T:
    """JSON values with secrets shown in part wherever they stand, in names too.

    A text that was cut may end within a secret: what there is of it is shown in part as well. A token too short to be a
    secret is left.
    """
    return cast(T, _redacted(shown, _secrets(secret)))


class _Secrets(msgspec.Struct, frozen=True):
    """What to look for: `whole` finds secrets, `begun` the beginnings of those in `spelt`, in lower case.

    A text that has none of `marks`, in lower case, has no secret: that is found out fast, also where it is long.
    """

    marks: tuple[str, ...]
    whole: re.Pattern[str]
    begun: re.Pattern[str] | None = None
    spelt: tuple[str, ...] = ()
    least: int = 0


@lru_cache(64)
def _secrets(token: str) -> _Secrets:
    """A token as it may be spelt in URLs, JSON and names of headers, and whatever looks like a key of webhooks."""
    if len(token) < MIN_SECRET:
        return _Secrets((_WEBHOOK_MARK,), re.compile(_WEBHOOK_KEY))
    spelt = {token, quote(token), quote(token, safe=""), msgspec.json.encode(token).decode()[1:-1]}
    longest_first = sorted((each.lower() for each in spelt), key=len, reverse=True)
    least = max(MIN_SECRET, min(6, len(token) // 3) + 1)
    whole = "|".join([*map(re.escape, longest_first), _WEBHOOK_KEY])
    begun = "|".join(re.escape(each[:least]) for each in longest_first)
    marks = (_WEBHOOK_MARK, *dict.fromkeys(each[:least] for each in longest_first))
    patterns = re.compile(whole, re.IGNORECASE), re.compile(begun, re.IGNORECASE)
    return _Secrets(marks, *patterns, tuple(longest_first), least)


def _redacted(value: object, secrets: _Secrets) -> object:
    if isinstance(value, str):
        return _masked(value, secrets)
    if isinstance(value, dict):
        return {
            name if _OWN_NAME.fullmatch(name) else _masked(name, secrets): _redacted(part, secrets)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(part, secrets) for part in value]
    return value


def _masked(text: str, secrets: _Secrets) -> str:
    lowered = text.lower()
    if not any(mark in lowered for mark in secrets.marks):
        return text
    text = secrets.whole.sub(lambda found: shortened_secret(found.group()), text)
    if secrets.begun is None or not secrets.begun.search(text):
        return text
    return "…".join(_without_beginning(part, secrets) for part in text.split("…")).replace("……", "…")


def _without_beginning(text: str, secrets: _Secrets) -> str:
    """A text that may have been cut, with the beginning of a secret at its end shown in part."""
    end = len(text.rstrip("'\""))
    for spelt in secrets.spelt:
        place = max(0, end - len(spelt))
        for _ in range(MAX_BEGINNINGS):
            place = text.lower().find(spelt[: secrets.least], place, end)
            if place < 0:
                break
            if spelt.startswith(text[place:end].lower()):
                return text[:place] + shortened_secret(text[place:end]) + text[end:]
            place += 1
    return text


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
