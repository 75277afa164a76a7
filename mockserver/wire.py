"""Answers on the wire, and the failures beneath HTTP that ASGI has no words for."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from mockserver.scenarios import Fault

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

NO_RESPONSE = 0  # the status of an answer that is none
CLOSE = (b"connection", b"close")
STALL_LIMIT = 60.0  # seconds
DRIP_PIECES = 20


class Response(msgspec.Struct, frozen=True):
    """What goes out: status, body, type and further headers.

    `value` is the decoded body where the contract can be asked about it; `events` what is sent bit by bit instead of
    a body, where None stands for a connection that breaks off. The prediction told of, if any, and
    whether something was created or changed, are for the journal.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Headers = ()
    value: Any = None
    prediction_id: str | None = None
    prediction_status: str | None = None
    committed: bool = False
    events: AsyncGenerator[bytes | None, None] | None = None

    def raw_headers(self) -> Headers:
        """The headers as ASGI wants them."""
        kind = ((b"content-type", self.content_type.encode()),) if self.content_type else ()
        if self.status in (204, 304) or self.events is not None:
            return (*kind, *self.headers)
        return (*kind, (b"content-length", b"%d" % len(self.body)), *self.headers)


async def send_response(send: Send, response: Response, body: bytes | None = None) -> None:
    """Send an answer whole. `body` replaces its body, under its headers (as HEAD does)."""
    exchange = getattr(send, "__self__", None)
    sent = response.body if body is None else body
    if isinstance(exchange, RequestResponseCycle) and not exchange.flow.write_paused:
        _write(exchange, response, sent)
        return
    await send({"type": "http.response.start", "status": response.status, "headers": response.raw_headers()})
    await send({"type": "http.response.body", "body": sent})


def _write(exchange: RequestResponseCycle, response: Response, body: bytes) -> None:
    """Send an answer as uvicorn does, but in one write, and together with the other answers of a turn of the loop.

    uvicorn writes a head, then a body, each at once, and each wakes the client: that took a third of all time.
    """
    if exchange.disconnected:
        return
    exchange.response_started = exchange.response_complete = True
    exchange.waiting_for_100_continue = False
    common = exchange.default_headers if exchange.keep_alive else (*exchange.default_headers, CLOSE)
    last = write_answer(exchange.transport, response, body, common)
    exchange.message_event.set()
    if not last:
        exchange.on_response()


def write_answer(
    transport: asyncio.Transport, response: Response, body: bytes, common: Sequence[tuple[bytes, bytes]]
) -> bool:
    """Write an answer under headers that it has in common with others; tell whether the connection ends with it."""
    headers = (*common, *response.raw_headers())
    last = CLOSE in headers
    asyncio.get_running_loop().call_soon(_put, transport, _head(response.status, headers) + body, last)
    return last


@lru_cache(1024)
def _head(status: int, headers: Headers) -> bytes:
    lines = (b"%b: %b\r\n" % header for header in dict.fromkeys(headers))
    return b"".join((STATUS_LINE[status], *lines, b"\r\n"))


def _put(transport: asyncio.Transport, data: bytes, last: bool) -> None:
    if not transport.is_closing():
        transport.write(data)
        if last:
            transport.close()


async def send_events(receive: Receive, send: Send, response: Response) -> None:
    """Send an answer bit by bit, until it ends, breaks off, or the client hangs up."""
    await send({"type": "http.response.start", "status": response.status, "headers": response.raw_headers()})
    if await cancel_on_disconnect(receive, _pump(receive, send, response)):
        await send({"type": "http.response.body", "body": b""})


async def _pump(receive: Receive, send: Send, response: Response) -> bool:
    """Whether the events came to their end."""
    assert response.events is not None
    async with aclosing(response.events) as events:
        async for event in events:
            if event is None:
                await _disconnect(receive, send, reset=False)
                return False
            await send({"type": "http.response.body", "body": event, "more_body": True})
    return True


async def send_broken(receive: Receive, send: Send, response: Response, fault: Fault, body: bytes | None) -> None:
    """Send an answer in the way that a fault breaks it. `body` replaces its body where it is whole."""
    if fault.disconnect is not None:
        await _disconnect(receive, send, reset=fault.disconnect == "reset")
    elif fault.cut is not None:
        await _send_share(send, response, fault.cut)
        await _disconnect(receive, send, reset=False)
    elif fault.stall is not None:
        await _send_share(send, response, fault.stall)
        if not await wait_for_disconnect(receive, STALL_LIMIT):
            await _disconnect(receive, send, reset=False)
    elif fault.drip is not None:
        await _drip(receive, send, response, fault.drip)
    else:
        await send_response(send, response, body)


async def cancel_on_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What some work comes to; None, and the work is dropped, if the client hangs up first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(wait_for_disconnect(receive, None))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def wait_for_disconnect(receive: Receive, seconds: float | None) -> bool:
    """Wait some seconds of real time (None: for ever), or until the client hangs up; tell whether it has."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _send_share(send: Send, response: Response, share: float) -> None:
    part = response.body[: int(len(response.body) * share)]
    await send({"type": "http.response.start", "status": response.status, "headers": response.raw_headers()})
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def _drip(receive: Receive, send: Send, response: Response, seconds: float) -> None:
    size = max(1, -(-len(response.body) // DRIP_PIECES))
    pieces = [response.body[at : at + size] for at in range(0, len(response.body), size)] or [b""]
    await send({"type": "http.response.start", "status": response.status, "headers": response.raw_headers()})
    for number, piece in enumerate(pieces):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces) - 1})
        if await wait_for_disconnect(receive, seconds / len(pieces)):
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
