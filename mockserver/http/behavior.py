"""How the gateway behaves in one exchange: scenario, fault, rate limit."""

from __future__ import annotations

import re
from functools import partial

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.rate_limit import Quota
from mockserver.backend.tenant import WHOLE_TENANT, FaultCursor, TenantState
from mockserver.contract.api_error import ApiError, Dialect
from mockserver.contract.operation import Operation
from mockserver.errors import ScenarioError
from mockserver.http.request import ReceivedRequest
from mockserver.scenarios.scenario import BODY_FAULTS, Fault, Scenario

SCENARIO_HEADER = b"x-mock-scenario"
_PROMPT_SCENARIO = "[mock:"
_MAY_NAME_SCENARIO = _PROMPT_SCENARIO.encode()


class Behavior(msgspec.Struct, frozen=True):
    """How the gateway behaves in one exchange.

    `chosen` is the scenario where the request itself, or the one that created its prediction, asked
    for it. `dialect` is that of errors. `fault` is the one due, `quota` what a limit has left.
    `refusal` says that the request asks for a scenario which does not exist.
    """

    scenario: Scenario
    chosen: Scenario | None
    dialect: Dialect
    fault: Fault | None = None
    quota: Quota | None = None
    refusal: ApiError | None = None


def choose_behavior(
    backend: Backend, tenant: TenantState, operation: Operation | None, request: ReceivedRequest
) -> Behavior:
    """Choose the scenario, and take the fault due."""
    refusal = None
    try:
        chosen, cursor = _chosen(backend, tenant, operation, request)
    except ScenarioError as reason:
        chosen, cursor, operation = None, WHOLE_TENANT, None  # no fault is taken
        refusal = ApiError(400, str(reason))
    scenario = chosen or backend.scenario(tenant)

    fault, quota = None, None
    if operation is not None and scenario.limits:
        fault, quota = _throttled(tenant, operation, scenario, cursor)
    if operation is not None and scenario.faults and fault is None:
        fault = _due(tenant, operation, scenario, cursor, request)

    dialect = scenario.errors or backend.options.errors
    return Behavior(scenario, chosen, dialect, fault, quota, refusal)


def _chosen(
    backend: Backend, tenant: TenantState, operation: Operation | None, request: ReceivedRequest
) -> tuple[Scenario | None, FaultCursor]:
    """The scenario that the request or its prediction asked for, and where its faults are counted.

    Raises ScenarioError.
    """
    name = request.header(SCENARIO_HEADER)
    if name is None and _MAY_NAME_SCENARIO in request.body.content:
        name = _named_in_prompt(backend, operation, request)
    if name is not None:
        return backend.catalogue.named(name), FaultCursor("request", name)
    if request.path_params:
        prediction = tenant.predictions.get(request.path_params.get("prediction_id", ""))
        if prediction is not None and prediction.scenario is not None:
            return prediction.scenario, FaultCursor("prediction", prediction.id)
    return None, WHOLE_TENANT


def _named_in_prompt(
    backend: Backend, operation: Operation | None, request: ReceivedRequest
) -> str | None:
    """The name in `[mock:NAME]` of a create's prompt; None if there is none."""
    if operation is None or operation.role != "create":
        return None
    try:
        body = request.body.json()
        model = backend.contract.model_asked(operation, body)
        prompt = body["input"][model.picture["prompt"]] if model is not None else ""
        name, closed, _ = prompt.partition(_PROMPT_SCENARIO)[2].partition("]")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # the contract forbids such a body, and says why
    return name if closed else None


def _throttled(
    tenant: TenantState, operation: Operation, scenario: Scenario, cursor: FaultCursor
) -> tuple[Fault | None, Quota | None]:
    """The 429 of a request over the limit, and what the limit has left."""
    entry = scenario.limit(operation)
    if entry is None or 429 not in operation.responses:
        return None, None
    key, limit = entry
    quota = tenant.take(cursor, key, limit)
    if quota.taken:
        return None, quota
    detail = None if limit.detail is None else re.sub(r"~\d+s", f"~{quota.reset}s", limit.detail)
    fault = Fault(status=429, retry_after=quota.reset, detail=detail, header=limit.header)
    return fault, quota


def _due(
    tenant: TenantState,
    operation: Operation,
    scenario: Scenario,
    cursor: FaultCursor,
    request: ReceivedRequest,
) -> Fault | None:
    """Take the fault that is due in an exchange of the operation."""
    script = scenario.script(operation)
    if script is None:
        return None
    if scenario.faults_per == "prediction" and cursor == WHOLE_TENANT:
        identifier = request.path_params.get("prediction_id", "")
        if identifier in tenant.predictions:  # a client cannot have cursors made for other ids
            cursor = FaultCursor("each_prediction", identifier)
    return tenant.consume_fault(cursor, *script, partial(_can_exhibit, operation))


def _can_exhibit(operation: Operation, fault: Fault) -> bool:
    """Whether an exchange of an operation can show a fault that a scenario has for all of them."""
    if fault.status is not None:
        return fault.status in operation.responses
    if fault.kind in BODY_FAULTS:
        return operation.has_body
    return fault.after is None or operation.commits
