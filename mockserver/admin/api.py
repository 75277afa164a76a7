"""The admin API under /__admin. Its requests concern the tenant of their bearer token."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from importlib import metadata
from itertools import islice
from time import perf_counter, process_time
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jsonschema_rs
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mockserver.admin.har import har_of
from mockserver.admin.inspector import changes_of, inspector_page
from mockserver.admin.prometheus import CONTENT_TYPE, as_text
from mockserver.backend.backend import Backend
from mockserver.backend.coverage import Coverage
from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.backend.tenant import TenantState
from mockserver.client import ADMIN_TOKEN_HEADER, PREFIX
from mockserver.clock import MAX_SECOND, SECOND, parse_timestamp, timestamp
from mockserver.contract.api_error import ApiError
from mockserver.contract.lines import line_of_violation
from mockserver.contract.loader import shipped_contract
from mockserver.contract.yaml import read_yaml
from mockserver.errors import ScenarioError
from mockserver.http.channel import Receive, Scope, Send
from mockserver.http.prediction_page import life_of
from mockserver.http.request import bearer_token
from mockserver.json_text import cut, pointer_to, read_json
from mockserver.redaction import redacted, shortened_secret

FILTERS = ("since", "limit", "unmatched", "violations")
MAX_BODY = 64 * 1024  # bytes
SERVERS_HEADER = "x-mock-servers"
TENANT_HEADER = "x-mock-tenant"  # a tenant's handle, for clients that do not know its token
VERSION = metadata.version("flux-mockserver")
TURN = 0.01  # seconds after which a long response lets other requests run
T = TypeVar("T")
Handler = Callable[[Request, TenantState], Awaitable[object]]


class _AdminEndpoint:
    """The ASGI application of one path.

    Starlette passes requests with any method to it; to a function, only those with usual ones.
    """

    def __init__(self, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive))
        await response(scope, receive, send)


class Admin:
    """The handlers of the admin API."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def operations(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each operation."""
        return [
            ("GET", "/", self._inspect),
            ("GET", "/health", self._health),
            ("GET", "/version", self._version),
            ("GET", "/openapi.json", self._openapi),
            ("GET", "/metrics", self._metrics),
            ("POST", "/reset", self._reset),
            ("GET", "/requests", self._requests),
            ("DELETE", "/requests", self._forget_requests),
            ("GET", "/requests.har", self._har),
            ("GET", "/scenario", self._scenario),
            ("PUT", "/scenario", self._set_scenario),
            ("DELETE", "/scenario", self._unset_scenario),
            ("GET", "/scenarios", self._scenarios),
            ("GET", "/scenarios/schema", self._scenario_schema),
            ("GET", "/clock", self._clock),
            ("PUT", "/clock", self._set_clock),
            ("POST", "/clock/advance", self._advance),
            ("GET", "/verdict", self._verdict),
            ("GET", "/tenants", self._tenants),
            ("GET", "/coverage", self._coverage),
            ("GET", "/predictions", self._predictions),
            ("GET", "/webhooks", self._webhooks),
            ("GET", "/events", self._events),
            ("GET", "/predictions/{prediction_id}", self._prediction),
            ("GET", "/predictions/{prediction_id}/picture", self._picture),
        ]

    def routes(self) -> list[Route]:
        """The admin API's routes."""
        methods: dict[str, dict[str, Handler]] = {}
        for method, path, handler in self.operations():
            methods.setdefault(path, {})[method] = handler
        return [
            Route(PREFIX + path, _AdminEndpoint(self._endpoint(handlers)))
            for path, handlers in [*methods.items(), ("/{path:path}", {}), ("", {})]
        ]

    async def _inspect(self, request: Request, tenant: TenantState) -> object:
        return inspector_page()

    def _endpoint(self, handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            token = bearer_token(request.headers.get("authorization", "").encode("latin-1")) or ""
            try:
                handler = handlers.get(request.method)
                self._guard(request, handler)
                if not handlers:
                    raise ApiError(
                        404,
                        f"There is no {request.url.path}; "
                        f"{PREFIX}/openapi.json lists what there is.",
                    )
                if handler is None:
                    raise ApiError(405, f"{request.url.path} takes {' and '.join(handlers)}.")
                value = await handler(request, self._tenant(request))
                if request.method != "GET":
                    self._backend.store.changes.note()
            except ApiError as reason:
                headers = {"Allow": ", ".join(handlers)} if reason.status == 405 else {}
                problem = {"detail": redacted(reason.detail, token), "status": reason.status}
                return _json(problem, reason.status, headers)
            except ScenarioError as reason:
                return _json({"detail": redacted(str(reason), token), "status": 422}, 422)
            return value if isinstance(value, Response) else _json(value)

        return endpoint

    def _guard(self, request: Request, handler: Handler | None) -> None:
        """Raise ApiError for what other sites' pages could send, and without the admin token."""
        host = request.headers.get("host", "")
        if len(request.headers.getlist("host")) > 1:
            raise ApiError(400, "A request has one Host header.")
        if len(request.headers.getlist("authorization")) > 1:
            raise ApiError(400, "A request has at most one Authorization header.")

        required = self._backend.options.admin_token
        sent = request.headers.get(ADMIN_TOKEN_HEADER, "")
        public = handler in (self._inspect, self._health)  # they show no secrets
        admitted = (
            required is None or public or secrets.compare_digest(sent.encode(), required.encode())
        )

        # By DNS rebinding a page of another site can make its own name lead here. It does not know
        # the admin token.
        if (required is None or not admitted) and not self._own_name(_name_in(host)):
            raise ApiError(
                403,
                f"Host {host!r} is not this server's; "
                "use its address, or start it with --public-url.",
            )
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise ApiError(403, f"Requests from pages of {origin} are refused.")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ApiError(403, "Cross-site requests are refused.")
        if not admitted:
            raise ApiError(
                401, "The server was started with --admin-token; send it as X-Mock-Admin-Token."
            )

    def _own_name(self, name: str) -> bool:
        public = self._backend.options.public_url
        if name == "localhost" or (public is not None and name == urlsplit(public).hostname):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _tenant(self, request: Request) -> TenantState:
        if handle := request.headers.get(TENANT_HEADER):
            for tenant in self._backend.store.tenants():
                if tenant.handle == handle:
                    return tenant
            raise ApiError(
                404,
                f"There is no tenant {handle[:50]!r}; {PREFIX}/tenants lists those that there are.",
            )
        authorization = request.headers.get("authorization", "")
        token = bearer_token(authorization.encode("latin-1"))
        if authorization and token is None:
            raise ApiError(
                401,
                "Send the tenant as `Authorization: Bearer <token>`, or no token for `anonymous`.",
            )
        return self._backend.store.tenant(token or ANONYMOUS)

    async def _health(self, request: Request, tenant: TenantState) -> object:
        draining = self._backend.draining
        value = {
            "status": "draining" if draining else "ok",
            "store": self._backend.store.counts(),
        } | _shard_count(request)
        return _json(value, 503 if draining else 200)

    async def _metrics(self, request: Request, tenant: TenantState) -> object:
        backend = self._backend
        text = as_text(
            backend.metrics,
            backend.store.counts(),
            version=VERSION,
            draining=backend.draining,
            cpu_seconds=process_time(),
        )
        return Response(text, media_type=CONTENT_TYPE)

    async def _version(self, request: Request, tenant: TenantState) -> object:
        contract = self._backend.contract
        return {
            "name": "mockserver",
            "version": VERSION,
            "seed": self._backend.options.seed,
            "contract": {"file": contract.name, "operations": list(contract.by_id)},
            "models": list(contract.models),
        }

    async def _openapi(self, request: Request, tenant: TenantState) -> object:
        catalogue = self._backend.catalogue
        return document_with(catalogue.schema, [scenario.name for scenario in catalogue])

    async def _reset(self, request: Request, tenant: TenantState) -> object:
        self._backend.store.reset(tenant.name)
        return {"reset": True}

    async def _requests(self, request: Request, tenant: TenantState) -> object:
        if unknown := request.query_params.keys() - FILTERS:
            raise ApiError(
                422, f"There is no filter ?{cut(min(unknown), 50)}; there are {', '.join(FILTERS)}."
            )
        since = _number(request, "since", 0)
        limit = _number(request, "limit", 100)
        unmatched, violating = _flag(request, "unmatched"), _flag(request, "violations")

        exchanges = [
            exchange
            for exchange in tenant.journal
            if exchange.number > since
            and (exchange.unmatched or not unmatched)
            and (exchange.violations or not violating)
        ]
        return {
            "requests": await _encoded(
                self._exchange_as_json(exchange, tenant) for exchange in exchanges[:limit]
            ),
            "more": len(exchanges) > limit,
            "recorded": tenant.journal.recorded,
            "evicted": tenant.journal.evicted,
        }

    def _exchange_as_json(self, exchange: Exchange, tenant: TenantState) -> object:
        """An exchange, with the lines of the contract that its violations are about."""
        value = exchange.as_json()
        contract = self._backend.contract
        if exchange.violations and exchange.operation_id in contract.by_id:
            operation = contract.by_id[exchange.operation_id]
            for violation in value["violations"]:
                violation["line"] = line_of_violation(contract, operation, violation["pointer"])
        return redacted(value, tenant.secret)

    async def _har(self, request: Request, tenant: TenantState) -> object:
        parts = self._backend.store.tenants() if _flag(request, "all") else [tenant]
        exchanges = [exchange for part in parts for exchange in part.journal]
        return har_of(exchanges, f"{request.url.scheme}://{request.headers['host']}")

    async def _forget_requests(self, request: Request, tenant: TenantState) -> object:
        tenant.journal.clear()
        return {"requests": []}

    async def _scenario(self, request: Request, tenant: TenantState) -> object:
        return redacted(self._backend.scenario(tenant).as_json(), tenant.secret)

    async def _set_scenario(self, request: Request, tenant: TenantState) -> object:
        scenario = self._backend.catalogue.coerce(await _body(request))
        if _flag(request, "check"):
            return redacted(scenario.as_json(), tenant.secret)
        self._backend.store.set_scenario(tenant, scenario)
        return redacted(self._backend.scenario(tenant).as_json(), tenant.secret)

    async def _unset_scenario(self, request: Request, tenant: TenantState) -> object:
        self._backend.store.set_scenario(tenant, None)
        return redacted(self._backend.scenario(tenant).as_json(), tenant.secret)

    async def _scenarios(self, request: Request, tenant: TenantState) -> object:
        return {"scenarios": [scenario.as_json() for scenario in self._backend.catalogue]}

    async def _scenario_schema(self, request: Request, tenant: TenantState) -> object:
        return self._backend.catalogue.schema

    async def _clock(self, request: Request, tenant: TenantState) -> object:
        clock = tenant.clock
        return {"mode": clock.mode, "speed": clock.speed, "now": timestamp(clock.now())}

    async def _set_clock(self, request: Request, tenant: TenantState) -> object:
        setting = _checked("ClockSetting", await _body(request))
        try:
            now = parse_timestamp(setting["now"]) if "now" in setting else None
        except ValueError as reason:
            raise ApiError(422, f"/now: {reason}") from reason
        tenant.set_clock(setting["mode"], speed=setting.get("speed"), now=now)
        return await self._clock(request, tenant)

    async def _advance(self, request: Request, tenant: TenantState) -> object:
        seconds = _checked("Advance", await _body(request))["seconds"]
        if tenant.clock.now() + seconds * SECOND > (MAX_SECOND + 1) * SECOND:
            raise ApiError(422, "/seconds: time ends with the year 9999")
        happened = await self._backend.advance(tenant, round(seconds * SECOND))
        return {"now": timestamp(tenant.clock.now()), "happened": happened}

    async def _verdict(self, request: Request, tenant: TenantState) -> object:
        if _flag(request, "all"):
            verdicts = await _collect_yielding(self._backend.verdicts())
            return self._backend.combined(verdicts) | _shard_count(request)
        return self._backend.verdict(tenant)

    async def _tenants(self, request: Request, tenant: TenantState) -> object:
        tenants = [one for one in self._backend.store.tenants() if one.journal.recorded]
        listing = {
            "tenants": [_tenant_as_json(one) for one in tenants],
            "current": tenant.handle,
            "asking": tenant.handle,  # its former name, until the next release
            "store": self._backend.store.counts(),
        }
        return listing | _shard_count(request)

    async def _coverage(self, request: Request, tenant: TenantState) -> object:
        if not _flag(request, "all"):
            return Coverage.of_all([tenant.coverage]).report(self._backend.contract)
        parts = [part.coverage for part in self._backend.store.tenants()]
        report = Coverage.of_all(parts).report(self._backend.contract)
        return report | _shard_count(request)

    async def _webhooks(self, request: Request, tenant: TenantState) -> object:
        return {
            "deliveries": await _encoded(
                redacted(delivery.as_json(), tenant.secret) for delivery in [*tenant.deliveries]
            ),
            "recorded": tenant.deliveries.recorded,
        }

    async def _events(self, request: Request, tenant: TenantState) -> object:
        return changes_of(self._backend.store, tenant.name)

    async def _prediction(self, request: Request, tenant: TenantState) -> object:
        prediction = tenant.predictions.get(request.path_params["prediction_id"])
        if prediction is None:
            raise ApiError(404, "This tenant has no such prediction.")
        return life_of(self._backend, tenant, prediction, self._origin(request))

    async def _picture(self, request: Request, tenant: TenantState) -> object:
        prediction = tenant.predictions.get(request.path_params["prediction_id"])
        if prediction is None or self._backend.status(tenant, prediction) != "succeeded":
            raise ApiError(404, "This tenant has no picture of that prediction.")
        picture = await asyncio.to_thread(self._backend.pictures.draw, prediction)
        return Response(picture.data, media_type=picture.media_type)

    def _origin(self, request: Request) -> str:
        return (
            self._backend.options.public_url or f"{request.url.scheme}://{request.headers['host']}"
        )

    async def _predictions(self, request: Request, tenant: TenantState) -> object:
        origin, urls = self._origin(request), self._backend.options.urls
        kept = tenant.predictions
        newest = [
            kept[name] for name in islice(reversed(kept), _number(request, "limit", len(kept)))
        ]
        return {
            "predictions": await _encoded(
                redacted(
                    self._backend.renderer.render(tenant, prediction, origin, urls), tenant.secret
                )
                for prediction in reversed(newest)
            ),
            "evicted": tenant.evicted,
        }


async def _collect_yielding(values: Iterable[T]) -> list[T]:
    """The values of an iterable that may take long; other requests run in between."""
    collected, since = [], perf_counter()
    for value in values:
        collected.append(value)
        if perf_counter() - since > TURN:
            await asyncio.sleep(0)
            since = perf_counter()
    return collected


async def _encoded(values: Iterable[object]) -> list[msgspec.Raw]:
    """Values as JSON; there may be many."""
    return await _collect_yielding(msgspec.Raw(msgspec.json.encode(value)) for value in values)


def _tenant_as_json(tenant: TenantState) -> dict[str, Any]:
    last = tenant.journal.last_received
    return {
        "tenant": shortened_secret(tenant.name) if tenant.name != ANONYMOUS else ANONYMOUS,
        "handle": tenant.handle,
        "parent": tenant.parent,
        "suffix_of": tenant.parent,  # its former name, until the next release
        "predictions": len(tenant.predictions),
        "files": len(tenant.files),
        "bytes": tenant.meter.bytes,
        "exchanges": tenant.journal.recorded,
        "violating_exchanges": tenant.journal.violating,
        "unmatched_exchanges": tenant.journal.unmatched,
        "last_used": None if last is None else timestamp(last),
    }


def _shard_count(request: Request) -> dict[str, int]:
    """How many servers there are, in responses about all tenants of one of them.

    A load balancer with a configuration by `mockserver shards` sends the number with the request.
    """
    text = request.headers.get(SERVERS_HEADER, "")
    if not text.isdecimal() or len(text) > 4 or int(text) <= 1:
        return {}
    # The second is its former name, until the next release.
    return {"server_count": int(text), "one_of_servers": int(text)}


def _name_in(host: str) -> str:
    """The host name in a Host header; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value)
    safe = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **(headers or {})}
    return Response(body, status, safe, media_type="application/json")


async def _body(request: Request) -> object:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise ApiError(413, f"The body is larger than {MAX_BODY} bytes.")
    except ClientDisconnect as reason:
        raise ApiError(400, "The body is incomplete.") from reason
    try:
        return read_json(body)
    except ValueError as reason:
        raise ApiError(400, f"The body is {reason}.") from reason


def _checked(schema: str, value: object) -> dict[str, Any]:
    errors = [
        f"{cut(pointer_to(error.instance_path), 300) or '/'}: {cut(error.message, 300)}"
        for error in body_validator(schema).iter_errors(value)
    ]
    if errors:
        raise ApiError(422, "; ".join(errors))
    assert isinstance(value, dict)
    return value


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise ApiError(422, f"?{name} is a number, not {cut(text, 50)!r}.")
    return int(text)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("", "1", "true", "0", "false"):
        raise ApiError(422, f"?{name} is true or false, not {cut(text, 50)!r}.")
    return text in ("", "1", "true")


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = read_yaml(shipped_contract("admin.yaml").read_bytes())
    return document


@cache
def body_validator(name: str) -> jsonschema_rs.Validator:
    """The validator of bodies by the schema of that name."""
    return jsonschema_rs.validator_for(_document()["components"]["schemas"][name])


def document_with(scenario_schema: dict[str, Any], scenario_names: list[str]) -> dict[str, Any]:
    """The OpenAPI document, with the schema and the names of scenarios inserted."""
    document = _document()
    components = document["components"]
    moved = _moved(
        {name: part for name, part in scenario_schema.items() if name not in ("$schema", "$defs")}
    )
    named = {**components["schemas"]["ScenarioName"], "enum": scenario_names}
    schemas = {**components["schemas"], "Scenario": moved, "ScenarioName": named}
    for name, part in scenario_schema["$defs"].items():
        schemas[name.capitalize()] = _moved(part)
    return {**document, "components": {**components, "schemas": schemas}}


def _moved(value: Any) -> Any:
    """A schema with its references into `$defs` changed to the document's components."""
    if isinstance(value, dict):
        return {
            name: "#/components/schemas/" + part.rpartition("/")[2].capitalize()
            if name == "$ref"
            else _moved(part)
            for name, part in value.items()
        }
    return [_moved(part) for part in value] if isinstance(value, list) else value
