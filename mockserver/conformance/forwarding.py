"""Forwards requests to a gateway, and its responses back, without hop-by-hop headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from mockserver.client import ADMIN_TOKEN_HEADER
from mockserver.conformance.exchange import READABLE_ENCODINGS
from mockserver.conformance.gateway import PATIENCE, Gateway, require_httpx

CONNECT, WRITE = 10.0, 60.0  # seconds
MAX_CONNECTIONS = 1000  # each stream and waiting create has one
MAX_IDLE = 100  # connections kept open
LAST_STATUS = 599  # of HTTP; 1xx are no responses by themselves

Headers = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
_OURS = frozenset({b"host", b"expect", ADMIN_TOKEN_HEADER.encode()})


class GatewayError(Exception):
    """The gateway gave no response. `status` is the proxy's: 502, or 504 after a timeout."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class UnforwardableResponse(GatewayError):
    """The gateway's response has a status that no server can send on."""

    def __init__(self, gateway_status: int) -> None:
        super().__init__(502, f"the gateway answered {gateway_status}, which is no HTTP status")


class Reply:
    """The head of a response; `chunks` are the pieces of its body, still encoded."""

    def __init__(
        self, status: int, headers: Headers, chunks: AsyncIterator[bytes], response: Any
    ) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks
        self._response = response

    def header(self, name: bytes) -> str:
        """The last header with that lower-case name; empty if there is none."""
        return next(
            (value.decode("latin-1") for key, value in reversed(self.headers) if key == name), ""
        )

    async def close(self) -> None:
        """Release the connection, even if the body has not been read to its end."""
        await self._response.aclose()


class Forwarder:
    """A pool of connections to one gateway. It keeps no cookies or tokens between requests."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._httpx = require_httpx("proxy")
        self._transport: Any = None  # made where the event loop runs

    async def send(
        self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> Reply:
        """Forward a request, and return the head of the response. Raises GatewayError.

        `target` is path and query as received, `headers` are those from `passed_on`.
        """
        url = self._httpx.URL(self.gateway.url)
        if target != b"*":
            target = url.raw_path.rstrip(b"/") + target
        return await self._ask(method, url, headers, body, target)

    async def fetch(self, url: str, headers: Headers) -> Reply:
        """Download from a URL of the gateway without the client's token. Raises GatewayError."""
        refused = await asyncio.to_thread(self.gateway.may_fetch, url)
        if refused is not None:
            raise GatewayError(502, f"{url[:200]} is not fetched: {refused}")
        kept = [
            (name, value) for name, value in headers if name not in (b"authorization", b"cookie")
        ]
        return await self._ask("GET", self._httpx.URL(url), kept, b"")

    async def _ask(
        self,
        method: str,
        url: Any,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        target: bytes | None = None,
    ) -> Reply:
        httpx = self._httpx
        if self._transport is None:
            limits = httpx.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE
            )
            http2 = find_spec("h2") is not None
            self._transport = httpx.AsyncHTTPTransport(
                verify=self.gateway.tls(), http2=http2, limits=limits
            )
        timeout = {"connect": CONNECT, "read": PATIENCE, "write": WRITE, "pool": CONNECT}
        extensions: dict[str, Any] = {"timeout": timeout}
        if target is not None:
            # An httpx.URL resolves `/./` and `/x/../`, and quotes: the gateway would get another
            # path than the one that was judged.
            extensions["target"] = target
        try:
            request = httpx.Request(
                method, url, headers=list(headers), content=body, extensions=extensions
            )
            response = await self._transport.handle_async_request(request)
        except httpx.TimeoutException as reason:
            raise GatewayError(
                504, f"no answer from {url.host} in time ({type(reason).__name__})"
            ) from reason
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as reason:
            raise GatewayError(
                502, f"no answer from {url.host}: {reason or type(reason).__name__}"
            ) from reason
        named = [(name.lower(), value) for name, value in response.headers.raw]
        if not 200 <= response.status_code <= LAST_STATUS:
            await response.aclose()
            raise UnforwardableResponse(response.status_code)
        return Reply(
            response.status_code,
            without_hops(_with_one_length(response.status_code, named)),
            self._pieces(response),
            response,
        )

    async def _pieces(self, response: Any) -> AsyncIterator[bytes]:
        try:
            async for piece in response.stream:
                yield piece
        except (self._httpx.HTTPError, OSError) as reason:
            raise GatewayError(
                502, f"the answer of {self.gateway.url} broke off: {reason}"
            ) from reason

    async def close(self) -> None:
        """Close every connection."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a client's request as they are forwarded."""
    return [
        (name, _readable(value) if name == b"accept-encoding" else value)
        for name, value in without_hops([(name.lower(), value) for name, value in headers])
        if name not in _OURS
    ]


def without_hops(headers: Headers) -> Headers:
    """Headers without those for a single connection (RFC 9110, 7.6.1)."""
    named = {
        word.strip().lower()
        for name, value in headers
        if name == b"connection"
        for word in value.split(b",")
    }
    return [
        (name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named
    ]


def _with_one_length(status: int, headers: Headers) -> Headers:
    """Headers without a Content-Length that does not say where this body ends.

    A body in chunks ends with its last chunk, whatever Content-Length says (RFC 9112, 6.3); a 304
    has no body, and may name the length of what it stands for (RFC 9110, 8.6).
    """
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if not chunked and status not in (204, 304):
        return headers
    return [(name, value) for name, value in headers if name != b"content-length"]


def _readable(accepted: bytes) -> bytes:
    """An Accept-Encoding without encodings that cannot be judged."""
    words = [word.strip() for word in accepted.decode("latin-1").split(",")]
    kept = [word for word in words if word.partition(";")[0].strip().lower() in READABLE_ENCODINGS]
    return ", ".join(kept or ["identity"]).encode("latin-1")
