"""The way of every request, from its arrival to its response. Read `Endpoint` downwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mockserver.backend.backend import Backend
from mockserver.backend.journal import ANONYMOUS, MAX_RECORDED_BODY, Place
from mockserver.backend.store import Store
from mockserver.backend.tenant import TenantState
from mockserver.contract.api_error import ApiError
from mockserver.contract.operation import Operation
from mockserver.http.behavior import Behavior, choose_behavior
from mockserver.http.channel import PIECE, Receive, Response, Scope, Send
from mockserver.http.errors import checked, error_response, unmatched
from mockserver.http.faults import NOTHING, failure, lost, send_response, spoiled, wait_before
from mockserver.http.handlers.context import Context, Handled
from mockserver.http.handlers.roles import HANDLERS
from mockserver.http.headers import compressed, with_scenario_headers
from mockserver.http.recording import record
from mockserver.http.request import ReceivedRequest, read_body, read_head
from mockserver.http.validation import (
    VALID,
    ValidatedRequest,
    validate,
    with_several_authorizations,
    without_one_host,
)
from mockserver.scenarios.scenario import Fault

LARGE_BODY = 256 * 1024  # bytes that take long enough to be checked off the event loop


class Endpoint:
    """The ASGI application behind one path of the contract, whose `operations` are by method.

    Without operations it is behind every path that the contract does not have.
    """

    def __init__(
        self, backend: Backend, operations: Mapping[str, Operation], arrived_at: Place = "api"
    ) -> None:
        self._backend = backend
        self._operations = operations
        self._arrived_at = arrived_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive one request, and send its response."""
        backend = self._backend
        request = read_head(scope, receive, send, backend.options.public_url)
        operation = self._operations.get(request.method)
        limit = (operation or backend.contract).max_body
        try:
            if not await read_body(request, limit, backend.store):
                return  # the client hung up before it had sent all
            response, fault = await self._exchange(operation, request)
            if len(response.body) <= PIECE:
                await send_response(request, response, fault)
            else:
                await _send_large(backend.store, request, response, fault)
        finally:
            request.body.release()

    async def _exchange(
        self, operation: Operation | None, request: ReceivedRequest
    ) -> tuple[Response, Fault | None]:
        """All stages of an exchange: the response, and the fault that breaks it on its way out."""
        backend = self._backend
        tenant = _tenant(backend.store, operation, request)
        number = tenant.journal.next_number()
        behavior = choose_behavior(backend, tenant, operation, request)
        fault, scenario = behavior.fault, behavior.scenario

        has_left = fault is not None and await wait_before(fault, request.channel)
        if request.body.size <= LARGE_BODY:
            validated = self._validate(operation, request, behavior)
        else:
            validated = await asyncio.to_thread(self._validate, operation, request, behavior)
        handled = NOTHING
        if not has_left:
            handle = self._handle if fault is None else self._handle_with_fault
            handled = await handle(tenant, operation, request, validated, behavior)
        if scenario.changes_headers:
            handled = with_scenario_headers(operation, behavior, handled)

        place = self._arrived_at
        record(backend, tenant, number, operation, request, validated, behavior, handled, place)
        response = handled.response
        if scenario.gzip:
            response = compressed(operation, request, response)
        return response, fault

    def _validate(
        self, operation: Operation | None, request: ReceivedRequest, behavior: Behavior
    ) -> ValidatedRequest:
        """The request held against the contract."""
        refusal = behavior.refusal or request.body.refusal
        if refusal is not None:
            return ValidatedRequest(refusal=refusal)
        if not request.has_one_host:
            return without_one_host()
        if not request.has_one_authorization:
            return with_several_authorizations()
        if operation is None:
            error = unmatched(self._backend.contract, self._operations, request)
            return ValidatedRequest(refusal=error)
        return validate(self._backend, operation, request)

    async def _handle(
        self,
        tenant: TenantState,
        operation: Operation | None,
        request: ReceivedRequest,
        validated: ValidatedRequest,
        behavior: Behavior,
    ) -> Handled:
        """What the operation's handler returns, or an error; nothing that the contract forbids."""
        backend, error = self._backend, validated.refusal
        if operation is not None and error is None:
            scenario, chosen = behavior.scenario, behavior.chosen
            context = Context(backend, tenant, operation, scenario, chosen, request)
            try:
                return checked(operation, request, await HANDLERS[operation.role](context))
            except ApiError as refusal:
                error = refusal

        assert error is not None
        handled = error_response(backend.contract, operation, error, behavior.dialect, request)
        if operation is None or error.status not in operation.responses:
            return handled  # another contract than ours may have no errors
        return checked(operation, request, handled)

    async def _handle_with_fault(
        self,
        tenant: TenantState,
        operation: Operation | None,
        request: ReceivedRequest,
        validated: ValidatedRequest,
        behavior: Behavior,
    ) -> Handled:
        """What a fault leaves of an operation: it does not take place, or its response is lost."""
        fault = behavior.fault
        assert operation is not None
        assert fault is not None
        handled = NOTHING
        if not fault.prevents:
            handled = await self._handle(tenant, operation, request, validated, behavior)
        if fault.status is None and fault.disconnect is None:
            return spoiled(handled, fault)
        contract, methods = self._backend.contract, self._operations
        instead = failure(contract, operation, methods, fault, behavior.dialect, tenant.clock)
        return lost(handled, instead)


class Decoy:
    """Another host, to which `urls: foreign` leads: it records what arrives, and refuses it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one request, as an API would whose token this is not."""
        backend = self._backend
        request = read_head(scope, receive, send, None)
        try:
            await read_body(request, MAX_RECORDED_BODY, backend.store)
            owner = backend.store.find_in_path(request.path)
            tenant = owner[0] if owner else backend.store.tenant(request.token or ANONYMOUS)

            scenario = backend.scenario(tenant)
            dialect = scenario.errors or backend.options.errors
            handled = error_response(backend.contract, None, ApiError(401), dialect)
            number, behavior = tenant.journal.next_number(), Behavior(scenario, None, dialect)
            record(backend, tenant, number, None, request, VALID, behavior, handled, "foreign")
            await send_response(request, handled.response, None)
        finally:
            request.body.release()


async def _send_large(
    store: Store, request: ReceivedRequest, response: Response, fault: Fault | None
) -> None:
    """Send a response, and count its body while it is on its way."""
    store.outgoing.begin(response.body, kept=response.kept)
    try:
        await send_response(request, response, fault)
    finally:
        store.outgoing.end(response.body)


def _tenant(store: Store, operation: Operation | None, request: ReceivedRequest) -> TenantState:
    """The tenant of a request: the token's, or, without one, the prediction's or the file's."""
    if operation is not None and operation.public:
        owner = store.owner(request.path_params.get("prediction_id", ""))
        if owner is None and request.token is None:
            owner = store.file_owner(request.path_params.get("file_id", ""))
        if owner is not None:
            return owner
    return store.tenant(request.token or ANONYMOUS)
