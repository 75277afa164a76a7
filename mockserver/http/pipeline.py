"""The way of every request, from the tenant to the journal. Read `Endpoint` downwards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from http.client import responses
from time import perf_counter, time

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.journal import ANONYMOUS, MAX_RECORDED_BODY, Origin
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND
from mockserver.contract.api_error import ApiError, error_body
from mockserver.contract.operation import Operation
from mockserver.contract.violations import Violation
from mockserver.errors import ScenarioError
from mockserver.http.behavior import Behavior, behavior_of
from mockserver.http.channel import CLOSE, NO_RESPONSE, PIECE, Receive, Response, Scope, Send
from mockserver.http.faults import (
    HTML_PAGE,
    retry_after_header,
    send_response,
    with_matching_retry_after,
)
from mockserver.http.handlers.context import JSON, Context
from mockserver.http.handlers.roles import HANDLERS
from mockserver.http.headers import compressed, with_other_headers
from mockserver.http.recording import count_exchange, record_exchange
from mockserver.http.request import Request, read_body, read_head
from mockserver.http.validation import no_single_host, validate
from mockserver.redaction import redacted
from mockserver.scenarios.scenario import Fault

LARGE_BODY = 256 * 1024  # bytes that take long enough to be checked off the event loop


class Endpoint:
    """The ASGI application behind one path of the contract; without operations, behind every other path."""

    def __init__(
        self, backend: Backend, operations: Mapping[str, Operation], origin: Origin = "api"
    ) -> None:
        self._backend = backend
        self._operations = operations
        self._origin = origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        request = read_head(scope, receive, send, self._backend.options.public_url)
        operation = self._operations.get(request.method)
        store = self._backend.store
        try:
            if await read_body(request, (operation or self._backend.contract).max_body, store):
                await self._respond(operation, request, began)
            # else the client hung up before it had said what it wants
        finally:
            if request.held:
                request.let_go()

    async def _respond(self, operation: Operation | None, request: Request, began: float) -> None:
        response, fault = await self.answer(operation, request)
        count_exchange(
            self._backend.metrics, operation, request, response, fault, perf_counter() - began
        )
        if len(response.body) <= PIECE:
            await send_response(request, response, fault)
            return
        if response.value is not None:
            response = msgspec.structs.replace(
                response, value=None
            )  # it may wait long for its client
        outgoing = self._backend.store.outgoing
        outgoing.begin(response.body, kept=response.kept)
        try:
            await send_response(request, response, fault)
        finally:
            outgoing.end(response.body)

    async def answer(
        self, operation: Operation | None, request: Request
    ) -> tuple[Response, Fault | None]:
        """The response to a request, and the fault that it meets on its way out; recorded before it leaves."""
        backend = self._backend
        tenant = _tenant(backend, operation, request)
        number = tenant.journal.next_number()
        try:
            behavior = behavior_of(backend, tenant, operation, request)
        except ScenarioError as reason:
            scenario = backend.scenario(tenant)
            behavior = Behavior(scenario, None, scenario.errors or backend.options.errors)
            response = self._refuse(operation, request, ApiError(400, str(reason)), behavior)
        else:
            handle = self._handle if behavior.fault is None else self._handle_with_fault
            response = await handle(tenant, operation, request, behavior)
            if behavior.scenario.changes_headers:
                response = with_other_headers(operation, behavior, response)
        record_exchange(
            backend, tenant, number, operation, request, behavior, response, self._origin
        )
        if behavior.scenario.gzip:
            response = compressed(operation, request, response)
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
            return msgspec.structs.replace(
                failure, prediction_id=response.prediction_id, committed=response.committed
            )
        if fault.body is not None:
            body = b"" if fault.body == "empty" else response.body[: len(response.body) * 2 // 3]
            return msgspec.structs.replace(response, body=body)
        return response

    async def _handle(
        self, tenant: TenantState, operation: Operation | None, request: Request, behavior: Behavior
    ) -> Response:
        """The answer that the contract and the tenant's state ask for, checked against the contract."""
        backend = self._backend
        try:
            if operation is None:
                _check_arrival(request)
                raise self._unmatched(request)
            await self._validate(operation, request)
            delivered = behavior.fault is None or behavior.fault.kind in ("delay", "drip")
            context = Context(
                backend, tenant, operation, behavior.scenario, behavior.chosen, request, delivered
            )
            response = await HANDLERS[operation.role](context)
        except ApiError as error:
            response = self._refuse(operation, request, error, behavior)
            if operation is None or error.status not in operation.responses:
                return response  # another contract may be silent on errors; this one is not
        if response.status == NO_RESPONSE:
            return response
        # Better no answer than one that the contract does not allow.
        wrong = operation.check_response(response.status, response.content_type, response.value)
        return (
            self._reject_invalid_response(operation, request, response, wrong[0])
            if wrong
            else response
        )

    async def _validate(self, operation: Operation, request: Request) -> None:
        """Hold the request against the contract. Raises ApiError."""
        _check_arrival(request)
        if request.body_size > LARGE_BODY:
            await asyncio.to_thread(validate, self._backend, operation, request)
        else:
            validate(self._backend, operation, request)

    def _reject_invalid_response(
        self, operation: Operation, request: Request, response: Response, wrong: Violation
    ) -> Response:
        """What stands in for a response that would break the contract."""
        where = f"{operation.operation_id} {response.status} at {wrong.pointer or '/'}"
        said = redacted(
            f"{where}: {wrong.description}; sent {wrong.sent}, allowed: {wrong.allowed}",
            request.token or "",
        )
        print(
            f"mockserver: refused to send an answer that breaks the contract: {said}",
            file=sys.stderr,
        )
        value = {
            "title": "Internal server error",
            "detail": f"The double was about to break its contract. {said}",
            "status": 500,
        }
        return Response(500, msgspec.json.encode(value), JSON, value=value)

    def _refuse(
        self,
        operation: Operation | None,
        request: Request | None,
        error: ApiError,
        behavior: Behavior,
    ) -> Response:
        contract = self._backend.contract
        media_type, template = contract.error_template(
            operation, error.status, behavior.dialect, error.example
        )
        value = error_body(template, behavior.dialect, error)
        if request is not None and request.token:  # errors are logged, and repeat what was sent
            value = redacted(value, request.token)
        headers = tuple((name.encode(), text.encode()) for name, text in error.headers.items())
        if error.status == 413 or (request is not None and error is request.refusal):
            headers = (*headers, CLOSE)
        return Response(error.status, msgspec.json.encode(value), media_type, headers, value=value)

    def _fail(
        self, tenant: TenantState, operation: Operation, fault: Fault, behavior: Behavior
    ) -> Response:
        """The answer of a fault that stands in for the operation's own."""
        if fault.status is None:
            return Response(NO_RESPONSE)
        now = tenant.clock.now() / SECOND if tenant.clock.mode == "frozen" else time()
        headers = retry_after_header(fault, now)
        if fault.status == 405:
            headers = (*headers, (b"allow", ", ".join(self._operations).encode()))
        if fault.page == "html":
            page = HTML_PAGE.format(fault.status, responses.get(fault.status, "Error"))
            return Response(fault.status, page.encode(), "text/html", headers)
        if fault.page == "text":
            line = f"response {fault.status} (backend {responses.get(fault.status, 'Error').replace(' ', '')})"
            return Response(fault.status, line.encode(), "text/plain", headers)
        if fault.page == "empty":
            return Response(fault.status, headers=headers)
        response = self._refuse(
            operation, None, ApiError(fault.status, fault.detail, title=fault.title), behavior
        )
        body = response.body
        if headers and "retry_after" in response.value:
            body = msgspec.json.encode(with_matching_retry_after(response.value, fault))
        return Response(fault.status, body, response.content_type, headers)

    def _unmatched(self, request: Request) -> ApiError:
        """Why no operation of the contract takes the request."""
        if self._operations:
            said = f'Method "{request.method}" not allowed.'
            offers = [
                f"{name} ({each.document.get('summary', 'no summary')})"
                for name, each in self._operations.items()
            ]
            headers = {"Allow": ", ".join(self._operations)}
            return ApiError(405, said, hint=f"Allowed: {', '.join(offers)}.", headers=headers)
        return ApiError(
            404, hint=self._backend.contract.explain_unknown(request.method, request.path)
        )


