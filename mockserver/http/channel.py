"""Responses on the wire, and the failures beneath HTTP that ASGI cannot express."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import aclosing, suppress
from typing import Any, Protocol, TypeVar

import msgspec

from mockserver.backend.journal import Headers
from mockserver.scenarios.scenario import Fault

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
CONNECTION = "mockserver.connection"  # where `scope["state"]` holds the Connection
NO_RESPONSE = 0  # the status where no response is sent
CLOSE = (b"connection", b"close")
JSON = "application/json"
STALL_LIMIT = 60.0  # seconds
LINGER = 2.0  # seconds for a client to read a refusal that was sent early
DRIP_PIECES = 20
PIECE = 64 * 1024  # bytes


class Response(msgspec.Struct, frozen=True):
    """What is sent: status, body, content type and further headers.

    `events` are sent one by one instead of a body; None among them stands for a connection that
    breaks off. `kept` tells that the body is held somewhere anyway, as that of a file is. A
    `chunked` one has no Content-Length, one in `title_case` has headers such as `Retry-After`.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Headers = ()
    kept: bool = False
    chunked: bool = False
    title_case: bool = False
    events: AsyncGenerator[bytes | None, None] | None = None

    def raw_headers(self) -> Headers:
        """The headers in the form that ASGI has."""
        kind = ((b"content-type", self.content_type.encode()),) if self.content_type else ()
        if self.status in (204, 304) or self.chunked or self.events is not None:
            return (*kind, *self.headers)
        return (*kind, (b"content-length", b"%d" % len(self.body)), *self.headers)


class Connection(Protocol):
    """The connection beneath an exchange, as a server offers it in `scope["state"]`."""

    def use_title_case(self) -> None:
        """Spell the names of headers as `Retry-After` in the next head."""

    def write(self, data: bytes) -> None:
        """Send bytes past the framing of a response."""

    def close(self) -> None:
        """End it, once what was written is sent."""

    def reset(self) -> None:
        """Break it off with a RST."""

    async def wait_until_lost(self, seconds: float | None) -> bool:
        """Wait some seconds (None: no limit), or until it is lost; return whether it is."""


