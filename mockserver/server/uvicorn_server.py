"""The application served by uvicorn: sockets, the event loop, signals, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import uvicorn

from mockserver.errors import MockServerError
from mockserver.http.connection import KEEP_ALIVE, HttpConnection, InFlight, count_in_flight
from mockserver.server.app import App
from mockserver.server.tls import Authority

T = TypeVar("T")
FREE_PORTS = 5  # that are tried until one is free for both IP versions
SHUTDOWN = 3  # seconds that requests under way are given
IDLE_TURNS = 20  # turns of the event loop without activity, after which a server has settled
TURN = 0.005  # seconds between two looks at a busy server


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on one port; port 0 picks a free one. Raises MockServerError.

    There is one, but for `localhost`: clients take that for 127.0.0.1 or for ::1, so both are
    listened on where there is IPv6.
    """
    if host.lower() != "localhost":
        return [_listen(host, port)]
    for attempts_left in reversed(range(FREE_PORTS)):
        first = _listen("127.0.0.1", port)
        try:
            return [first, *_listen_too("::1", first.getsockname()[1])]
        except MockServerError:
            first.close()
            if port or not attempts_left:
                raise
    raise AssertionError


def _listen_too(host: str, port: int) -> list[socket.socket]:
    """A socket for the other IP version; none where the machine has no such address."""
    try:
        with socket.socket(_family(host)) as probe:
            probe.bind((host, 0))
    except OSError:
        return []
    return [_listen(host, port)]


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise MockServerError(
            "--host is empty, which would listen on all addresses; "
            "say 0.0.0.0 if that is meant, or leave it out"
        )
    try:
        # Before create_server, which would leak its socket if the host cannot be encoded.
        host.encode("idna")
        return socket.create_server((host, port), backlog=2048, family=_family(host))
    except (OSError, TypeError, UnicodeError) as reason:
        errno = reason.errno if isinstance(reason, OSError) else None
        message = os.strerror(errno) if errno and errno > 0 else str(reason)
        raise MockServerError(
            f"cannot listen on {host}:{port}: {message}; choose another --port, or 0 for a free one"
        ) from reason


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The base URL at which a listening socket can be reached."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def extra_origins(app: App, scheme: str) -> list[socket.socket]:
    """The sockets of the origins beside the API's, on free ports of loopback."""
    (decoy,) = listen("127.0.0.1", 0)
    app.listen_as_decoy(url_of(decoy, scheme))
    if app.backend.options.files_origin == "same":
        return [decoy]
    (files,) = listen("127.0.0.1", 0)
    app.listen_as_file_host(url_of(files, scheme))
    return [decoy, files]


class UvicornServer(uvicorn.Server):
    """uvicorn's server; it reports when it is ready, and leaves signals to its caller."""

    def __init__(
        self, app: App, on_ready: Callable[[], None], authority: Authority | None = None
    ) -> None:
        self._connections: set[HttpConnection] = set()
        self._in_flight = InFlight()
        backend = app.backend
        connection = partial(
            HttpConnection, self._connections, backend.store.underway, backend.metrics.unreadable
        )
        super().__init__(
            uvicorn.Config(
                count_in_flight(app, self._in_flight),
                interface="asgi3",
                http=connection,  # type: ignore[arg-type]  # called as a class is
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="error",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=SHUTDOWN,
                ssl_certfile=str(authority.server_file) if authority else None,
            )
        )
        self._app = app
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals: the caller does."""
        yield

    def hang_up(self) -> None:
        """End without waiting for clients; to requests under way, they have disconnected."""
        self.should_exit = True
        for connection in list(self._connections):
            connection.close()

    async def settle(self, seconds: float) -> None:
        """Read and answer what clients have sent, within some seconds.

        A client may have exited right after it had sent a request: its bytes, or the connection
        itself, may still be in the kernel. Turns of the loop without any activity show that nothing
        is left there.
        """
        end, quiet, busy = self.loop.time() + seconds, 0, False
        while quiet < IDLE_TURNS and self.loop.time() < end:
            before = len(self._connections)
            await asyncio.sleep(TURN if busy else 0)
            busy = self._in_flight.count > 0 or any(
                connection.is_answering for connection in self._connections
            )
            quiet = 0 if busy or len(self._connections) != before else quiet + 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and close the application."""
        await super().shutdown(sockets)
        await self._app.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report that the server is ready."""
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop, of uvloop if that is installed. The process's policy is not changed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_server(
    server: UvicornServer,
    sockets: list[socket.socket],
    signals: Mapping[signal.Signals, Callable[[], None]] | None = None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until `server.should_exit`, with handlers of signals; `beside` runs meanwhile."""

    async def run() -> None:
        for number, act in (signals or {}).items():
            asyncio.get_running_loop().add_signal_handler(number, act)
        task = asyncio.create_task(beside()) if beside is not None else None
        await server.serve(sockets=sockets)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    runner = asyncio.Runner(loop_factory=_new_loop)
    try:
        runner.run(run())
    finally:
        # uvloop warns of a connection with an unfinished TLS handshake before it closes it. Where
        # warnings are errors, the exception would keep it open, and the loop waiting for ever.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            runner.close()


def serve(
    app: App,
    listeners: Sequence[socket.socket],
    *,
    on_ready: Callable[[], None],
    authority: Authority | None = None,
    drain: float = 0,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    `on_ready` is called once requests are answered; `beside` runs meanwhile. After a SIGTERM it
    serves for `drain` more seconds, in which /__admin/health answers 503.
    """
    others = extra_origins(app, "https" if authority else "http")
    server = UvicornServer(app, on_ready, authority)

    # The objects made at start-up live as long as the process: the garbage collector need not
    # traverse them while requests are answered.
    gc.collect()
    gc.freeze()

    def terminate() -> None:
        if drain and not app.backend.draining:
            app.backend.draining = True
            asyncio.get_running_loop().call_later(drain, _end, server)
        else:
            _stop(server)

    run_server(
        server,
        [*listeners, *others],
        {signal.SIGINT: partial(_stop, server), signal.SIGTERM: terminate},
        beside,
    )


def _stop(server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # the second time, do not wait for requests
    _end(server)


def _end(server: uvicorn.Server) -> None:
    server.should_exit = True


def server_info(listener: socket.socket, authority: Authority | None = None) -> dict[str, object]:
    """What the ready file says of a server: `url`, `port`, and `ca_file` with TLS."""
    facts: dict[str, object] = {"url": url_of(listener, "https" if authority else "http")}
    facts["port"] = listener.getsockname()[1]
    if authority is not None:
        facts["ca_file"] = str(authority.file)
    return facts
