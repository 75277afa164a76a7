"""A double in a thread of this process, for tests."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, Unpack

from mockserver.admin.har import write_har
from mockserver.backend.backend import Backend
from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.client import BASE_PATH, Tenant
from mockserver.clock import Mode
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.redaction import redacted, shortened_secret
from mockserver.scenarios.scenario import Scenario
from mockserver.server.app import App, Settings, build_app
from mockserver.server.tls import Authority
from mockserver.server.uvicorn_server import (
    T,
    UvicornServer,
    extra_origins,
    listen,
    run_server,
    url_of,
)

SETTLE = 2.0  # seconds to wait for responses under way before a verdict


def _line(exchange: Exchange) -> str:
    name = shortened_secret(exchange.token) if exchange.token else ANONYMOUS
    return f"{name}: {exchange.method} {redacted(exchange.path, exchange.token)}"


def _owners(name: str) -> set[str]:
    """The tokens that a tenant's name may stand for: `ci-7+nsfw` is the name of `ci-7` too."""
    return {name, name.rpartition("+")[0], "" if name == ANONYMOUS else name}


class AppServer:
    """An application in a background thread of this process, for the time of a `with` block.

    It listens on `host` and `port`, where 0 is any free port, and answers when `with` returns.
    """

    def __init__(
        self,
        app: App,
        *,
        tls: bool | Authority = False,
        tls_names: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._app = app
        self._host = host
        self._admin_token = app.backend.options.admin_token
        self._port = port
        self._tls = bool(tls)
        self._tls_names = tuple(tls_names)
        self._authority = tls if isinstance(tls, Authority) else None
        self._owns_authority = tls is True
        self._tokens = itertools.count(1)
        self._opened: set[str] = set()  # the tokens of its tenants
        self._server: UvicornServer | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def base_url(self) -> str:
        """The API's base URL for clients."""
        return self.url + BASE_PATH

    @property
    def ca_file(self) -> str | None:
        """The certificate that clients have to trust, with TLS."""
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
        """Open a tenant, with a fresh token unless one is given."""
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        token = f"test-{next(self._tokens):06d}" if token is None else token
        self._opened.add(token)
        tenant = Tenant(self.url, token, admin_token=self._admin_token, tls=context)

        if scenario is not None:
            tenant.use(scenario)
        if clock is not None:
            tenant.set_clock(clock)
        return tenant

    def unattributed_requests(self) -> list[str]:
        """The requests with tokens that `tenant` did not open, one per line; they are forgotten.

        A token may be followed by a plus and the name of a scenario. Requests that need no token,
        such as for a picture, are not among them.
        """

        def collect(backend: Backend) -> list[str]:
            unknown = [
                tenant
                for tenant in backend.store.tenants()
                if not self._opened & _owners(tenant.name)
            ]
            for tenant in unknown:
                backend.store.forget(tenant.name)

            public = {
                operation.operation_id
                for operation in backend.contract.operations
                if operation.public
            }
            exchanges = [exchange for tenant in unknown for exchange in tenant.journal]
            return [_line(item) for item in exchanges if item.operation_id not in public]

        return self.call_in_loop(collect)

    def strays(self) -> list[str]:
        """`unattributed_requests`, under its former name."""
        return self.unattributed_requests()

    def write_har(self, path: Path) -> None:
        """Write the journals of all tenants to an HTTP Archive. Raises MockServerError."""
        self.call_in_loop(lambda backend: write_har(backend, path, self.url))

    def call_in_loop(self, function: Callable[[Backend], T]) -> T:
        """Call a function with the backend in the server's thread, between requests.

        Returns its result, or raises what it raised.
        """
        assert self._server is not None
        result: Future[T] = Future()

        def call() -> None:
            try:
                result.set_result(function(self._app.backend))
            except BaseException as reason:
                result.set_exception(reason)

        self._server.loop.call_soon_threadsafe(call)
        return result.result()

    def settle(self, seconds: float = SETTLE) -> None:
        """Wait, at most some seconds, until what clients sent before they exited is answered."""
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server.settle(seconds), self._server.loop).result()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise MockServerError(
                "this MockServer is running already; for a second one, create another"
            )

        if self._owns_authority:
            self._authority = Authority(self._host, *self._tls_names)
        listeners = listen(self._host, self._port)
        scheme = "https" if self._tls else "http"
        self.url = url_of(listeners[0], scheme)
        sockets = [*listeners, *extra_origins(self._app, scheme)]

        ready = threading.Event()
        self._server = UvicornServer(self._app, ready.set, self._authority)
        self._thread = threading.Thread(
            target=run_server, args=(self._server, sockets), name="mockserver", daemon=True
        )
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


class MockServer(AppServer):
    """A double in a background thread of this process, for the time of a `with` block.

    It listens on a free port of the loopback address and answers when `with` returns. `scenario` is
    a name, a file, a Scenario or its JSON value; the other settings are those of `mockserver
    serve`. The seed is 0 unless set, so that a suite's ids and pictures are the same on every run.
    Raises MockServerError for settings that do not fit.
    """

    def __init__(
        self,
        *,
        scenario: str | Scenario | Mapping[str, Any] = "succeeded",
        contract: Path | Contract | None = None,
        tls: bool | Authority = False,
        tls_names: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        **settings: Unpack[Settings],
    ) -> None:
        app = build_app(contract, scenario, **settings)
        super().__init__(app, tls=tls, tls_names=tls_names, host=host, port=port)