class Channel:
    """The way to the client of one exchange: ASGI's `receive` and `send`, and the connection.

    The connection beneath is known where the server is ours.
    """

    __slots__ = ("_scope", "_send", "_started", "receive")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self._scope = scope
        self._send = send
        self._started = False

    @property
    def _connection(self) -> Connection | None:
        state = self._scope.get("state")
        return state.get(CONNECTION) if state is not None else None

    async def send_response(self, response: Response, body: bytes) -> None:
        """Send a response whole, with `body` under its headers; that to a HEAD is empty."""
        await self._start(response)
        if response.chunked and body:
            await self._send_body(body[: len(body) // 2], more=True)
            body = body[len(body) // 2 :]
        await self._send_body(body)

    async def send_early(self, response: Response) -> None:
        """Send a response to a request whose body is still arriving, and read on for a moment.

        A connection that is closed while its client sends is reset, and the response may be lost.
        """
        await self._start(response)
        await self._send({"type": "http.response.body", "body": response.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await self.receive()).get("more_body"):
                    pass
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_body(self, body: bytes, *, more: bool = False) -> None:
        """Send a body, or the next part of it, in pieces.

        What a client does not read is held by the transport: no more than a piece at a time.
        """
        start = 0
        while len(body) - start > PIECE:
            piece = body[start : start + PIECE]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            start += PIECE
        await self._send({"type": "http.response.body", "body": body[start:], "more_body": more})

    async def send_events(self, response: Response) -> None:
        """Send the events of a response, until they end, break off, or the client hangs up."""
        has_chunks = self._scope.get("http_version", "1.1") != "1.0" or "state" not in self._scope
        if has_chunks:
            await self._start(response)
            await self.cancel_on_disconnect(self._send_chunked(response))
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self.cancel_on_disconnect(self._send_to_the_end(response))
            await self.abandon()

    async def _send_chunked(self, response: Response) -> None:
        assert response.events is not None
        async with aclosing(response.events) as events:
            async for event in events:
                if event is None:
                    await self._disconnect(reset=False)
                    return
                await self._send({"type": "http.response.body", "body": event, "more_body": True})

    async def _send_to_the_end(self, response: Response) -> None:
        """Send events to a client of HTTP/1.0, which has no chunks.

        The body ends with the connection. uvicorn would use chunks, so this writes past it.
        """
        assert response.events is not None
        assert self._connection is not None
        head = [b"HTTP/1.1 %d OK" % response.status, b"connection: close"]
        head += [name + b": " + value for name, value in response.raw_headers()]
        self._connection.write(b"\r\n".join(head) + b"\r\n\r\n")
        async with aclosing(response.events) as events:
            async for event in events:
                if event is None:
                    break
                self._connection.write(event)
        await self._disconnect(reset=False)

    async def send_broken(self, response: Response, fault: Fault, body: bytes) -> None:
        """Send a response as a fault breaks it; `body` is the whole body, empty for a HEAD."""
        if fault.disconnect is not None:
            await self._disconnect(reset=fault.disconnect == "reset")
            await self.abandon()
        elif fault.cut is not None:
            rest = await self._send_share(response, fault.cut)
            await self._disconnect(reset=False)
            await self.abandon(rest)
        elif fault.stall is not None:
            rest = await self._send_share(response, fault.stall)
            if not await self.wait_for_disconnect(STALL_LIMIT):
                await self._disconnect(reset=False)
            await self.abandon(rest)
        elif fault.drip is not None:
            await self._drip(response, fault.drip)
        else:
            await self.send_response(response, body)

    async def wait_for_disconnect(self, seconds: float | None) -> bool:
        """Wait some seconds of real time (None: no limit), or until the client hangs up.

        Return whether it has.
        """
        if self._connection is not None:
            return await self._connection.wait_until_lost(seconds)
        try:
            async with asyncio.timeout(seconds):
                while (await self.receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    async def cancel_on_disconnect(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of some work; None, and the work is canceled, if the client hangs up first."""
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self.wait_for_disconnect(None))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            leaving.cancel()

    async def abandon(self, rest: bytes = b"") -> None:
        """End an exchange whose client is gone; `rest` is the part of the body not yet sent.

        uvicorn lets only the newest request of a connection end without a complete response. This
        request may have others behind it that were sent ahead, so the rest is written all the same,
        to the closed connection.
        """
        if not self._started:
            await self._send({"type": "http.response.start", "status": 500, "headers": []})
        await self._send({"type": "http.response.body", "body": rest})

    async def break_off(self) -> None:
        """Close the connection in the middle of a response."""
        await self._disconnect(reset=False)
        await self.abandon()

    async def _start(self, response: Response) -> None:
        self._started = True
        headers = response.raw_headers()
        if response.title_case and self._connection is not None:
            self._connection.use_title_case()
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": headers}
        )

    async def _send_share(self, response: Response, share: float) -> bytes:
        """Send the first part of a body; return the rest of it."""
        size = int(len(response.body) * share)
        await self._start(response)
        await self._send_body(response.body[:size], more=True)
        return response.body[size:]

    async def _drip(self, response: Response, seconds: float) -> None:
        size = max(1, -(-len(response.body) // DRIP_PIECES))
        starts = range(0, max(1, len(response.body)), size)
        pieces = [response.body[start : start + size] for start in starts]
        await self._start(response)
        for number, piece in enumerate(pieces, 1):
            more = number < len(pieces)
            await self._send_body(piece, more=more)
            if more and await self.wait_for_disconnect(seconds / len(pieces)):
                await self.abandon(b"".join(pieces[number:]))
                return

    async def _disconnect(self, *, reset: bool) -> None:
        if self._connection is None:
            raise RuntimeError("this fault needs our own server: run `mockserver serve`")
        if reset:
            self._connection.reset()
        else:
            self._connection.close()
        await self._connection.wait_until_lost(None)
