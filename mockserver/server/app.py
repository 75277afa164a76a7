"""The application: routes from the contract, the admin API, and the other origins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router, compile_path

from mockserver.admin.api import Admin
from mockserver.backend.backend import Backend, Options
from mockserver.client import BASE_PATH, PREFIX
from mockserver.clock import Mode
from mockserver.contract.api_error import FORMER_DIALECTS, Dialect
from mockserver.contract.contract import Contract
from mockserver.http.channel import ASGIApp, Receive, Scope, Send
from mockserver.http.pipeline import Decoy, Endpoint
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario, Urls

# Only browsers ask for these, of their own accord: they are no part of what a client did.
BROWSER_PATHS = (
    "/favicon.ico",
    "/apple-touch-icon{rest}.png",
    "/apple-touch-icon.png",
    "/.well-known/appspecific/{rest:path}",
    "/robots.txt",
)


class App:
    """The ASGI application: the API and, on ports of their own, a file host and a decoy.

    The latter two answer once `listen_as_file_host` and `listen_as_decoy` name their ports.
    """

    def __init__(self, contract: Contract, catalogue: Catalogue, options: Options) -> None:
        self._extra_origins: dict[int, ASGIApp] = {}
        self.use_backend(Backend(contract, catalogue, options))

    def use_backend(self, backend: Backend) -> None:
        """Answer from this backend from now on. Requests under way are answered by the previous."""
        self.backend = backend

        options = backend.options
        endpoints = _endpoints(backend)
        if options.also_at is not None:
            endpoints |= _aliases(endpoints, options.also_at)
        self._own = _Paths(endpoints, _router(backend))
        self._shared = _with_cors(self._own, options.cors) if options.cors else None

        if self._extra_origins:
            self.listen_as_decoy(backend.renderer.foreign_url)
        if backend.renderer.files_url is not None:
            self.listen_as_file_host(backend.renderer.files_url)

    async def close(self) -> None:
        """Close what it holds open while it serves; nothing, here."""

    def listen_as_decoy(self, url: str) -> None:
        """Record what arrives at this URL as requests to a foreign origin."""
        self._extra_origins[_port(url)] = Decoy(self.backend)
        self.backend.renderer.foreign_url = url

    def listen_as_file_host(self, url: str) -> None:
        """Serve output files at this URL, an origin of their own."""
        files = _file_host(self.backend)
        cors = self.backend.options.cors
        self._extra_origins[_port(url)] = _with_cors(files, cors) if cors else files
        self.backend.renderer.files_url = url

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        _, port = scope.get("server") or ("", 0)
        other = self._extra_origins.get(port)
        if other is not None:
            return other(scope, receive, send)
        if self._shared is not None and not scope["path"].startswith(PREFIX):
            return self._shared(scope, receive, send)
        return self._own(scope, receive, send)


class _Paths:
    """Finds the endpoint of a path: one of the contract's, else `rest`."""

    def __init__(self, endpoints: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        # A path without parameters needs no search, however many models there are.
        self._fixed = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        self._patterns = [
            (compile_path(path)[0], endpoint) for path, endpoint in endpoints.items() if "{" in path
        ]
        self._rest = rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        endpoint, scope["path_params"] = self._endpoint(scope["path"])
        return endpoint(scope, receive, send)

    def _endpoint(self, path: str) -> tuple[ASGIApp, dict[str, str]]:
        """The endpoint of a path, and the path's parameters."""
        endpoint = self._fixed.get(path)
        if endpoint is not None:
            return endpoint, {}
        for pattern, endpoint in self._patterns:
            if match := pattern.match(path):
                return endpoint, match.groupdict()
        return self._rest, {}


def _router(backend: Backend) -> Router:
    """What serves all other paths: the admin API, the documents, and what matches nothing."""
    unmatched = Endpoint(backend, {})
    # The last route takes known paths with other methods; the default, what no pattern takes: `*`,
    # or a line break.
    routes = [*_routes(backend), Route("/{path:path}", unmatched)]
    return Router(routes, redirect_slashes=False, default=unmatched)


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """An application that pages of other origins may call. Preflights are not in the journal."""
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
    )


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _endpoints(backend: Backend) -> dict[str, Endpoint]:
    """The endpoint of each path of the contract."""
    return {
        path: Endpoint(backend, {operation.method: operation for operation in operations})
        for path, operations in backend.contract.paths.items()
    }


def _aliases(endpoints: Mapping[str, Endpoint], also_at: str) -> dict[str, Endpoint]:
    """The same endpoints under another prefix than `/replicate`; paths of the contract win."""
    aliases = {
        also_at.rstrip("/") + path.removeprefix(BASE_PATH): endpoint
        for path, endpoint in endpoints.items()
        if path.startswith(BASE_PATH + "/")
    }
    return {path: endpoint for path, endpoint in aliases.items() if path not in endpoints}


def _routes(backend: Backend) -> list[Route]:
    return [
        *Admin(backend).routes(),
        Route("/openapi.json", _document(backend.contract.as_json, "application/json")),
        Route("/openapi.yaml", _document(backend.contract.source, "application/yaml")),
        Route("/", _welcome),
        *(Route(path, _absent) for path in BROWSER_PATHS),
    ]


def _file_host(backend: Backend) -> ASGIApp:
    delivering = {operation.method: operation for operation in backend.contract.of_role("deliver")}
    paths = {
        operation.path: Endpoint(backend, delivering, "files") for operation in delivering.values()
    }
    return _Paths(paths, Endpoint(backend, {}, "files"))


async def _welcome(request: Request) -> Response:
    """Redirect a browser to the inspector; tell other clients what this is."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{PREFIX}/")
    return PlainTextResponse(
        f"mockserver, a test double of the FLUX gateway. Its API is under {BASE_PATH}, "
        f"its inspector at {PREFIX}/\n"
    )


async def _absent(request: Request) -> Response:
    """There is no such file. The request is not recorded."""
    return PlainTextResponse("Not found\n", 404)


def _document(body: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(body, media_type=media_type)

    return serve


class Settings(TypedDict, total=False):
    """What a server can be told in Python, as the flags of `serve`. The defaults are in Options."""

    clock: Mode
    speed: float
    seed: int
    strict: bool
    require_auth: bool
    urls: Urls
    errors: Dialect
    files_origin: Literal["same", "separate"]
    also_at: str | None
    public_url: str | None
    webhook_allow: Sequence[str]
    cors: Sequence[str]
    admin_token: str | None
    max_memory: int


def build_app(
    contract: Path | Contract | None = None,
    scenario: str | Scenario | Mapping[str, Any] = "succeeded",
    **settings: Unpack[Settings],
) -> App:
    """The application for a contract and a scenario: a name, a file, or the value itself.

    Raises MockServerError for what does not fit.
    """
    loaded = contract if isinstance(contract, Contract) else Contract.load(contract)
    catalogue = Catalogue(loaded)
    chosen = catalogue.read(scenario) if isinstance(scenario, str) else catalogue.coerce(scenario)

    options: dict[str, Any] = {**settings}
    options["webhook_allow"] = tuple(name.lower() for name in settings.get("webhook_allow", ()))
    options["cors"] = tuple(settings.get("cors", ()))
    if "errors" in settings:
        options["errors"] = FORMER_DIALECTS.get(settings["errors"], settings["errors"])
    return App(loaded, catalogue, Options(scenario=chosen, **options))
