"""The way of every request, from the tenant to the journal. Read `Endpoint` downwards."""

from __future__ import annotations

import asyncio
import gzip
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http.client import responses
from time import perf_counter, time
from typing import Any

import msgspec

from mockserver.api import HANDLERS, JSON, Context
from mockserver.backend.backend import Gateway
from mockserver.backend.journal import ANONYMOUS, MAX_RECORDED_BODY, Exchange, Origin, pack_headers
from mockserver.backend.memory import compact
from mockserver.backend.metrics import UNMATCHED, Metrics
from mockserver.backend.rate_limit import Quota
from mockserver.backend.tenant import EACH_PREDICTION, TENANT_SCRIPT, TenantState
from mockserver.clock import SECOND, wall_time
from mockserver.contract.api_error import ApiError, Dialect, error_body
from mockserver.contract.operation import Operation
from mockserver.contract.violations import Violation
from mockserver.errors import ScenarioError
from mockserver.json_text import read_json
from mockserver.redaction import redacted
from mockserver.request import Request, read_body, read_head
from mockserver.scenarios.scenario import BODY_FAULTS, Fault, Scenario
from mockserver.validation import no_single_host, validate
from mockserver.wire import CLOSE, NO_RESPONSE, PIECE, Receive, Response, Scope, Send

SCENARIO_HEADER = b"x-mock-scenario"
LARGE_BODY = 256 * 1024  # bytes that take long enough to be checked off the event loop
REQUEST_SCRIPT = "call "  # and a name: whose faults are counted, those of a scenario that a request asks for itself

