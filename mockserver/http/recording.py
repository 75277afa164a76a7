"""What is written down of an exchange: in the journal, the coverage and the metrics."""

from __future__ import annotations

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.journal import MAX_RECORDED_BODY, Exchange, Origin, pack_headers
from mockserver.backend.memory import compact
from mockserver.backend.metrics import UNMATCHED, Metrics
from mockserver.backend.tenant import TenantState
from mockserver.clock import wall_time
from mockserver.contract.operation import Operation
from mockserver.http.behavior import Behavior
from mockserver.http.channel import Response
from mockserver.http.request import Request
from mockserver.scenarios.scenario import Fault


def record_exchange(
    backend: Backend,
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
        near = backend.contract.nearest(request.method, request.path)
        nearest = "" if near is None else f"{near.method} {near.path}"
    kind = response.content_type
    backend.store.record(
        tenant,
        Exchange(  # in the order of its fields: so many keywords would be a dictionary, made for each request
            number,
            request.received_at,
            tenant.clock.now(),
            ""
            if request.token is None
            else tenant.name
            if tenant.name == request.token
            else request.token,
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


def count_exchange(
    metrics: Metrics,
    operation: Operation | None,
    request: Request,
    response: Response,
    fault: Fault | None,
    seconds: float,
) -> None:
    """Count an exchange among those of the whole server, with the seconds that it took."""
    name = UNMATCHED if operation is None else operation.operation_id
    metrics.record(name, response.status, seconds)
    if request.violations:
        metrics.violations[name] += len(request.violations)
    if fault is not None:
        metrics.faults[fault.kind] += 1