class Decoy:
    """The foreign origin that `urls: foreign` leads to: it writes down what arrives, and refuses it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one request as an API does whose token this is not."""
        request = read_head(scope, receive, send, None)
        store = self._backend.store
        await read_body(request, MAX_RECORDED_BODY, store)
        named = store.find_in_path(request.path)
        tenant = named[0] if named else store.tenant(request.token or ANONYMOUS)
        scenario = self._backend.scenario(tenant)
        dialect = scenario.errors or self._backend.options.errors
        media_type, template = self._backend.contract.error_template(None, 401, dialect)
        response = Response(
            401, msgspec.json.encode(error_body(template, dialect, ApiError(401))), media_type
        )
        number = tenant.journal.next_number()
        behavior = Behavior(scenario, None, dialect)
        record_exchange(self._backend, tenant, number, None, request, behavior, response, "foreign")
        await request.channel.send_response(
            response, b"" if request.method == "HEAD" else response.body
        )


def _check_arrival(request: Request) -> None:
    """Make sure that the request has been read, and says which server it is for. Raises ApiError."""
    if request.refusal is not None:
        raise request.refusal
    if not request.has_one_host:
        raise no_single_host(request)


def _tenant(backend: Backend, operation: Operation | None, request: Request) -> TenantState:
    """Whose request it is: the token's, or, where none is needed, the prediction's or the file's."""
    if operation is not None and operation.public:
        owner = backend.store.owner(request.path_params.get("prediction_id", ""))
        if owner is None and request.token is None:
            owner = backend.store.file_owner(request.path_params.get("file_id", ""))
        if owner is not None:
            return owner
    return backend.store.tenant(request.token or ANONYMOUS)
