"""The double as a running server: in this process for the command, in a thread for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import uvicorn

from mockserver.admin_client import Tenant
from mockserver.app import App
from mockserver.clock import Mode
from mockserver.connection import Connection
from mockserver.contract import Contract
from mockserver.errors import Dialect, MockServerError
from mockserver.gateway import Gateway, Options
from mockserver.scenarios import Catalogue, Scenario, Urls

T = TypeVar("T")

KEEP_ALIVE = 75  # seconds; longer than clients pool their connections, so that none is reused as it closes
SHUTDOWN = 3  # seconds that requests under way are given


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises MockServerError."""
    try:
        return socket.create_server((host, port), backlog=2048, family=_family(host))
    except (OSError, TypeError, UnicodeError) as reason:
        errno = reason.errno if isinstance(reason, OSError) else None
        said = os.strerror(errno) if errno and errno > 0 else str(reason)
        raise MockServerError(
            f"cannot listen on {host}:{port}: {said}; choose another --port, or 0 for a free one"
        ) from reason


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The base URL at which a listening socket can be reached."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Authority:
    """A certificate authority made for one run, whose certificate clients can be told to trust."""

    def __init__(self, host: str) -> None:
        try:
            import trustme
        except ImportError as reason:
            raise MockServerError("--tls needs trustme: pip install 'flux-mockserver[tls]'") from reason
        authority = trustme.CA(organization_name="mockserver")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost", "::1", host).configure_cert(self.context)
        self._folder = tempfile.TemporaryDirectory(prefix="mockserver-")
        self.file = Path(self._folder.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(self.file))

    def close(self) -> None:
        """Remove the certificate."""
        self._folder.cleanup()


def _extra_origins(app: App, scheme: str) -> list[socket.socket]:
    """The sockets of the origins beside the API's, on free ports of loopback."""
    decoy = listen("127.0.0.1", 0)
    app.listen_as_decoy(url_of(decoy, scheme))
    if app.gateway.options.files_origin == "same":
        return [decoy]
    files = listen("127.0.0.1", 0)
    app.listen_as_file_host(url_of(files, scheme))
    return [decoy, files]


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it answers, and leaves signals to its caller."""

    def __init__(self, app: App, on_ready: Callable[[], None], authority: Authority | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=Connection,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="error",
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=SHUTDOWN,
                ssl_context_factory=(lambda *_: authority.context) if authority else None,
            )
        )
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def hang_up(self) -> None:
        """End, without waiting for clients: what is under way finds that they have left."""
        for connection in list(self.server_state.connections):
            connection.transport.close()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()


def serve(
    app: App, listener: socket.socket, *, on_ready: Callable[[], None], authority: Authority | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C. `on_ready` is called once requests are answered."""
    others = _extra_origins(app, "https" if authority else "http")
    server = _Server(app, on_ready, authority)

    # What start-up made stays: without it the collector, at work beneath requests, has little to walk.
    gc.collect()
    gc.freeze()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, server)
        await server.serve(sockets=[listener, *others])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


def _stop(server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # the second time, do not wait for what is under way
    server.should_exit = True


def write_ready_file(path: Path, listener: socket.socket, authority: Authority | None = None) -> None:
    """Say where the server is, as JSON: `url`, `port`, `pid`, and `ca_file` if it speaks TLS.

    The file appears whole or not at all.
    """
    facts: dict[str, object] = {"url": url_of(listener, "https" if authority else "http")}
    facts |= {"port": listener.getsockname()[1], "pid": os.getpid()}
    if authority is not None:
        facts["ca_file"] = str(authority.file)
    try:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(facts) + "\n")
        draft.replace(path)
    except OSError as reason:
        raise MockServerError(f"cannot write the ready file {path}: {reason.strerror}") from reason
    except ValueError as reason:
        raise MockServerError(f"cannot write the ready file {path}: {reason}") from reason


class MockServer:
    """A double in a background thread of this process, for the time of a `with` block.

    It listens on a free port of the loopback address and answers when `with` returns. `scenario` is a name, a
    Scenario or its JSON value; the other settings are those of `mockserver serve`. The seed is fixed, so that a
    suite's ids and pictures are the same on every run.
    """

    def __init__(
        self,
        *,
        scenario: str | Scenario | Mapping[str, Any] = "succeeded",
        contract: Path | Contract | None = None,
        clock: Mode = "autojump",
        speed: float = 1.0,
        seed: int = 0,
        strict: bool = False,
        require_auth: bool = False,
        urls: Urls = "local",
        errors: Dialect = "upstream",
        files_origin: Literal["same", "separate"] = "same",
        tls: bool = False,
        port: int = 0,
    ) -> None:
        loaded = contract if isinstance(contract, Contract) else Contract.load(contract)
        catalogue = Catalogue(loaded)
        options = Options(
            seed=seed,
            clock=clock,
            speed=speed,
            scenario=catalogue.coerce(scenario),
            strict=strict,
            require_auth=require_auth,
            urls=urls,
            errors=errors,
            files_origin=files_origin,
        )
        self._app = App(loaded, catalogue, options)
        self._port = port
        self._tls = tls
        self._authority: Authority | None = None
        self._tokens = itertools.count(1)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def base_url(self) -> str:
        """What clients are given as the API's base URL."""
        return self.url + "/replicate"

    @property
    def ca_file(self) -> str | None:
        """The certificate that clients are to trust, if it speaks TLS."""
        return str(self._authority.file) if self._authority else None

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self.url.rpartition(":")[2])

    def tenant(
        self,
        token: str | None = None,
        *,
        scenario: str | Scenario | Mapping[str, Any] | None = None,
        clock: Mode | None = None,
    ) -> Tenant:
        """A tenant of its own: with a fresh token, unless one is given."""
        trusting = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        token = f"test-{next(self._tokens):06d}" if token is None else token
        tenant = Tenant(self.url, token, tls=trusting)
        if scenario is not None:
            tenant.use(scenario)
        if clock is not None:
            tenant.set_clock(clock)
        return tenant

    def ask(self, question: Callable[[Gateway], T]) -> T:
        """What a function makes of the running gateway. It is called on the server's own thread, between requests."""
        assert self._server is not None
        response: Future[T] = Future()

        def put() -> None:
            try:
                response.set_result(question(self._app.gateway))
            except BaseException as reason:
                response.set_exception(reason)

        self._server.loop.call_soon_threadsafe(put)
        return response.result()

    def __enter__(self) -> Self:
        listener = listen("127.0.0.1", self._port)
        self._authority = Authority("127.0.0.1") if self._tls else None
        scheme = "https" if self._tls else "http"
        self.url = url_of(listener, scheme)
        sockets = [listener, *_extra_origins(self._app, scheme)]
        ready = threading.Event()
        self._server = _Server(self._app, ready.set, self._authority)
        self._thread = threading.Thread(target=self._server.run, args=(sockets,), name="mockserver", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.loop.call_soon_threadsafe(self._server.hang_up)
        self._thread.join()
        if self._authority is not None:
            self._authority.close()
