"""Where the parts are put together: routes from the contract, the steering plane, the decoy."""

from __future__ import annotations

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


class App:
    """The ASGI application: the API, and on the decoy's port, once there is one, the foreign origin."""

    def __init__(self, contract: Contract, catalogue: Catalogue, options: Options) -> None:
        self.gateway = Gateway(contract, catalogue, options)
        self._api = Starlette(routes=_routes(self.gateway))
        self._decoy = Decoy(self.gateway)
        self._decoy_port: int | None = None

    def listen_as_decoy(self, port: int) -> None:
        """Take what arrives at a port for requests to a foreign origin."""
        self._decoy_port = port
        self.gateway.foreign_origin = f"http://127.0.0.1:{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and (scope.get("server") or (None, None))[1] == self._decoy_port:
            await self._decoy(scope, receive, send)
        else:
            await self._api(scope, receive, send)


def _routes(gateway: Gateway) -> list[Route]:
    contract = gateway.contract
    api = [
        Route(path, Endpoint(gateway, {operation.method: operation for operation in operations}))
        for path, operations in contract.paths.items()
    ]
    return [
        *api,
        *Admin(gateway).routes(),
        Route("/openapi.json", _document(contract.as_json, "application/json")),
        Route("/openapi.yaml", _document(contract.source, "application/yaml")),
        Route("/{path:path}", Endpoint(gateway, {})),
    ]


def _document(body: bytes, media_type: str):  # type: ignore[no-untyped-def]
    async def serve(request: Request) -> Response:
        return Response(body, media_type=media_type)

    return serve
