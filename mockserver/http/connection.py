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

from mockserver.backend.memory import Meter
from mockserver.http.channel import CONNECTION, ASGIApp, Receive, Scope, Send

KEEP_ALIVE = (
    75  # seconds; longer than clients pool their connections, so that none is reused as it closes
)
SHUTDOWN_GRACE = 0.5  # seconds
READ_AHEAD = 16 * 1024  # bytes
MAX_HEAD = 64 * 1024  # bytes of a head, of trailers, or of one chunk's size, about
CONNECTION_SIZE = 7000  # bytes that an idle one takes
FIELD = 150  # bytes that a header takes beside its text
MAX_FIELDS = 256  # headers of a request
MAX_JOINED = 64 * 1024  # bytes
_OFFER = re.compile(rb"upgrade:[ \t]*([^\r]*)\r?", re.IGNORECASE)
_MAY_BE_OFFER = re.compile(rb"[uU](?:[pP]|\Z)")
_NEXT_MAY_BE_OFFER = re.compile(rb"\n(?=[uU](?:[pP]|\Z))")


def _refusal(status: bytes, reason: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(reason)) + reason


_NOT_HTTP = _refusal(b"400 Bad Request", b"Invalid HTTP request received.")
_HEAD_TOO_LARGE = _refusal(
    b"431 Request Header Fields Too Large",
    b"The request line and the headers have more than %d bytes, or more than %d headers.\n"
    % (MAX_HEAD, MAX_FIELDS),
)


class InFlight:
    """How many requests are being handled, whether their clients are still there or not."""

    count = 0


