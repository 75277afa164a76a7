"""A request as it was received: head, body, token, and the base URL that the client used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from mockserver.backend.journal import MAX_RECORDED_BODY
from mockserver.backend.memory import Meter
from mockserver.backend.store import Store
from mockserver.clock import wall_time
from mockserver.contract.api_error import ApiError
from mockserver.http.channel import Channel, Receive, Scope, Send
from mockserver.json_text import read_json

# A body of up to this many times the limit is read to its end, so that its refusal arrives.
DRAIN_FACTOR = 8
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class Body(msgspec.Struct):
    """The body of a request, as far as it has been read and is still held.

    It is the only part of a request that changes: it arrives in pieces, may be large, and is let go
    as soon as nobody needs it. `size` is the number of bytes that were sent, `refusal` says why
    it was not read.
    """

    content: bytes = b""
    size: int = 0
    refusal: ApiError | None = None
    _value: Any = msgspec.UNSET
    _meter: Meter | None = None
    _held: int = 0  # bytes that the meter counts for it

    def json(self) -> Any:
        """The decoded body; decoding is done once. Raises ValueError, which says what it is."""
        if self._value is msgspec.UNSET:
            self._value = read_json(self.content)
        return self._value

    def hold(self, store: Store, size: int) -> bool:
        """Count some bytes of it among those under way; False if there is no room for them."""
        if not store.take(size):
            return False
        self._meter = store.underway
        self._held += size
        return True

    def release(self) -> None:
        """Keep no more of it than a journal does: what follows may take long."""
        self.content, self._value = self.content[:MAX_RECORDED_BODY], None
        if self._meter is not None:
            self._meter.add(-self._held)
            self._held = 0


class ReceivedRequest(msgspec.Struct, frozen=True):
    """What a client sent.

    `token` is that of its Authorization, `base_url` the scheme and host that the client used, or
    the server's public ones, `port` the one on which the request arrived. `headers` are keyed by
    lower-case name, the last of equal names counts. `received_at` is in nanoseconds since the
    epoch. `has_one_host` tells whether it says which server it is for, as it must, but for
    HTTP/1.0. `has_one_authorization` is false if it has several Authorization headers, which may
    name different tenants.
    """

    method: str
    path: str
    query: bytes
    raw_headers: Sequence[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    token: str | None
    base_url: str
    port: int | None
    path_params: dict[str, str]
    query_params: dict[str, str]
    channel: Channel
    received_at: int
    has_one_host: bool
    has_one_authorization: bool
    body: Body

    def header(self, name: bytes) -> str | None:
        """The value of a header, by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def read_head(
    scope: Scope, receive: Receive, send: Send, public_url: str | None
) -> ReceivedRequest:
    """A request before its body has been read; `public_url` is its base URL if it is set."""
    raw_headers, query = scope["headers"], scope["query_string"]
    headers = dict(raw_headers)
    host = headers.get(b"host", b"")[:300]
    server = scope.get("server")
    return ReceivedRequest(
        scope["method"],
        scope["path"],
        query,
        raw_headers,
        headers,
        bearer_token(headers.get(b"authorization", b"")),
        public_url or _base_url(scope["scheme"], host, server),
        server[1] if server else None,
        scope.get("path_params", {}),
        dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        Channel(scope, receive, send),
        wall_time(),
        _has_one_host(scope, headers),
        len(headers) == len(raw_headers) or _count(raw_headers, b"authorization") <= 1,
        Body(),
    )


def _has_one_host(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    raw_headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    if b"host" not in headers:
        return bool(scope.get("http_version", "1.1") == "1.0")
    if len(headers) == len(raw_headers):
        return True
    return _count(raw_headers, b"host") == 1


def _count(raw_headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> int:
    return sum(name == wanted for name, _ in raw_headers)


@lru_cache(1024)
def _base_url(scheme: str, host: bytes, server: tuple[str, int] | None) -> str:
    """The scheme and host that the client used, as far as its Host header is a host."""
    text = host.decode("latin-1")
    match = _HOST.fullmatch(text)
    if not match or (match[1].startswith("[") and not _is_ipv6(match[1][1:-1])):
        name, port = server or ("127.0.0.1", 80)
        text = f"{name}:{port}"
    return f"{scheme}://{text}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def bearer_token(authorization: bytes) -> str | None:
    """The token after `Bearer`, or `Token` as older clients write; None if there is none."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() in ("bearer", "token") else None


async def read_body(request: ReceivedRequest, limit: int, store: Store) -> bool:
    """Read the body up to the limit, in bytes; False if the client hung up.

    What is over the limit is counted, not kept. A body that arrives in pieces counts among what the
    store holds; where there is no room, `refusal` of the body says so.
    """
    body = request.body
    announced = int(request.headers.get(b"content-length") or 0)
    if announced > limit and (b"expect" in request.headers or announced > limit * DRAIN_FACTOR):
        body.size = announced
        return True

    pieces: list[bytes] = []
    size, more = 0, True
    while more and size <= limit * DRAIN_FACTOR:
        message = await request.channel.receive()
        if message["type"] == "http.disconnect":
            return False
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > limit:
            continue
        if (more or pieces) and not body.hold(store, len(piece)):
            reason = "There is no room for the body: too much is under way already."
            body.refusal = ApiError(503, hint=reason)
            return True
        pieces.append(piece)

    body.content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    body.size = size
    return True
