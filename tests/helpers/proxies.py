"""A proxy before a gateway of which a test writes every answer itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import httpx

from mockserver import Tenant
from mockserver.conformance.proxy import proxy_app
from mockserver.server.mock_server import AppServer

NUMBERS = count()


@contextmanager
def proxying(url: str, **options: Any) -> Iterator[Tenant]:
    """A tenant of a proxy in front of a gateway."""
    with AppServer(proxy_app(url, **options)) as proxy:
        yield proxy.tenant(f"a-token-of-the-proxy-{next(NUMBERS)}")


@contextmanager
def asking(tenant: Tenant) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {tenant.token}"}
    with httpx.Client(base_url=tenant.url, headers=headers, verify=False, timeout=20) as client:
        yield client


class Raw:
    """A gateway of which a test writes every answer itself."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            do_POST = do_PUT = do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "Raw":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
