"""A finished exchange, written down once: in the journal, the coverage and the metrics."""

from __future__ import annotations

from mockserver.backend.backend import Backend
from mockserver.backend.journal import (
    MAX_RECORDED_BODY,
    Exchange,
    Place,
    RecordedRequest,
    RecordedResponse,
    pack_headers,
)
from mockserver.backend.memory import compact
from mockserver.backend.metrics import UNMATCHED, Metrics
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND, wall_time
from mockserver.contract.operation import Operation
from mockserver.http.behavior import Behavior
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Handled
from mockserver.http.request import ReceivedRequest
from mockserver.http.validation import ValidatedRequest


def record(
    backend: Backend,
    tenant: TenantState,
    number: int,
    operation: Operation | None,
    request: ReceivedRequest,
    validated: ValidatedRequest,
    behavior: Behavior,
    handled: Handled,
    arrived_at: Place,
) -> None:
    """Record an exchange, before its response leaves: whoever has the response finds it."""
    # Structs are made fast from positional arguments; with keywords this would take as long as the
    # validation of a request.
    exchange = Exchange(
        number,
        tenant.clock.now(),
        None if operation is None else operation.operation_id,
        arrived_at,
        behavior.scenario.name,
        recorded_request(request, tenant),
        recorded_response(handled.response, wall_time() - request.received_at),
        validated.violations,
        behavior.fault,
        handled.prediction_id or request.path_params.get("prediction_id"),
        handled.prediction_status,
        handled.committed,
        "" if operation is not None or arrived_at == "foreign" else nearest(backend, request),
    )
    backend.store.record(tenant, exchange)
    _cover(tenant, exchange, handled)
    if arrived_at != "foreign":  # the decoy is no part of the API
        _measure(backend.metrics, exchange)


def recorded_request(request: ReceivedRequest, tenant: TenantState) -> RecordedRequest:
    """A request as the journal keeps it."""
    token = request.token or ""
    return RecordedRequest(
        request.received_at,
        tenant.name if token == tenant.name else token,  # one object for all of a tenant
        request.method,
        request.path,
        request.query,
        pack_headers(request.raw_headers),
        request.body.content[:MAX_RECORDED_BODY],
        request.body.size,
    )


def recorded_response(response: Response, took: int) -> RecordedResponse:
    """A response as the journal keeps it; `took` is in nanoseconds."""
    content_type, body = response.content_type, response.body
    readable = "json" in content_type or "text" in content_type
    return RecordedResponse(
        response.status,
        content_type,
        response.headers,
        compact(body[:MAX_RECORDED_BODY]) if readable else b"",
        len(body),
        took,
    )


def nearest(backend: Backend, request: ReceivedRequest) -> str:
    """What the contract has that looks most like a request that it does not have."""
    operation = backend.contract.nearest(request.method, request.path)
    return "" if operation is None else f"{operation.method} {operation.path}"


def _cover(tenant: TenantState, exchange: Exchange, handled: Handled) -> None:
    """Count what of the contract a client has met with an exchange."""
    coverage, operation_id, fault = tenant.coverage, exchange.operation_id, exchange.fault
    if operation_id is not None:
        coverage.record_exchange(operation_id, exchange.response.status)
    if handled.created is not None:
        coverage.record_input(*handled.created)
    if fault is not None:
        coverage.record_fault(fault.kind)
    if fault is None or fault.kind in ("delay", "drip"):  # a client can read the response
        if handled.prediction_id is not None and handled.prediction_status is not None:
            tenant.record_status_sent(handled.prediction_id, handled.prediction_status)
        for identifier, status in handled.listed:
            tenant.record_status_sent(identifier, status)


def _measure(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange among those of the whole server."""
    operation = exchange.operation_id or UNMATCHED
    response = exchange.response
    metrics.record(operation, response.status, response.took / SECOND)
    if exchange.violations:
        metrics.violations[operation] += len(exchange.violations)
    if exchange.fault is not None:
        metrics.faults[exchange.fault.kind] += 1
