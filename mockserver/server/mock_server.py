"""The double in a thread of this process, for tests."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, Self

from mockserver.admin.har import write_har
from mockserver.backend.backend import Backend
from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.backend.store import MAX_MEMORY
from mockserver.client import BASE_PATH, Tenant
from mockserver.clock import Mode
from mockserver.contract.api_error import FORMER_DIALECTS, Dialect
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.redaction import redacted, shortened_secret
from mockserver.scenarios.scenario import Scenario, Urls
from mockserver.server.app import App, build_app
from mockserver.server.tls import Authority
from mockserver.server.uvicorn_server import (
    T,
    UvicornServer,
    extra_origins,
    listen,
    run_server,
    url_of,
)

SETTLE = 2.0  # seconds that answers under way are waited for before a verdict


def _stray(exchange: Exchange) -> str:
    who = shortened_secret(exchange.token) if exchange.token else ANONYMOUS
    return f"{who}: {exchange.method} {redacted(exchange.path, exchange.token)}"


def _owners(name: str) -> set[str]:
    """The tokens that a tenant's name may have been made of."""
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
        self._given: set[str] = set()
        self._server: UvicornServer | None = None
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

        A token that was given out may have a plus and the name of a scenario after it. What needs
        no token, as a picture, is none of them.
        """

        def collect(backend: Backend) -> list[str]:
            strangers = [
                tenant
                for tenant in backend.store.tenants()
                if not self._given & _owners(tenant.name)
            ]
            for tenant in strangers:
                backend.store.forget(tenant.name)
            public = {
                operation.operation_id
                for operation in backend.contract.operations
                if operation.public
            }
            found = [exchange for tenant in strangers for exchange in tenant.journal]
            return [_stray(exchange) for exchange in found if exchange.operation_id not in public]

        return self.call_in_loop(collect)

    def write_har(self, path: Path) -> None:
        """Write the journals of all tenants to an HTTP Archive. Raises MockServerError."""
        self.call_in_loop(lambda backend: write_har(backend, path, self.url))

    def call_in_loop(self, function: Callable[[Backend], T]) -> T:
        """Call a function with the running gateway on the server's own thread, between requests; return its result."""
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
        """Wait until all that clients which have left had sent is read and answered, for some seconds at most."""
        assert self._server is not None
        asyncio.run_coroutine_threadsafe(self._server.settle(seconds), self._server.loop).result()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise MockServerError(
                "this MockServer is running already; for a second one beside it, make another"
            )
        if self._owns_authority:
            self._authority = Authority(self._host, *self._tls_names)
        listener = listen(self._host, self._port)
        scheme = "https" if self._tls else "http"
        self.url = url_of(listener, scheme)
        sockets = [listener, *extra_origins(self._app, scheme)]
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
    serve`. The seed is fixed, so that a suite's ids and pictures are the same on every run.
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
        errors: Dialect = "replicate",
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
        app = build_app(
            contract,
            scenario,
            clock=clock,
            speed=speed,
            seed=seed,
            strict=strict,
            require_auth=require_auth,
            urls=urls,
            errors=FORMER_DIALECTS.get(errors, errors),
            files_origin=files_origin,
            public_url=public_url,
            webhook_allow=tuple(name.lower() for name in webhook_allow),
            cors=tuple(cors),
            admin_token=admin_token,
            also_at=also_at,
            max_memory=max_memory,
        )
        super().__init__(app, tls=tls, tls_names=tls_names, host=host, port=port)
