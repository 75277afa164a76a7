"""Answers on the wire, and the failures beneath HTTP that ASGI has no words for."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mockserver.scenarios import Fault

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NO_ANSWER = 0  # the status of an answer that is none
CLOSE = (b"connection", b"close")
READ_AHEAD = 16 * 1024  # bytes
MOST_HEAD = 64 * 1024  # bytes, about
SHUTDOWN_GRACE = 0.5  # seconds
STALL_LIMIT = 60.0  # seconds
DRIP_PIECES = 20


_OFFER = re.compile(rb"(\r\nconnection:[^\r\n]*?)\bupgrade\b", re.IGNORECASE)
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"The request line and the headers have more than %d bytes.\n" % MOST_HEAD
)


class Answer(msgspec.Struct, frozen=True):
    """What goes out: status, body, type and further headers.

    `value` is the decoded body where the contract can be asked about it; `events` what is sent bit by bit instead of
    a body, where None stands for a connection that breaks off. The prediction told of, if any, and
    whether something was created or changed, are for the journal.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    value: Any = None
    prediction_id: str | None = None
    prediction_status: str | None = None
    committed: bool = False
    events: AsyncGenerator[bytes | None, None] | None = None

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI wants them."""
        headers = list(self.headers)
        if self.content_type:
            headers.append((b"content-type", self.content_type.encode()))
        if self.status not in (204, 304) and self.events is None:
            headers.append((b"content-length", b"%d" % len(self.body)))
        return headers


class WireProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with bounds on what it reads ahead, and one timer a connection, not one an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._ahead = b""  # what has arrived and is not read yet, since requests before it wait for their answers
        self._head_bytes = 0  # of a head that has begun and not ended
        self._used_at = self.loop.time()
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def data_received(self, data: bytes) -> None:
        """Read on, but not far ahead of the answers: a client may send requests by the thousand."""
        if len(data) <= READ_AHEAD and not self.pipeline and not self._ahead:
            self._read(data)
            return
        self._ahead += data
        self._read_ahead()

    def _read_ahead(self) -> None:
        while self._ahead and not self.pipeline and not self.transport.is_closing():
            piece, self._ahead = self._ahead[:READ_AHEAD], self._ahead[READ_AHEAD:]
            self._read(piece)
        if self._ahead:
            self.flow.pause_reading()

    def _read(self, data: bytes) -> None:
        """Have the parser read, unless a head comes to no end."""
        if self._head_bytes > MOST_HEAD:
            return
        if b"pgrade" in data and (self.cycle is None or not self.cycle.more_body):
            data = _staying(data)
        before = self.scope
        super().data_received(data)
        if self.scope is None or "method" in self.scope:
            self._head_bytes = 0
            return
        self._head_bytes = len(data) + (self._head_bytes if self.scope is before else 0)
        if self._head_bytes > MOST_HEAD:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Go on after an answer."""
        if self.pipeline:
            super().on_response_complete()
            if self._ahead:
                self.flow.pause_reading()
                self.loop.call_soon(self._read_ahead)
        else:
            self.flow.resume_reading()
            self._used_at = self.loop.time()

    def _close_if_idle(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        left = self.timeout_keep_alive - (0 if busy else self.loop.time() - self._used_at)
        if left > 0:
            self._timer = self.loop.call_later(left, self._close_if_idle)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """End the connection, after a moment for what is under way; a client that waits is hung up on."""
        self.loop.call_soon(super().shutdown)  # behind the answers that are about to be written
        self.loop.call_later(SHUTDOWN_GRACE, self.transport.close)


def _staying(data: bytes) -> bytes:
    """A request without its offer to change the protocol, as Java's client makes it: the parser would skip its body."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(rb"\1keep-alive", head, count=1) + end + rest


async def send_answer(send: Send, answer: Answer, body: bytes | None = None) -> None:
    """Send an answer whole. `body` replaces its body, under its headers (as HEAD does)."""
    exchange = getattr(send, "__self__", None)
    if body is None and isinstance(exchange, RequestResponseCycle) and not exchange.flow.write_paused:
        _write(exchange, answer)
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
    await send({"type": "http.response.body", "body": answer.body if body is None else body})


def _write(exchange: RequestResponseCycle, answer: Answer) -> None:
    """Send an answer as uvicorn does, but in one write, and together with the other answers of a turn of the loop.

    uvicorn writes a head, then a body, each at once, and each wakes the client: that took a third of all time.
    """
    if exchange.disconnected:
        return
    exchange.response_started = exchange.response_complete = True
    exchange.waiting_for_100_continue = False
    headers = (*exchange.default_headers, *answer.headers)
    if not exchange.keep_alive and CLOSE not in headers:
        headers = (*headers, CLOSE)
    head = _head(answer.status, answer.content_type, headers)
    length = b"content-length: %d\r\n" % len(answer.body) if answer.status not in (204, 304) else b""
    data = b"%b%b\r\n%b" % (head, length, answer.body)
    last = CLOSE in headers
    asyncio.get_running_loop().call_soon(_put, exchange.transport, data, last)
    exchange.message_event.set()
    if not last:
        exchange.on_response()


@lru_cache(256)
def _head(status: int, content_type: str, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    kind = f"content-type: {content_type}\r\n".encode() if content_type else b""
    return b"".join((STATUS_LINE[status], kind, *(b"%b: %b\r\n" % header for header in headers)))


def _put(transport: asyncio.Transport, data: bytes, last: bool) -> None:
    if not transport.is_closing():
        transport.write(data)
        if last:
            transport.close()


async def send_events(receive: Receive, send: Send, answer: Answer) -> None:
    """Send an answer bit by bit, until it ends, breaks off, or the client hangs up."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
    if await unless_left(receive, _pump(receive, send, answer)):
        await send({"type": "http.response.body", "body": b""})


async def _pump(receive: Receive, send: Send, answer: Answer) -> bool:
    """Whether the events came to their end."""
    assert answer.events is not None
    async with aclosing(answer.events) as events:
        async for event in events:
            if event is None:
                await _disconnect(receive, send, reset=False)
                return False
            await send({"type": "http.response.body", "body": event, "more_body": True})
    return True


async def send_broken(receive: Receive, send: Send, answer: Answer, fault: Fault) -> None:
    """Send an answer in the way that a fault breaks it."""
    if fault.disconnect is not None:
        await _disconnect(receive, send, reset=fault.disconnect == "reset")
    elif fault.cut is not None:
        await _send_share(send, answer, fault.cut)
        await _disconnect(receive, send, reset=False)
    elif fault.stall is not None:
        await _send_share(send, answer, fault.stall)
        if not await client_left(receive, STALL_LIMIT):
            await _disconnect(receive, send, reset=False)
    elif fault.drip is not None:
        await _drip(receive, send, answer, fault.drip)
    else:
        await send_answer(send, answer)


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What some work comes to; None, and the work is dropped, if the client hangs up first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_left(receive, None))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def client_left(receive: Receive, seconds: float | None) -> bool:
    """Wait some seconds of real time (None: for ever), or until the client hangs up; tell whether it has."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _send_share(send: Send, answer: Answer, share: float) -> None:
    part = answer.body[: int(len(answer.body) * share)]
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def _drip(receive: Receive, send: Send, answer: Answer, seconds: float) -> None:
    size = max(1, -(-len(answer.body) // DRIP_PIECES))
    pieces = [answer.body[at : at + size] for at in range(0, len(answer.body), size)] or [b""]
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
    for number, piece in enumerate(pieces):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces) - 1})
        if await client_left(receive, seconds / len(pieces)):
            return


async def _disconnect(receive: Receive, send: Send, *, reset: bool) -> None:
    exchange = getattr(send, "__self__", None)
    if not isinstance(exchange, RequestResponseCycle):
        raise RuntimeError("this fault needs a real connection: run the double with `mockserver serve` or MockServer")
    transport = exchange.transport
    if reset:
        # Lingering for zero seconds turns the close into a RST.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
