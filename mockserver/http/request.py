"""A request as it came: head, body, token, and the address that the client used."""

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
from mockserver.contract.violations import Violation
from mockserver.http.channel import Channel, Receive, Scope, Send

DRAIN_FACTOR = (
    8  # a body of up to this many times the limit is read to its end, so that its refusal arrives
)
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class Request(msgspec.Struct):
    """What a client sent. `value` is the decoded body; `violations` grows as it is checked.

    `token` is that of its Authorization, `origin` the address that the client used. `headers` are
    keyed by lower-case name, the last of equal names counts. `received_at` is in nanoseconds since
    the epoch. `has_one_host` tells whether it says which server it is for, as it must, but for
    HTTP/1.0. `refusal` is why its body was not read, `held` the bytes that `meter` counts for it
    while it is under way.
    """

    method: str
    path: str
    query: bytes
    raw_headers: Sequence[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    token: str | None
    origin: str
    path_params: dict[str, str]
    query_params: dict[str, str]
    channel: Channel
    received_at: int
    has_one_host: bool
    refusal: ApiError | None = None
    held: int = 0
    meter: Meter | None = None
    body: bytes = b""
    body_size: int = 0
    value: Any = None
    violations: Sequence[Violation] = ()

    def header(self, name: bytes) -> str | None:
        """The value of a header, by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def let_go(self) -> None:
        """Keep no more of the body than a journal does: what follows may take long."""
        self.body, self.value = self.body[:MAX_RECORDED_BODY], None
        if self.meter is not None:
            self.meter.add(-self.held)
            self.held = 0


def read_head(scope: Scope, receive: Receive, send: Send, public_url: str | None) -> Request:
    """What comes before the body. `public_url` is the origin to hand out, if not the one the client used."""
    raw, query = scope["headers"], scope["query_string"]
    headers = dict(raw)
    return Request(
        scope["method"],
        scope["path"],
        query,
        raw,
        headers,
        bearer_token(headers.get(b"authorization", b"")),
        public_url
        or _origin(scope["scheme"], headers.get(b"host", b"")[:300], scope.get("server")),
        scope.get("path_params", {}),
        dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        Channel(scope, receive, send),
        wall_time(),
        _has_one_host(scope, headers),
    )


def _has_one_host(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    raw = scope["headers"]
    if b"host" not in headers:
        return bool(scope.get("http_version", "1.1") == "1.0")
    return len(headers) == len(raw) or sum(name == b"host" for name, _ in raw) == 1


@lru_cache(1024)
def _origin(scheme: str, host: bytes, server: tuple[str, int] | None) -> str:
    """The address that the client used, as far as its Host header is one."""
    named = host.decode("latin-1")
    found = _HOST.fullmatch(named)
    if not found or (found[1].startswith("[") and not _is_ipv6(found[1][1:-1])):
        name, port = server or ("127.0.0.1", 80)
        named = f"{name}:{port}"
    return f"{scheme}://{named}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def bearer_token(authorization: bytes) -> str | None:
    """The token of an Authorization header, after `Bearer`, or `Token` as older clients say; None if it has none."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() in ("bearer", "token") else None


async def read_body(request: Request, limit: int, store: Store) -> bool:
    """Read the body up to the limit, in bytes; what is over it is counted, not kept. False if the client hung up.

    One that comes in pieces counts among what the store holds; where there is no room, `refusal`
    says so.
    """
    announced = int(request.headers.get(b"content-length") or 0)
    if announced > limit and (b"expect" in request.headers or announced > limit * DRAIN_FACTOR):
        request.body_size = announced
        return True
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size <= limit * DRAIN_FACTOR:
        message = await request.channel.receive()
        if message["type"] == "http.disconnect":
            return False
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            continue
        if more or request.held:
            if not store.take(len(chunk)):
                request.refusal = ApiError(
                    503, hint="There is no room for the body: too much is under way already."
                )
                return True
            request.held += len(chunk)
            request.meter = store.underway
        chunks.append(chunk)
    request.body = b"".join(chunks)
    request.body_size = size
    return True
