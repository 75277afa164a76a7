"""A request as it came: head, body, token, and the address that the client used."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import parse_qsl

import httptools
import msgspec

from mockserver.clock import wall_time
from mockserver.violations import Violation
from mockserver.wire import Headers, Receive, Scope

LARGE_HEAD = 16 * 1024  # bytes; larger ones are not remembered
PLAIN_HEAD = 4 * 1024  # bytes; larger ones are not plain
DRAIN_FACTOR = 8  # a body of up to this many times the limit is read to its end, so that its refusal arrives

_PLAIN = re.compile(rb"([A-Z]+) ((?:/[A-Za-z0-9_.~-]+)+) HTTP/1\.1\r\n")
_BEYOND_PLAIN = frozenset({"expect", "transfer-encoding", "upgrade"})
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class Head(msgspec.Struct, frozen=True):
    """The headers of a request, and what they say: token, origin that the client used, bytes of the body and of all."""

    raw: Headers
    headers: Mapping[str, str]
    token: str | None
    origin: str
    content_length: int
    size: int


class Request(msgspec.Struct):
    """What a client sent. `value` is the decoded body; `violations` grows as it is checked.

    `receive` tells when the client hangs up; `received_at` is in nanoseconds since the epoch.
    """

    method: str
    path: str
    query: bytes
    head: Head
    path_params: dict[str, str]
    query_params: dict[str, str]
    receive: Receive
    received_at: int
    body: bytes = b""
    body_size: int = 0
    value: Any = None
    violations: Sequence[Violation] = ()


def read_head(scope: Scope, receive: Receive, public_url: str | None) -> Request:
    """What comes before the body. `public_url` is the origin to hand out, if not the one the client used."""
    query = scope["query_string"]
    head = _head(tuple(scope["headers"]), scope["scheme"], scope.get("server"), public_url)
    if head.size > LARGE_HEAD:
        _head.cache_clear()  # it is not to be held on to
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=query,
        head=head,
        path_params=scope.get("path_params", {}),
        query_params=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        receive=receive,
        received_at=wall_time(),
    )


# A client sends the same headers again and again, and the journal keeps them: they are read, and held, once.
@lru_cache(1024)
def _head(raw: Headers, scheme: str, server: tuple[str, int] | None, public_url: str | None) -> Head:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    origin = public_url or _origin(scheme, headers.get("host", ""), server)
    content_length = int(headers.get("content-length") or 0)
    size = sum(len(name) + len(value) for name, value in raw)
    return Head(raw, headers, bearer_token(headers.get("authorization", "")), origin, content_length, size)


def read_plain(data: bytes, scheme: str, server: tuple[str, int] | None, public_url: str | None) -> Request | None:
    """A request that has arrived whole, and alone, and says the usual things; None for any other."""
    line, end = _PLAIN.match(data), data.find(b"\r\n\r\n") + 2
    if line is None or not line.end() <= end <= PLAIN_HEAD:
        return None
    head = _plain_head(data[line.end() : end], scheme, server, public_url)
    body = data[end + 2 :]
    if head is None or head.content_length != len(body):
        return None
    method, path = line.groups()
    return Request(method.decode(), path.decode(), b"", head, {}, {}, _never, wall_time(), body, len(body))


@lru_cache(1024)
def _plain_head(block: bytes, scheme: str, server: tuple[str, int] | None, public_url: str | None) -> Head | None:
    """What lines of headers say; None if it is more of the connection than the length of the body."""
    found = _Headers()
    try:
        found.parser.feed_data(b"GET / HTTP/1.1\r\n" + block + b"\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    head = _head(tuple(found.headers), scheme, server, public_url)
    return head if found.keep_alive and _BEYOND_PLAIN.isdisjoint(head.headers) else None


class _Headers:
    """The headers that a parser finds, as uvicorn writes them down, and whether the connection goes on after them."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.keep_alive = False
        self.parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()  # it forgets once a message has ended


async def _never() -> MutableMapping[str, Any]:
    raise RuntimeError("a request that is answered at once waits for nothing")


def _origin(scheme: str, host: str, server: tuple[str, int] | None) -> str:
    """The address that the client used, as far as its Host header is one."""
    found = _HOST.fullmatch(host)
    if not found or (found[1].startswith("[") and not _is_ipv6(found[1][1:-1])):
        name, port = server or ("127.0.0.1", 80)
        host = f"{name}:{port}"
    return f"{scheme}://{host}"


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def bearer_token(authorization: str) -> str | None:
    """The token of an Authorization header; None if it has none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def read_body(request: Request, limit: int) -> bool:
    """Read the body up to the limit, in bytes; what is over it is counted, not kept. False if the client hung up."""
    announced = request.head.content_length
    if announced > limit and ("expect" in request.head.headers or announced > limit * DRAIN_FACTOR):
        request.body_size = announced
        return True
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size <= limit * DRAIN_FACTOR:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return False
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    request.body = b"".join(chunks)
    request.body_size = size
    return True