_PROMPT_SCENARIO = b"[mock:"
_HTML_PAGE = (
    "<html>\r\n<head><title>{0} {1}</title></head>\r\n<body>\r\n"
    "<center><h1>{0} {1}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Behavior(msgspec.Struct, frozen=True):
    """The scenario of an exchange, the dialect of its errors, the fault that is due in it, and what a limit says of it.

    `chosen` is the scenario where the request itself, or the one that created its prediction, asked for it.
    """

    scenario: Scenario
    chosen: Scenario | None
    dialect: Dialect
    fault: Fault | None = None
    quota: Quota | None = None


class Endpoint:
    """The ASGI application behind one path of the contract; without operations, behind every other path."""

    def __init__(self, gateway: Gateway, operations: Mapping[str, Operation], origin: Origin = "api") -> None:
        self._gateway = gateway
        self._operations = operations
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        request = read_head(scope, receive, send, self._gateway.options.public_url)
        operation = self._operations.get(request.method)
        store = self._gateway.store
        try:
            if await read_body(request, (operation or self._gateway.contract).max_body, store):
                await self._respond(operation, request, began)
            # else the client hung up before it had said what it wants
        finally:
            if request.held:
                request.let_go()

    async def _respond(self, operation: Operation | None, request: Request, began: float) -> None:
        response, fault = await self.answer(operation, request)
        _count(self._gateway.metrics, operation, request, response, fault, perf_counter() - began)
        if len(response.body) <= PIECE:
            await _send(request, response, fault)
            return
        if response.value is not None:
            response = msgspec.structs.replace(response, value=None)  # it may wait long for its client
        outgoing = self._gateway.store.outgoing
        outgoing.begin(response.body, kept=response.kept)
        try:
            await _send(request, response, fault)
        finally:
            outgoing.end(response.body)

    async def answer(self, operation: Operation | None, request: Request) -> tuple[Response, Fault | None]:
        """The response to a request, and the fault that it meets on its way out; recorded before it leaves."""
        gateway = self._gateway
        tenant = _tenant(gateway, operation, request)
        number = tenant.journal.next_number()
        try:
            behavior = _behavior_of(gateway, tenant, operation, request)
        except ScenarioError as reason:
            scenario = gateway.scenario(tenant)
            behavior = Behavior(scenario, None, scenario.errors or gateway.options.errors)
            response = self._refuse(operation, request, ApiError(400, str(reason)), behavior)
        else:
            handle = self._handle if behavior.fault is None else self._handle_with_fault
            response = await handle(tenant, operation, request, behavior)
            if behavior.scenario.changes_headers:
                response = _with_other_headers(operation, behavior, response)
        _record(gateway, tenant, number, operation, request, behavior, response, self._origin)
        if behavior.scenario.gzip:
            response = _compressed(operation, request, response)
        return response, behavior.fault

    async def _handle_with_fault(
        self, tenant: TenantState, operation: Operation | None, request: Request, behavior: Behavior
    ) -> Response:
        """The response as a fault changes it."""
        fault = behavior.fault
        assert operation is not None
        assert fault is not None
        waits = fault.delay is not None and fault.after is None
        left = waits and await request.channel.wait_for_disconnect(fault.delay)
        if left or fault.prevents:
            with suppress(ApiError):  # what is wrong with the request is noted all the same
                await self._validate(operation, request)
            return Response(NO_RESPONSE) if left else self._fail(tenant, operation, fault, behavior)
        response = await self._handle(tenant, operation, request, behavior)
        if fault.status is not None or fault.disconnect is not None:
            failure = self._fail(tenant, operation, fault, behavior)
            return msgspec.structs.replace(failure, prediction_id=response.prediction_id, committed=response.committed)
        if fault.body is not None:
            body = b"" if fault.body == "empty" else response.body[: len(response.body) * 2 // 3]
            return msgspec.structs.replace(response, body=body)
        return response

    async def _handle(
        self, tenant: TenantState, operation: Operation | None, request: Request, behavior: Behavior
    ) -> Response:
        """The answer that the contract and the tenant's state ask for, checked against the contract."""
        gateway = self._gateway
        try:
            if operation is None:
                _check_arrival(request)
                raise self._unmatched(request)
            await self._validate(operation, request)
            delivered = behavior.fault is None or behavior.fault.kind in ("delay", "drip")
            context = Context(gateway, tenant, operation, behavior.scenario, behavior.chosen, request, delivered)
            response = await HANDLERS[operation.role](context)
        except ApiError as error:
            response = self._refuse(operation, request, error, behavior)
            if operation is None or error.status not in operation.responses:
                return response  # another contract may be silent on errors; this one is not
        if response.status == NO_RESPONSE:
            return response
        # Better no answer than one that the contract does not allow.
        wrong = operation.check_response(response.status, response.content_type, response.value)
        return self._withhold(operation, request, response, wrong[0]) if wrong else response

    async def _validate(self, operation: Operation, request: Request) -> None:
        """Hold the request against the contract. Raises ApiError."""
        _check_arrival(request)
        if request.body_size > LARGE_BODY:
            await asyncio.to_thread(validate, self._gateway, operation, request)
        else:
            validate(self._gateway, operation, request)

    def _withhold(self, operation: Operation, request: Request, response: Response, wrong: Violation) -> Response:
        """What stands in for a response that would break the contract."""
        where = f"{operation.operation_id} {response.status} at {wrong.pointer or '/'}"
        said = redacted(
            f"{where}: {wrong.description}; sent {wrong.sent}, allowed: {wrong.allowed}", request.token or ""
        )
        print(f"mockserver: refused to send an answer that breaks the contract: {said}", file=sys.stderr)
        value = {
            "title": "Internal server error",
            "detail": f"The double was about to break its contract. {said}",
            "status": 500,
        }
        return Response(500, msgspec.json.encode(value), JSON, value=value)

    def _refuse(
        self, operation: Operation | None, request: Request | None, error: ApiError, behavior: Behavior
    ) -> Response:
        contract = self._gateway.contract
        media_type, template = contract.error_template(operation, error.status, behavior.dialect, error.example)
        value = error_body(template, behavior.dialect, error)
        if request is not None and request.token:  # errors are logged, and repeat what was sent
            value = redacted(value, request.token)
        headers = tuple((name.encode(), text.encode()) for name, text in error.headers.items())
        if error.status == 413 or (request is not None and error is request.refusal):
            headers = (*headers, CLOSE)
        return Response(error.status, msgspec.json.encode(value), media_type, headers, value=value)

    def _fail(self, tenant: TenantState, operation: Operation, fault: Fault, behavior: Behavior) -> Response:
        """The answer of a fault that stands in for the operation's own."""
        if fault.status is None:
            return Response(NO_RESPONSE)
        now = tenant.clock.now() / SECOND if tenant.clock.mode == "frozen" else time()
        headers = _retry_after(fault, now)
        if fault.status == 405:
            headers = (*headers, (b"allow", ", ".join(self._operations).encode()))
        if fault.page == "html":
            page = _HTML_PAGE.format(fault.status, responses.get(fault.status, "Error"))
            return Response(fault.status, page.encode(), "text/html", headers)
        if fault.page == "text":
            line = f"response {fault.status} (backend {responses.get(fault.status, 'Error').replace(' ', '')})"
            return Response(fault.status, line.encode(), "text/plain", headers)
        if fault.page == "empty":
            return Response(fault.status, headers=headers)
        response = self._refuse(operation, None, ApiError(fault.status, fault.detail, title=fault.title), behavior)
        body = response.body
        if headers and "retry_after" in response.value:
            body = msgspec.json.encode(_agreeing(response.value, fault))
        return Response(fault.status, body, response.content_type, headers)

    def _unmatched(self, request: Request) -> ApiError:
        """Why no operation of the contract takes the request."""
        if self._operations:
            said = f'Method "{request.method}" not allowed.'
            offers = [
                f"{name} ({each.document.get('summary', 'no summary')})" for name, each in self._operations.items()
            ]
            headers = {"Allow": ", ".join(self._operations)}
            return ApiError(405, said, hint=f"Allowed: {', '.join(offers)}.", headers=headers)
        return ApiError(404, hint=self._gateway.contract.explain_unknown(request.method, request.path))


class Decoy:
    """The foreign origin that `urls: foreign` leads to: it writes down what arrives, and refuses it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one request as an API does whose token this is not."""
        request = read_head(scope, receive, send, None)
        store = self._gateway.store
        await read_body(request, MAX_RECORDED_BODY, store)
        named = store.find_in_path(request.path)
        tenant = named[0] if named else store.tenant(request.token or ANONYMOUS)
        scenario = self._gateway.scenario(tenant)
        dialect = scenario.errors or self._gateway.options.errors
        media_type, template = self._gateway.contract.error_template(None, 401, dialect)
        response = Response(401, msgspec.json.encode(error_body(template, dialect, ApiError(401))), media_type)
        number = tenant.journal.next_number()
        _record(self._gateway, tenant, number, None, request, Behavior(scenario, None, dialect), response, "foreign")
        await request.channel.send_response(response, b"" if request.method == "HEAD" else response.body)


def _check_arrival(request: Request) -> None:
    """Make sure that the request has been read, and says which server it is for. Raises ApiError."""
    if request.refusal is not None:
        raise request.refusal
    if not request.has_one_host:
        raise no_single_host(request)


def _tenant(gateway: Gateway, operation: Operation | None, request: Request) -> TenantState:
    """Whose request it is: the token's, or, where none is needed, the prediction's or the file's."""
    if operation is not None and operation.public:
        owner = gateway.store.owner(request.path_params.get("prediction_id", ""))
        if owner is None and request.token is None:
            owner = gateway.store.file_owner(request.path_params.get("file_id", ""))
        if owner is not None:
            return owner
    return gateway.store.tenant(request.token or ANONYMOUS)


def _behavior_of(gateway: Gateway, tenant: TenantState, operation: Operation | None, request: Request) -> Behavior:
    """Choose the scenario, and take the fault due. Raises ScenarioError."""
    scenario, chosen, source = _choose(gateway, tenant, operation, request)
    fault, quota = None, None
    if operation is not None and scenario.limits:
        fault, quota = _throttled(tenant, operation, scenario, source)
    script = scenario.script(operation) if operation is not None and scenario.faults and fault is None else None
    if operation is not None and script is not None:
        if scenario.faults_per == "prediction" and source == TENANT_SCRIPT and request.path_params:
            source = EACH_PREDICTION + request.path_params.get("prediction_id", "")
            source = source if source.removeprefix(EACH_PREDICTION) in tenant.predictions else TENANT_SCRIPT
        fault = tenant.consume_fault(
            source, *script, partial(_can_exhibit, operation), repeat=source.startswith(REQUEST_SCRIPT)
        )
    return Behavior(scenario, chosen, scenario.errors or gateway.options.errors, fault, quota)


def _throttled(
    tenant: TenantState, operation: Operation, scenario: Scenario, source: str
) -> tuple[Fault | None, Quota | None]:
    """What a limit says of a request: the 429 that it is answered with if it is one too many, and what is left."""
    found = scenario.limit(operation)
    if found is None or 429 not in operation.responses:
        return None, None
    key, limit = found
    quota = tenant.take(source, key, limit)
    if quota.taken:
        return None, quota
    detail = None if limit.detail is None else re.sub(r"~\d+s", f"~{quota.reset}s", limit.detail)
    return Fault(status=429, retry_after=quota.reset, detail=detail), quota


def _with_other_headers(operation: Operation | None, behavior: Behavior, response: Response) -> Response:
    """A response with the headers that its scenario adds, or has otherwise."""
    scenario, kind = behavior.scenario, response.content_type
    more = tuple((name.lower().encode(), text.encode()) for name, text in scenario.headers.items())
    if behavior.quota is not None:
        more = (*(header for header in more if not header[0].startswith(b"ratelimit-")), *behavior.quota.headers)
    if scenario.charset and kind == JSON and operation is not None and operation.role == "create":
        kind = f"{kind}; charset={scenario.charset}"
    return msgspec.structs.replace(response, headers=(*response.headers, *more), content_type=kind)


def _compressed(operation: Operation | None, request: Request, response: Response) -> Response:
    """A response as it travels where its JSON is compressed for those who accept that, but for answers to creates."""
    accepted = re.split(r"[\s,]+", request.header(b"accept-encoding") or "")
    creating = operation is not None and operation.role == "create"
    if creating or "gzip" not in accepted or "json" not in response.content_type or not response.body:
        return response
    headers = (*response.headers, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    return msgspec.structs.replace(response, body=gzip.compress(response.body, 1, mtime=0), headers=headers)


def _choose(
    gateway: Gateway, tenant: TenantState, operation: Operation | None, request: Request
) -> tuple[Scenario, Scenario | None, str]:
    """The scenario, strongest first; what the request or its prediction asked for; whose faults are counted.

    Raises ScenarioError.
    """
    chosen, source = None, TENANT_SCRIPT
    named = request.header(SCENARIO_HEADER)
    if named is None and _PROMPT_SCENARIO in request.body:
        named = _named_in_prompt(gateway, operation, request)
    if named is not None:
        chosen = gateway.catalogue.named(named)
        source = REQUEST_SCRIPT + named
    elif request.path_params:
        prediction = tenant.predictions.get(request.path_params.get("prediction_id", ""))
        if prediction is not None and prediction.scenario is not None:
            chosen, source = prediction.scenario, prediction.id
    return chosen or gateway.scenario(tenant), chosen, source


def _can_exhibit(operation: Operation, fault: Fault) -> bool:
    """Whether an exchange of an operation can show a fault that a scenario has for every operation."""
    if fault.status is not None:
        return fault.status in operation.responses
    if fault.kind in BODY_FAULTS:
        return operation.has_body
    return fault.after is None or operation.commits


def _named_in_prompt(gateway: Gateway, operation: Operation | None, request: Request) -> str | None:
    if operation is None or operation.role != "create":
        return None
    try:
        body = read_json(request.body)
        model = gateway.contract.model_asked(operation, body)
        prompt = body["input"][model.picture["prompt"]] if model is not None else ""
        name, closed, _ = prompt.partition(_PROMPT_SCENARIO.decode())[2].partition("]")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return name if closed else None


def _agreeing(value: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """The body of an error that says the same of its Retry-After as the header."""
    asked = fault.retry_after_date if fault.retry_after_date is not None else fault.retry_after
    if isinstance(asked, str):
        asked = int(asked) if asked.isdecimal() else None
    said = "a while" if asked is None else f"~{math.ceil(asked)}s"
    detail = value["detail"] if fault.detail is not None else re.sub(r"~\d+s", said, value["detail"])
    rest = {name: part for name, part in value.items() if name != "retry_after"}
    return {**rest, "detail": detail, **({} if asked is None else {"retry_after": asked})}


def _retry_after(fault: Fault, now: float) -> tuple[tuple[bytes, bytes], ...]:
    if fault.retry_after_date is not None:
        text = formatdate(math.ceil(now + fault.retry_after_date), usegmt=True)
    elif isinstance(fault.retry_after, str):
        text = fault.retry_after
    elif fault.retry_after is not None:
        text = f"{fault.retry_after:.3f}".rstrip("0").rstrip(".")
    else:
        return ()
    return ((b"retry-after", text.encode()),)


def _record(
    gateway: Gateway,
    tenant: TenantState,
    number: int,
    operation: Operation | None,
    request: Request,
    behavior: Behavior,
    response: Response,
    origin: Origin,
) -> None:
    """Write the exchange down, before its answer leaves."""
    if operation is not None:
        tenant.coverage.record_exchange(operation.operation_id, response.status)
    if behavior.fault is not None:
        tenant.coverage.record_fault(behavior.fault.kind)
    nearest = ""
    if operation is None and origin != "foreign":
        near = gateway.contract.nearest(request.method, request.path)
        nearest = "" if near is None else f"{near.method} {near.path}"
    kind = response.content_type
    gateway.store.record(
        tenant,
        Exchange(  # in the order of its fields: so many keywords would be a dictionary, made for each request
            number,
            request.received_at,
            tenant.clock.now(),
            "" if request.token is None else tenant.name if tenant.name == request.token else request.token,
            request.method,
            request.path,
            request.query,
            pack_headers(request.raw_headers),
            request.body[:MAX_RECORDED_BODY],
            request.body_size,
            None if operation is None else operation.operation_id,
            origin,
            response.prediction_id or request.path_params.get("prediction_id"),
            response.prediction_status,
            behavior.scenario.name,
            request.violations,
            None if behavior.fault is None else msgspec.to_builtins(behavior.fault),
            response.committed,
            response.status,
            compact(response.body[:MAX_RECORDED_BODY]) if "json" in kind or "text" in kind else b"",
            len(response.body),
            kind,
            response.headers,
            nearest,
            wall_time() - request.received_at,
        ),
    )


def _count(
    metrics: Metrics,
    operation: Operation | None,
    request: Request,
    response: Response,
    fault: Fault | None,
    seconds: float,
) -> None:
    name = UNMATCHED if operation is None else operation.operation_id
    metrics.record(name, response.status, seconds)
    if request.violations:
        metrics.violations[name] += len(request.violations)
    if fault is not None:
        metrics.faults[fault.kind] += 1


async def _send(request: Request, response: Response, fault: Fault | None) -> None:
    body = b"" if request.method == "HEAD" else response.body
    if response.events is not None:
        await request.channel.send_events(response)
    elif request.refusal is not None and fault is None:
        await request.channel.send_early(response)
    elif fault is None and response.status != NO_RESPONSE:
        await request.channel.send_response(response, body)
    else:
        await _send_faulty(request, response, body, fault)


async def _send_faulty(request: Request, response: Response, body: bytes, fault: Fault | None) -> None:
    """Send a response as a fault breaks it; nothing, if the client has hung up."""
    channel = request.channel
    if fault is None or (response.status == NO_RESPONSE and fault.disconnect is None):
        await channel.abandon()
        return
    if fault.delay is not None and fault.after is not None and await channel.wait_for_disconnect(fault.delay):
        await channel.abandon()
        return
    await channel.send_broken(response, fault, body)
