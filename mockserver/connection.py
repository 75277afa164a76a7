"""HTTP/1.1 on a connection: uvicorn's protocol, and what it does not look after."""

from __future__ import annotations

import asyncio
import re

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mockserver.wire import CLOSE, Response, write_answer

READ_AHEAD = 16 * 1024  # bytes
MAX_HEAD = 64 * 1024  # bytes, about
SHUTDOWN_GRACE = 0.5  # seconds

_OFFER = re.compile(rb"(\r\nconnection:[^\r\n]*?)\bupgrade\b", re.IGNORECASE)
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"The request line and the headers have more than %d bytes.\n" % MAX_HEAD
)
_FAILED = Response(500, b"Internal Server Error", "text/plain; charset=utf-8", (CLOSE,))


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with bounds on what it reads ahead, and one timer a connection, not one an answer.

    What the application, an `App`, can answer at once does not pass through ASGI.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._ahead = b""  # what has arrived and is not read yet, since requests before it wait for their answers
        self._ending = False
        self._running: RequestResponseCycle | None = None
        self._head_bytes = 0  # of a head that has begun and not ended
        self._used_at = self.loop.time()
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def data_received(self, data: bytes) -> None:
        """Answer at once, or read on, but not far ahead of answers: a client may send requests by the thousand."""
        if self._idle() and self._answer_at_once(data):
            return
        if len(data) <= READ_AHEAD and not self.pipeline and not self._ahead:
            self._read(data)
            return
        self._ahead += data
        self._read_ahead()

    def _idle(self) -> bool:
        """Whether what arrives begins a request, nothing before it is unfinished, and the connection is to go on."""
        cycle = self.cycle
        if cycle is not None and (cycle.more_body or not cycle.response_complete):
            return False
        return not (self._ending or self._head_bytes or self._ahead or self.flow.write_paused)

    def _answer_at_once(self, data: bytes) -> bool:
        """Answer a request that has arrived whole, if the application can; tell whether it has.

        Nothing of uvicorn's has a part in that, neither parser nor cycle nor task: it would take a third of the time.
        """
        try:
            response = self.app.at_once(data, self.scheme, self.server)
        except Exception:
            self.logger.exception("Exception while answering at once")
            response = _FAILED
        if response is None:
            return False
        write_answer(self.transport, response, response.body, self.server_state.default_headers)
        self._used_at = self.loop.time()
        return True

    def _read_ahead(self) -> None:
        while self._ahead and not self.pipeline and not self.transport.is_closing():
            piece, self._ahead = self._ahead[:READ_AHEAD], self._ahead[READ_AHEAD:]
            self._read(piece)
        if self._ahead:
            self.flow.pause_reading()

    def _read(self, data: bytes) -> None:
        """Have the parser read, unless a head comes to no end."""
        if self._head_bytes > MAX_HEAD:
            return
        if b"pgrade" in data and (self.cycle is None or not self.cycle.more_body):
            data = _staying(data)
        before = self.scope
        super().data_received(data)
        if self.scope is None or "method" in self.scope:
            self._head_bytes = 0
            return
        self._head_bytes = len(data) + (self._head_bytes if self.scope is before else 0)
        if self._head_bytes > MAX_HEAD:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection, and let every request know that is under way, or waits for the one before it."""
        self._timer.cancel()
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for cycle in (self._running, *waiting):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

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
        self._ending = True
        self.loop.call_soon(super().shutdown)  # behind the answers that are about to be written
        self.loop.call_later(SHUTDOWN_GRACE, self.transport.close)


def _staying(data: bytes) -> bytes:
    """A request without its offer to change the protocol, as Java's client makes it: the parser would skip its body."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(rb"\1keep-alive", head, count=1) + end + rest
