"""Where the parts are put together: routes from the contract, the steering plane, the decoy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mockserver.admin import Admin
from mockserver.contract import Contract
from mockserver.exchange import Decoy, Endpoint
from mockserver.gateway import Gateway, Options
from mockserver.scenarios import Catalogue
from mockserver.wire import Receive, Scope, Send

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class App:
    """The ASGI application: the API, and on ports of their own, once they are named, a file host and a decoy."""

    def __init__(self, contract: Contract, catalogue: Catalogue, options: Options) -> None:
        self.gateway = Gateway(contract, catalogue, options)
        endpoints = _endpoints(self.gateway)
        # A path without parameters needs no search among the routes, however many models there are.
        self._fixed: dict[str, ASGIApp] = {path: there for path, there in endpoints.items() if "{" not in path}
        self._api = Starlette(routes=_routes(self.gateway, endpoints))
        self._others: dict[int, ASGIApp] = {}

    def listen_as_decoy(self, url: str) -> None:
        """Take what arrives at an origin for requests to a foreign one."""
        self._others[_port(url)] = Decoy(self.gateway)
        self.gateway.foreign_origin = url

    def listen_as_file_host(self, url: str) -> None:
        """Deliver pictures from an origin of their own."""
        self._others[_port(url)] = Starlette(routes=_file_routes(self.gateway))
        self.gateway.files_origin = url

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        port = (scope.get("server") or ("", 0))[1]
        app = self._others.get(port) or self._fixed.get(scope["path"]) or self._api
        return app(scope, receive, send)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _endpoints(gateway: Gateway) -> dict[str, Endpoint]:
    """What answers at each path of the contract."""
    return {
        path: Endpoint(gateway, {operation.method: operation for operation in operations})
        for path, operations in gateway.contract.paths.items()
    }


def _routes(gateway: Gateway, endpoints: Mapping[str, Endpoint]) -> list[Route]:
    contract = gateway.contract
    return [
        *(Route(path, endpoint) for path, endpoint in endpoints.items() if "{" in path),
        *Admin(gateway).routes(),
        Route("/openapi.json", _document(contract.as_json, "application/json")),
        Route("/openapi.yaml", _document(contract.source, "application/yaml")),
        Route("/{path:path}", Endpoint(gateway, {})),
    ]


def _file_routes(gateway: Gateway) -> list[Route]:
    delivering = {operation.method: operation for operation in gateway.contract.of_role("deliver")}
    path = next(iter(delivering.values())).path if delivering else "/"
    return [Route(path, Endpoint(gateway, delivering, "files")), Route("/{path:path}", Endpoint(gateway, {}, "files"))]


def _document(body: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(body, media_type=media_type)

    return serve
