"""The double as a running server: in this process for the command, in a thread for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import ssl
import tempfile
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import msgspec
import uvicorn

from mockserver.admin.har import har_of
from mockserver.app import App
from mockserver.backend.backend import Gateway, Options
from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.backend.store import MAX_MEMORY
from mockserver.client import BASE_PATH, Tenant
from mockserver.clock import Mode
from mockserver.contract.api_error import Dialect
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.http.connection import KEEP_ALIVE, Handled, HttpConnection, tracked
from mockserver.redaction import redacted, shortened_secret
from mockserver.report_files import write_file
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario, Urls

T = TypeVar("T")

SHUTDOWN = 3  # seconds that requests under way are given
SETTLE = 2.0  # seconds that answers under way are waited for before a verdict
QUIET_TURNS = 20  # of the event loop in which nothing comes, after which nothing more is there
TURN = 0.005  # seconds between looks at what is under way


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises MockServerError."""
    try:
        host.encode("idna")  # create_server leaves its socket open when it finds that a host cannot be encoded
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
    """A certificate authority made for one run.

    `file` is its certificate, which clients can be told to trust; `server_file` the server's own, with its key.
    """

    def __init__(self, *hosts: str) -> None:
        try:
            import trustme
        except ImportError as reason:
            raise MockServerError("--tls needs trustme: pip install 'flux-mockserver[tls]'") from reason
        authority = trustme.CA(organization_name="mockserver")
        self._folder = tempfile.TemporaryDirectory(prefix="mockserver-")  # which only its owner can read
        self.file = Path(self._folder.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(self.file))
        self.server_file = Path(self._folder.name) / "server.pem"
        try:
            certificate = authority.issue_cert("127.0.0.1", "localhost", "::1", *hosts)
        except (ValueError, UnicodeError) as reason:
            self.close()
            raise MockServerError(f"no certificate can be made for {', '.join(hosts)}: {reason}") from reason
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))

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
        self._connections: set[HttpConnection] = set()
        self._handled = Handled()
        gateway = app.gateway
        connection = partial(HttpConnection, self._connections, gateway.store.underway, gateway.metrics.unreadable)
        super().__init__(
            uvicorn.Config(
                tracked(app, self._handled),
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
        yield

    def hang_up(self) -> None:
        """End, without waiting for clients: what is under way finds that they have left."""
        self.should_exit = True
        for connection in list(self._connections):
            connection.close()

    async def settle(self, seconds: float) -> None:
        """Read and answer what clients have sent before they left; wait some seconds at most for what takes long."""
        end, quiet, busy = self.loop.time() + seconds, 0, False
        while quiet < QUIET_TURNS and self.loop.time() < end:
            before = len(self._connections)
            await asyncio.sleep(TURN if busy else 0)
            busy = self._handled.count > 0 or any(each.is_answering for each in self._connections)
            quiet = 0 if busy or len(self._connections) != before else quiet + 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._app.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's where that is installed. The process's own policy is left alone."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run(
    server: _Server,
    sockets: list[socket.socket],
    signals: Mapping[signal.Signals, Callable[[], None]] | None = None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until the server is told to exit. `signals` says what is done when one comes; `beside` goes on too."""

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
        # uvloop warns of a connection whose handshake has not ended, before it closes it: where warnings are errors,
        # it would wait for that one for ever.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            runner.close()


def serve(
    app: App,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    authority: Authority | None = None,
    drain: float = 0,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. `on_ready` is called once requests are answered; `beside` goes on meanwhile.

    For `drain` seconds after a SIGTERM it goes on, and says at /__admin/health that it is about to stop.
    """
    others = _extra_origins(app, "https" if authority else "http")
    server = _Server(app, on_ready, authority)

    # What start-up made stays: without it the collector, at work beneath requests, has little to walk.
    gc.collect()
    gc.freeze()

    def terminate() -> None:
        if drain and not app.gateway.draining:
            app.gateway.draining = True
            asyncio.get_running_loop().call_later(drain, _end, server)
        else:
            _stop(server)

    _run(server, [listener, *others], {signal.SIGINT: partial(_stop, server), signal.SIGTERM: terminate}, beside)


def _stop(server: uvicorn.Server) -> None:
    server.force_exit = server.should_exit  # the second time, do not wait for what is under way
    _end(server)


def _end(server: uvicorn.Server) -> None:
    server.should_exit = True


def whereabouts(listener: socket.socket, authority: Authority | None = None) -> dict[str, object]:
    """Where a server is: `url`, `port`, and `ca_file` if it speaks TLS."""
    facts: dict[str, object] = {"url": url_of(listener, "https" if authority else "http")}
    facts["port"] = listener.getsockname()[1]
    if authority is not None:
        facts["ca_file"] = str(authority.file)
    return facts


def write_har(gateway: Gateway, path: Path, base_url: str) -> None:
    """Write the journals of all tenants to an HTTP Archive. Raises MockServerError."""
    exchanges = [exchange for tenant in gateway.store.tenants() for exchange in tenant.journal]
    write_file(path, msgspec.json.format(msgspec.json.encode(har_of(exchanges, base_url))) + b"\n")


def build_app(contract: Path | Contract | None, scenario: str | Scenario | Mapping[str, Any], **options: Any) -> App:
    """The application for a contract, and a scenario by name, file or value; the rest goes into its Options."""
    loaded = contract if isinstance(contract, Contract) else Contract.load(contract)
    catalogue = Catalogue(loaded)
    chosen = catalogue.read(scenario) if isinstance(scenario, str) else catalogue.coerce(scenario)
    return App(loaded, catalogue, Options(scenario=chosen, **options))


def _stray(exchange: Exchange) -> str:
    who = shortened_secret(exchange.token) if exchange.token else ANONYMOUS
    return f"{who}: {exchange.method} {redacted(exchange.path, exchange.token)}"


def _owners(name: str) -> set[str]:
    """The tokens that a tenant's name may have been made of."""
    return {name, name.rpartition("+")[0], "" if name == ANONYMOUS else name}


class MockServer:
    """A double in a background thread of this process, for the time of a `with` block.

    It listens on a free port of the loopback address and answers when `with` returns. `scenario` is a name, a file, a
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
        tls: bool | Authority = False,
        tls_names: Sequence[str] = (),
        also_at: str | None = None,
        public_url: str | None = None,
        webhook_allow: Sequence[str] = (),
        cors: Sequence[str] = (),
        admin_token: str | None = None,
        max_memory: int = MAX_MEMORY,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._app = build_app(
            contract,
            scenario,
            clock=clock,
            speed=speed,
            seed=seed,
            strict=strict,
            require_auth=require_auth,
            urls=urls,
            errors=errors,
            files_origin=files_origin,
            public_url=public_url,
            webhook_allow=tuple(name.lower() for name in webhook_allow),
            cors=tuple(cors),
            admin_token=admin_token,
            also_at=also_at,
            max_memory=max_memory,
        )
        self._host = host
        self._admin_token = admin_token
        self._port = port
        self._tls = bool(tls)
        self._tls_names = tuple(tls_names)
        self._authority = tls if isinstance(tls, Authority) else None
        self._owns_authority = tls is True
        self._tokens = itertools.count(1)
        self._given: set[str] = set()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def base_url(self) -> str:
        """What clients are given as the API's base URL."""
        return self.url + BASE_PATH

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
        self._given.add(token)
        tenant = Tenant(self.url, token, admin_token=self._admin_token, tls=trusting)
        if scenario is not None:
            tenant.use(scenario)
        if clock is not None:
            tenant.set_clock(clock)
        return tenant

    def strays(self) -> list[str]:
        """The requests, a line each, that came under tokens which `tenant` has not given out; they are forgotten then.

        A token that was given out may have a plus and the name of a scenario after it. What needs no token, as a
        picture, is none of them.
        """

        def collect(gateway: Gateway) -> list[str]:
            strangers = [tenant for tenant in gateway.store.tenants() if not self._given & _owners(tenant.name)]
            for tenant in strangers:
                gateway.store.forget(tenant.name)
            public = {operation.operation_id for operation in gateway.contract.operations if operation.public}
            found = [exchange for tenant in strangers for exchange in tenant.journal]
            return [_stray(exchange) for exchange in found if exchange.operation_id not in public]

        return self.call_in_loop(collect)

    def write_har(self, path: Path) -> None:
        """Write the journals of all tenants to an HTTP Archive. Raises MockServerError."""
        self.call_in_loop(lambda gateway: write_har(gateway, path, self.url))

    def call_in_loop(self, function: Callable[[Gateway], T]) -> T:
        """Call a function with the running gateway on the server's own thread, between requests; return its result."""
        assert self._server is not None
        result: Future[T] = Future()

        def call() -> None:
            try:
                result.set_result(function(self._app.gateway))
            except BaseException as reason:
                result.set_exception(reason)

        self._server.loop.call_soon_threadsafe(call)
        return result.result()

    def settle(self, seconds: float = SETTLE) -> None:
        """Wait until all that clients which have left had sent is read and answered, for some seconds at most."""
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server.settle(seconds), self._server.loop).result()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise MockServerError("this MockServer is running already; for a second one beside it, make another")
        if self._owns_authority:
            self._authority = Authority(self._host, *self._tls_names)
        listener = listen(self._host, self._port)
        scheme = "https" if self._tls else "http"
        self.url = url_of(listener, scheme)
        sockets = [listener, *_extra_origins(self._app, scheme)]
        ready = threading.Event()
        self._server = _Server(self._app, ready.set, self._authority)
        self._thread = threading.Thread(target=_run, args=(self._server, sockets), name="mockserver", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.loop.call_soon_threadsafe(self._server.hang_up)
        self._thread.join()
        self._thread = None
        if self._owns_authority and self._authority is not None:
            self._authority.close()