def count_in_flight(app: ASGIApp, handled: InFlight) -> ASGIApp:
    """An application that counts what it is handling, and tells each connection when one of its requests is done."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        handled.count += 1
        try:
            await app(scope, receive, send)
        finally:
            handled.count -= 1
            scope["state"][CONNECTION].request_done()

    return application


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, reachable from the application as `scope["state"][CONNECTION]`.

    It reads only so far ahead of the answers, bounds the head of a request, and closes a connection
    that is idle. The application has to be `tracked`. A connection that is open is one of
    `connections`. What comes and cannot be read as a request is counted in `unreadable`, by the
    status that it is answered with.
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
        self._state = {
            **app_state,
            CONNECTION: self,
        }  # uvicorn puts a copy into every request's scope
        super().__init__(app_state=self._state, **settings)
        self._ahead = b""  # what has arrived and is not parsed yet, since requests before it wait for their answers
        self._unanswered = 0  # requests whose head has been parsed
        self._unparsed_bytes = 0  # that have come since a head ended, or something of a body came
        self._in_head = self._in_body = self._line_begins = False
        self._fields = 0
        self._held = b""  # the beginning of a line
        self._ended = b""  # what is said at the end, once nothing more is taken

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
        self._connections.add(self)  # not before: of TLS, the handshake may fail
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
        """Whether a request whose head has come is not answered yet."""
        return self._unanswered > 0

    async def wait_until_lost(self, seconds: float | None) -> bool:
        """Wait some seconds of real time (None: for ever), or until the connection is gone; tell whether it is."""
        # uvicorn tells only the newest request of a connection, and not the one under way before
        # it.
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
        """Count what is held for the client beside the connection itself."""
        self._meter.add(CONNECTION_SIZE + size - self._meter.bytes)

    def write(self, data: bytes) -> None:
        """Send something past uvicorn."""
        self._shared.write(data)

    def close(self) -> None:
        """End the connection, once what has been sent is out."""
        self._shared.close()

    def reset(self) -> None:
        """Break the connection off: the client is sent a RST."""
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
        """Parse what has arrived, but not far ahead of the answers: a client may send requests by the thousand."""
        if len(data) <= READ_AHEAD and self._unanswered < 2 and not self._ahead:
            self._parse(data)
        else:
            self._ahead += data
            self._parse_ahead()

    def _parse_ahead(self) -> None:
        while (
            self._ahead
            and self._unanswered < 2
            and not self._ended
            and not self._shared.is_closing()
        ):
            piece, self._ahead = self._ahead[:READ_AHEAD], self._ahead[READ_AHEAD:]
            self._parse(piece)
        self._shared.hold(bool(self._ahead))

    def _parse(self, data: bytes) -> None:
        """Have uvicorn parse a piece, but for offers to change the protocol: the parser would skip the body then.

        Java's client makes one with its first request. A line that may become one is held until it
        is whole.
        """
        data, self._held = self._held + data, b""
        place = 0 if self._line_begins and _MAY_BE_OFFER.match(data) else _next_offer(data)
        while place is not None:
            self._feed(data[:place])
            data = data[place:]
            line, newline, rest = data.partition(b"\n")
            offer = _OFFER.fullmatch(line) if self._in_head else None
            if self._in_head and not newline:
                data, self._held = b"", data
            elif offer:
                self.on_header(b"upgrade", offer[1])
                data = rest
            place = 0 if offer and _MAY_BE_OFFER.match(data) else _next_offer(data)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._ended or self._shared.is_closing():
            return
        if data:
            super().data_received(data)
            self._line_begins = data.endswith(b"\n")
        self._unparsed_bytes += len(data)
        if self._in_head:  # of which not all has come
            self._hold(self._unparsed_bytes + FIELD * self._fields)
        elif self._meter.bytes != CONNECTION_SIZE and not self._unanswered:
            self._hold(0)
        if self._unparsed_bytes + len(self._held) > MAX_HEAD:
            self._refuse(431, _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request has begun (called by httptools)."""
        self._in_head, self._fields = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come (called by httptools), or a trailer, which is none: it is not to be believed."""
        if self._in_body:
            return
        self._fields += 1
        if self._fields > MAX_FIELDS:
            self._refuse(431, _HEAD_TOO_LARGE)
            raise ValueError("too many headers")  # the parser stops then
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head has ended (called by httptools)."""
        self._in_head, self._in_body, self._unparsed_bytes = False, True, 0
        self._unanswered += 1
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body has come (called by httptools)."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended (called by httptools)."""
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP (called by uvicorn)."""
        self._refuse(400, _NOT_HTTP)

    def _refuse(self, status: int, response: bytes) -> None:
        """Take nothing more, and say why, once all that was whole has its answer."""
        if not self._ended:
            self._unreadable[status] += 1
            self._ended = response
            self._end_if_answered()

    def _end_if_answered(self) -> None:
        if self._ended and self._unanswered <= self._in_body:
            self._shared.write(self._ended)
            self._shared.close()

    def _close_if_idle(self) -> None:
        left = KEEP_ALIVE - (0 if self._unanswered else self._clock() - self._used_at)
        if left > 0:
            self._idle_timer = asyncio.get_running_loop().call_later(left, self._close_if_idle)
        else:
            self._shared.close()

    def shutdown(self) -> None:
        """End the connection as the server stops; what is under way is given a moment."""
        super().shutdown()
        asyncio.get_running_loop().call_later(SHUTDOWN_GRACE, self._shared.close)


class _SharedTransport(asyncio.Transport):
    """A connection's transport as uvicorn sees it.

    The writes of one turn of the event loop go out together: uvicorn writes a head and a body one
    after the other, and each would be a system call, and wake the client. Reading is paused while
    either uvicorn or the connection wants so.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._paused = self._held = False
        self.is_closing = transport.is_closing  # type: ignore[method-assign]  # asked for often
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Write at the end of this turn of the event loop; at once, what is large."""
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
        """Close, once what is written is out."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more, at uvicorn's wish."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, as far as uvicorn is concerned."""
        self._paused = False
        self._set_reading()

    def hold(self, held: bool) -> None:
        """Read no more, or again, as far as the connection is concerned."""
        if held != self._held:
            self._held = held
            self._set_reading()

    def _set_reading(self) -> None:
        if self._paused or self._held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _next_offer(data: bytes) -> int | None:
    """Where the next line begins that may offer to change the protocol."""
    found = _NEXT_MAY_BE_OFFER.search(data)
    return found.end() if found else None
