"""An HTTP/1.1 connection: uvicorn's protocol, with bounds on what a client can make it hold.

Beneath uvicorn only asyncio's transport interface and the parser callbacks of httptools are used,
above it only ASGI's `state`, so that any release of uvicorn serves.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mockserver.backend.memory import CONNECTION as CONNECTION_SIZE
from mockserver.backend.memory import HEADER, Meter
from mockserver.http.channel import CONNECTION, ASGIApp, Receive, Scope, Send

# Seconds; longer than clients pool their connections, so that none is reused as it closes.
KEEP_ALIVE = 75
SHUTDOWN_GRACE = 0.5  # seconds
READ_AHEAD = 16 * 1024  # bytes
MAX_HEAD = 64 * 1024  # bytes of a head, of trailers, or of one chunk's size, about
MAX_FIELDS = 256  # headers of a request
MAX_JOINED = 64 * 1024  # bytes of writes that are joined
_OFFER = re.compile(rb"upgrade:[ \t]*([^\r]*)\r?", re.IGNORECASE)
_MAY_BE_OFFER = re.compile(rb"[uU](?:[pP]|\Z)")
_NEXT_MAY_BE_OFFER = re.compile(rb"\n(?=[uU](?:[pP]|\Z))")


def _refusal(status: bytes, reason: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\n"
        b"content-type: text/plain; charset=utf-8\r\n"
        b"content-length: %d\r\n"
        b"connection: close\r\n\r\n"
        b"%b" % (status, len(reason), reason)
    )


_NOT_HTTP = _refusal(b"400 Bad Request", b"Invalid HTTP request received.")
_HEAD_TOO_LARGE = _refusal(
    b"431 Request Header Fields Too Large",
    b"The request line and the headers have more than %d bytes, or more than %d headers.\n"
    % (MAX_HEAD, MAX_FIELDS),
)


class InFlight:
    """How many requests are being handled, whether their clients are still there or not."""

    count = 0


def count_in_flight(app: ASGIApp, in_flight: InFlight) -> ASGIApp:
    """An application that counts its requests, and tells each connection when one is done."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        in_flight.count += 1
        try:
            await app(scope, receive, send)
        finally:
            in_flight.count -= 1
            scope["state"][CONNECTION].request_done()

    return application


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, reachable from the application as `scope["state"][CONNECTION]`.

    It reads only a little ahead of the responses, bounds the head of a request, and closes an idle
    connection. The application has to be wrapped by `count_in_flight`. An open connection is one of
    `connections`. Data that cannot be read as a request are counted in `unreadable`, by the status
    of the response.
    """

    def __init__(
        self,
        connections: set[HttpConnection],
        meter: Meter,
        unreadable: Counter[int],
        *,
        app_state: dict[str, Any],
        **settings: Any,
    ) -> None:
        self._connections = connections
        self._unreadable = unreadable
        self._meter = Meter(meter)
        # uvicorn puts a copy of the state into the scope of every request.
        self._state = {**app_state, CONNECTION: self}
        super().__init__(app_state=self._state, **settings)

        self._ahead = b""  # has arrived, but is not parsed before earlier requests are answered
        self._unanswered = 0  # requests whose head has been parsed
        self._unparsed_bytes = 0  # since a head ended, or a piece of a body arrived
        self._in_head = self._in_body = self._line_begins = False
        self._fields = 0
        self._held = b""  # the beginning of a line that may become an offer
        self._refusal = b""  # sent last, once nothing more is accepted

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        loop = asyncio.get_running_loop()
        self._real_transport = transport
        self._shared = _SharedTransport(transport, loop)
        self._lost = loop.create_future()
        self._clock = loop.time
        self._used_at = loop.time()
        self._idle_timer = loop.call_later(KEEP_ALIVE, self._close_if_idle)
        self._meter.add(CONNECTION_SIZE)
        self._connections.add(self)  # not before: with TLS the handshake may fail
        super().connection_made(self._shared)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection, and tell every request under way."""
        self._connections.discard(self)
        self._meter.detach()
        self._idle_timer.cancel()
        self._ahead = b""
        self._lost.set_result(None)
        self._state.clear()  # it refers back to this object
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Whether a request whose head has arrived is not answered yet."""
        return self._unanswered > 0

    async def wait_until_lost(self, seconds: float | None) -> bool:
        """Wait some seconds of real time (None: no limit), or until the connection is lost.

        Return whether it is lost.
        """
        # uvicorn tells only the newest request of a connection, not those still under way before.
        await asyncio.wait({self._lost}, timeout=seconds)
        return self._lost.done()

    def pause_writing(self) -> None:
        """The client does not read (called by the transport)."""
        self._hold(self._real_transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads on (called by the transport)."""
        self._hold(0)
        super().resume_writing()

    def _hold(self, size: int) -> None:
        """Count the bytes that are held for the client beside the connection itself."""
        self._meter.add(CONNECTION_SIZE + size - self._meter.bytes)

    def use_title_case(self) -> None:
        """Spell the names of headers as `Retry-After` in the next head."""
        self._shared.title_case = True

    def write(self, data: bytes) -> None:
        """Send bytes past uvicorn."""
        self._shared.write(data)

    def close(self) -> None:
        """End the connection, once what was written is sent."""
        self._shared.close()

    def reset(self) -> None:
        """Break the connection off with a RST."""
        # Lingering for zero seconds turns the close into a RST.
        linger = struct.pack("ii", 1, 0)
        self._real_transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self._real_transport.abort()

    def request_done(self) -> None:
        """Go on after a request whose handling has ended."""
        self._unanswered -= 1
        self._used_at = self._clock()
        self._end_if_answered()
        if self._ahead:
            asyncio.get_running_loop().call_soon(self._parse_ahead)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, but not far ahead of the responses.

        A client may send thousands of requests without reading a response.
        """
        if len(data) <= READ_AHEAD and self._unanswered < 2 and not self._ahead:
            self._parse(data)
        else:
            self._ahead += data
            self._parse_ahead()

    def _parse_ahead(self) -> None:
        while (
            self._ahead
            and self._unanswered < 2
            and not self._refusal
            and not self._shared.is_closing()
        ):
            piece, self._ahead = self._ahead[:READ_AHEAD], self._ahead[READ_AHEAD:]
            self._parse(piece)
        self._shared.hold(bool(self._ahead))

    def _parse(self, data: bytes) -> None:
        """Have uvicorn parse a piece, without the lines that offer to change the protocol.

        Of a request with an `Upgrade` header, httptools stops at the end of the head: the body
        would be skipped. Java's client offers h2c in its first request, and the server may ignore
        that. So the line never reaches the parser; the header is passed on by itself. Since a piece
        may end anywhere, a line that may become such an offer is held until it is complete.
        """
        data, self._held = self._held + data, b""
        # Where the next line begins that may be an offer; None if there is none.
        place = 0 if self._line_begins and _MAY_BE_OFFER.match(data) else _next_offer(data)
        while place is not None:
            self._feed(data[:place])
            data = data[place:]
            line, newline, rest = data.partition(b"\n")
            offer = _OFFER.fullmatch(line) if self._in_head else None  # in a body it is data
            if self._in_head and not newline:
                data, self._held = b"", data
            elif offer:
                self.on_header(b"upgrade", offer[1])
                data = rest
            place = 0 if offer and _MAY_BE_OFFER.match(data) else _next_offer(data)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._refusal or self._shared.is_closing():
            return
        if data:
            super().data_received(data)
            self._line_begins = data.endswith(b"\n")
        self._unparsed_bytes += len(data)
        if self._in_head:  # and not all of it has arrived
            self._hold(self._unparsed_bytes + HEADER * self._fields)
        elif self._meter.bytes != CONNECTION_SIZE and not self._unanswered:
            self._hold(0)
        if self._unparsed_bytes + len(self._held) > MAX_HEAD:
            self._refuse(431, _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request has begun (called by httptools)."""
        self._in_head, self._fields = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived, or a trailer (called by httptools)."""
        if self._in_body:
            return  # a trailer must not be taken for a header
        self._fields += 1
        if self._fields > MAX_FIELDS:
            self._refuse(431, _HEAD_TOO_LARGE)
            raise ValueError("too many headers")  # stops the parser
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head has ended (called by httptools)."""
        self._in_head, self._in_body, self._unparsed_bytes = False, True, 0
        self._unanswered += 1
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived (called by httptools)."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended (called by httptools)."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP (called by uvicorn)."""
        self._refuse(400, _NOT_HTTP)

    def _refuse(self, status: int, response: bytes) -> None:
        """Accept nothing more; say why once all complete requests are answered."""
        if not self._refusal:
            self._unreadable[status] += 1
            self._refusal = response
            self._end_if_answered()

    def _end_if_answered(self) -> None:
        if self._refusal and self._unanswered <= self._in_body:
            self._shared.write(self._refusal)
            self._shared.close()

    def _close_if_idle(self) -> None:
        left = KEEP_ALIVE - (0 if self._unanswered else self._clock() - self._used_at)
        if left > 0:
            self._idle_timer = asyncio.get_running_loop().call_later(left, self._close_if_idle)
        else:
            self._shared.close()

    def shutdown(self) -> None:
        """End the connection as the server stops; requests under way are given a moment."""
        super().shutdown()
        asyncio.get_running_loop().call_later(SHUTDOWN_GRACE, self._shared.close)


class _SharedTransport(asyncio.Transport):
    """A connection's transport as uvicorn sees it.

    The writes of one turn of the event loop are sent together: uvicorn writes a head and then a
    body, and each write would be a system call, and wake the client. Reading is paused while
    either uvicorn or the connection wants it paused: each knows only its own reason.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._paused = self._held = False
        self.title_case = False  # of the next head
        self.is_closing = transport.is_closing  # type: ignore[method-assign]  # called often
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Write at the end of this turn of the event loop; at once if there is much."""
        if self.title_case:
            data, self.title_case = _in_title_case(data), False
        if not self._pending:
            self._call_soon(self._flush)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_JOINED:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close, once what was written is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Pause reading (called by uvicorn)."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless the connection holds it (called by uvicorn)."""
        self._paused = False
        self._set_reading()

    def hold(self, held: bool) -> None:
        """Pause reading for the connection, or resume it, unless uvicorn pauses it."""
        if held != self._held:
            self._held = held
            self._set_reading()

    def _set_reading(self) -> None:
        if self._paused or self._held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _in_title_case(head: bytes) -> bytes:
    """A response's head with names such as `Retry-After`: uvicorn writes all in lower case."""
    status, *lines = head.split(b"\r\n")
    named = [line.partition(b":") for line in lines]
    return b"\r\n".join([status, *(name.title() + colon + value for name, colon, value in named)])


def _next_offer(data: bytes) -> int | None:
    """Where the next line begins that may offer to change the protocol."""
    match = _NEXT_MAY_BE_OFFER.search(data)
    return match.end() if match else None
