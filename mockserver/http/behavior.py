"""How the gateway behaves in one exchange: the scenario that holds for it, the fault that is due, what a limit says."""

from __future__ import annotations

import re
from functools import partial

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.rate_limit import Quota
from mockserver.backend.tenant import EACH_PREDICTION, TENANT_SCRIPT, TenantState
from mockserver.contract.api_error import Dialect
from mockserver.contract.operation import Operation
from mockserver.http.request import Request
from mockserver.json_text import read_json
from mockserver.scenarios.scenario import BODY_FAULTS, Fault, Scenario

SCENARIO_HEADER = b"x-mock-scenario"
REQUEST_SCRIPT = "call "  # and a name: whose faults are counted, those of a scenario that a request asks for itself
_PROMPT_SCENARIO = b"[mock:"


class Behavior(msgspec.Struct, frozen=True):
    """The scenario of an exchange, the dialect of its errors, the fault that is due in it, and what a limit says of it.

    `chosen` is the scenario where the request itself, or the one that created its prediction, asked
    for it.
    """

    scenario: Scenario
    chosen: Scenario | None
    dialect: Dialect
    fault: Fault | None = None
    quota: Quota | None = None


def behavior_of(
    backend: Backend, tenant: TenantState, operation: Operation | None, request: Request
) -> Behavior:
    """Choose the scenario, and take the fault due. Raises ScenarioError."""
    scenario, chosen, source = _choose(backend, tenant, operation, request)
    fault, quota = None, None
    if operation is not None and scenario.limits:
        fault, quota = _throttled(tenant, operation, scenario, source)
    script = (
        scenario.script(operation)
        if operation is not None and scenario.faults and fault is None
        else None
    )
    if operation is not None and script is not None:
        if scenario.faults_per == "prediction" and source == TENANT_SCRIPT and request.path_params:
            source = EACH_PREDICTION + request.path_params.get("prediction_id", "")
            source = (
                source
                if source.removeprefix(EACH_PREDICTION) in tenant.predictions
                else TENANT_SCRIPT
            )
        fault = tenant.consume_fault(
            source,
            *script,
            partial(_can_exhibit, operation),
            repeat=source.startswith(REQUEST_SCRIPT),
        )
    return Behavior(scenario, chosen, scenario.errors or backend.options.errors, fault, quota)


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


def _choose(
    backend: Backend, tenant: TenantState, operation: Operation | None, request: Request
) -> tuple[Scenario, Scenario | None, str]:
    """The scenario, strongest first; what the request or its prediction asked for; whose faults are counted.

    Raises ScenarioError.
    """
    chosen, source = None, TENANT_SCRIPT
    named = request.header(SCENARIO_HEADER)
    if named is None and _PROMPT_SCENARIO in request.body:
        named = _named_in_prompt(backend, operation, request)
    if named is not None:
        chosen = backend.catalogue.named(named)
        source = REQUEST_SCRIPT + named
    elif request.path_params:
        prediction = tenant.predictions.get(request.path_params.get("prediction_id", ""))
        if prediction is not None and prediction.scenario is not None:
            chosen, source = prediction.scenario, prediction.id
    return chosen or backend.scenario(tenant), chosen, source


def _can_exhibit(operation: Operation, fault: Fault) -> bool:
    """Whether an exchange of an operation can show a fault that a scenario has for every operation."""
    if fault.status is not None:
        return fault.status in operation.responses
    if fault.kind in BODY_FAULTS:
        return operation.has_body
    return fault.after is None or operation.commits


def _named_in_prompt(backend: Backend, operation: Operation | None, request: Request) -> str | None:
    if operation is None or operation.role != "create":
        return None
    try:
        body = read_json(request.body)
        model = backend.contract.model_asked(operation, body)
        prompt = body["input"][model.picture["prompt"]] if model is not None else ""
        name, closed, _ = prompt.partition(_PROMPT_SCENARIO.decode())[2].partition("]")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return name if closed else None
