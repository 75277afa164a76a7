"""Cases, which are played to a client, and runs, which record what happened: plain values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from mockserver.backend.journal import Exchange
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import MockServerError
from mockserver.scenarios.scenario import Fault, Scenario, Stream, Webhooks
from mockserver.scenarios.timeline import TERMINAL

# The parts of a scenario that must not change an outcome.
VARIETY = (
    "body",
    "headers",
    "charset",
    "gzip",
    "chunked",
    "header_names",
    "create_status",
    "wait",
)
# The faults with which a response still arrives whole.
ARRIVES_WHOLE = frozenset({"delay", "drip"})

TOKEN_PREFIX = "kit-"  # noqa: S105 - of tokens that are valid nowhere else
_TOKEN = re.compile(rf"{TOKEN_PREFIX}[0-9a-f]{{20}}")


class ClientError(MockServerError):
    """The client under test cannot be run, so it cannot be judged."""


class DoubleError(MockServerError):
    """The double broke its own contract: a bug in mockserver, for which no client is blamed."""


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call, and how the gateway behaves during it, as one JSON value.

    `concurrent` is the number of such calls that are made concurrently.
    """

    model: str
    input: dict[str, Any]
    scenario: dict[str, Any] = {}
    clock: Literal["autojump", "real"] = "autojump"
    concurrent: int = 1

    @property
    def key(self) -> bytes:
        """The case as bytes; equal cases have equal keys."""
        return msgspec.json.encode(self, order="sorted")


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended. For concurrent calls, the worst outcome.

    Attributes:
        value: The return value.
        message: The message of the error that it raised.
        printed: The output of a process, from the end.
        no_report: Whether a process ended without a last line {"output": …} or {"error": …}.
        client: The name and version that the client reports.
        parts: The outcomes of concurrent calls, in order.
    """

    kind: Literal["returned", "raised", "hung"]
    value: Any = None
    message: str = ""
    printed: str = ""
    no_report: bool = False
    client: str = ""
    parts: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class Run:
    """A case that was played: what went over the wire, and how the call ended.

    Attributes:
        case: The case.
        scenario: The scenario of the case, parsed.
        contract: The contract of the double.
        token: The token of the play.
        outcome: How the call ended.
        exchanges: Requests with their responses, and webhooks, in order of arrival.
        cut_off: Whether the client broke a rule beyond doubt while it was still running. All later
            requests were refused, and are not among the exchanges.
        pictures: The URLs of the pictures, by prediction id.
        outputs: The URLs of this call's pictures.
        other_outputs: The URLs and bytes of the pictures of concurrent calls.
        exchange_indexes: The positions of this call's exchanges among those of all calls.
        bodies: The pictures, by prediction id, if the client returned bytes.
        delivered: The bodies that a client which returned bytes may have downloaded whole.
        control_run: The outcome of the same case without legal variety, if that was played.
        solo_outcome: The outcome of a single call of the same case, if that was played.
        seconds: How long the call took.
        started_after: Seconds from the start to the first request.
        timeout: Seconds after which the call was ended if it was still running.
        machine_overloaded: Whether the machine was too busy for a missed deadline to mean much.
        client_timeout: Seconds after which the client promises to give up by itself, if it does.
        strict_urls: Whether it is an error, and not a warning, to follow `urls.*` elsewhere.
        tls: Whether the gateway spoke https.
        final_statuses: The last statuses of the predictions' lifecycles, by prediction id.
    """

    case: Case
    scenario: Scenario
    contract: Contract
    token: str
    outcome: Outcome
    exchanges: tuple[Exchange, ...]
    cut_off: bool = False
    pictures: Mapping[str, str] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    other_outputs: frozenset[str | bytes] = frozenset()
    exchange_indexes: tuple[int, ...] = ()
    bodies: Mapping[str, bytes] = field(default_factory=dict)
    delivered: tuple[bytes, ...] = ()
    control_run: Outcome | None = None
    solo_outcome: Outcome | None = None
    seconds: float = 0
    started_after: float = 0
    timeout: float = 10
    machine_overloaded: bool = False
    client_timeout: float | None = None
    strict_urls: bool = False
    tls: bool = False
    final_statuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def last_status(self) -> str:
        """The last status in the lifecycle of the latest prediction."""
        return [self.scenario.lifecycle[-1].status, *self.final_statuses.values()][-1]

    @property
    def operation(self) -> Operation:
        """The create operation of the case's model."""
        return operation_of(self.contract, self.case.model)

    @property
    def has_no_fault(self) -> bool:
        """Whether the scenario has no faults, in responses, streams or webhooks, and no limits."""
        scenario = self.scenario
        # Events in two parts and a time to reconnect are nothing unusual.
        stream = msgspec.structs.replace(scenario.stream, split=False, retry=None)
        is_complete = stream == Stream() and scenario.webhooks == Webhooks()
        return not scenario.faults and not scenario.limits and is_complete

    @property
    def has_variety(self) -> bool:
        """Whether the scenario varies what the contract leaves open."""
        return any(name in self.case.scenario for name in VARIETY)

    def role(self, exchange: Exchange) -> str | None:
        """The role of the called operation; None if the contract has no such operation."""
        operation = self.contract.by_id.get(exchange.operation_id or "")
        return operation.role if operation is not None else None

    def of_role(self, role: str) -> Iterator[tuple[int, Exchange]]:
        """The exchanges with the API whose operation has that role, and their indexes."""
        for index, exchange in enumerate(self.exchanges):
            if exchange.arrived_at == "api" and self.role(exchange) == role:
                yield index, exchange

    @property
    def billed_indexes(self) -> list[int]:
        """The indexes of the creates that took effect, and are therefore billed."""
        return [index for index, exchange in self.of_role("create") if exchange.committed]

    @property
    def end_indexes(self) -> list[int]:
        """The indexes of the responses and webhooks that arrived and reported a terminal status."""
        return [
            index
            for index, exchange in enumerate(self.exchanges)
            if TERMINAL & self._statuses(exchange)
        ]

    @property
    def success_indexes(self) -> list[int]:
        """The indexes of the responses and webhooks that reported success, by status or output."""
        return [
            index
            for index, exchange in enumerate(self.exchanges)
            if "succeeded" in self._statuses(exchange)
            or (arrived(exchange) and shows_output(exchange))
        ]

    def with_control_run(self, control_run: Outcome) -> Run:
        """A copy with the outcome of its control run."""
        return replace(self, control_run=control_run)

    def _statuses(self, exchange: Exchange) -> set[str]:
        """The statuses that a response or a webhook reported; for a stream, its last status."""
        if not arrived(exchange):
            return set()
        if self.role(exchange) == "stream":
            return {self.last_status}
        statuses = {exchange.prediction_status} if exchange.prediction_status else set()
        return statuses | {
            prediction["status"]
            for prediction in _predictions(exchange)
            if isinstance(prediction.get("status"), str)
        }


def served_whole(exchange: Exchange) -> bool:
    """Whether the API's response was a success, and was sent completely."""
    if exchange.arrived_at != "api" or not 200 <= exchange.status < 300:
        return False
    return exchange.fault is None or fault_of(exchange).kind in ARRIVES_WHOLE


def arrived(exchange: Exchange) -> bool:
    """Whether a client may trust an exchange: a complete response, or a genuine webhook."""
    return exchange.committed if exchange.arrived_at == "receiver" else served_whole(exchange)


def shows_output(exchange: Exchange) -> bool:
    """Whether a response or a webhook contains a prediction's output."""
    # The journal has truncated the body, so a success is assumed to contain one.
    if exchange.response.body_size > len(exchange.response.body):
        return exchange.prediction_status == "succeeded"
    return any(prediction.get("output") is not None for prediction in _predictions(exchange))


def fault_of(exchange: Exchange) -> Fault:
    """The fault that was injected into an exchange, which must have one."""
    assert exchange.fault is not None
    return exchange.fault


def _json_object(exchange: Exchange) -> dict[str, Any]:
    """The JSON object in the body of a response or webhook; empty if there is none."""
    try:
        value = msgspec.json.decode(
            exchange.request.body if exchange.arrived_at == "receiver" else exchange.response.body
        )
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _predictions(exchange: Exchange) -> list[dict[str, Any]]:
    """The prediction in a response, or those in a list."""
    response = _json_object(exchange)
    results = response.get("results")
    predictions = results if isinstance(results, list) else [response]
    return [prediction for prediction in predictions if isinstance(prediction, dict)]


def operation_of(contract: Contract, model: str) -> Operation:
    """The create operation of a model. Raises MockServerError if there is no such model."""
    if model not in contract.models:
        raise MockServerError(
            f"the contract has no model {model}; it has {', '.join(contract.models)}"
        )
    return contract.models[model]


def without_other_tokens(text: str, own: str) -> str:
    """The text with the tokens of other plays masked."""
    return _TOKEN.sub(lambda match: own if match.group() == own else "<another call's token>", text)


def is_valid(operation: Operation, model_input: Mapping[str, Any]) -> bool:
    """Whether the contract allows an input of a create operation."""
    assert operation.body is not None
    return not operation.check_body(next(iter(operation.body)), {"input": model_input})


def with_defaults(operation: Operation, model_input: Mapping[str, Any]) -> dict[str, Any]:
    """An input with the documented defaults filled in."""
    return {**operation.defaults, **model_input}


def varieties(scenario: Mapping[str, Any]) -> tuple[str, ...]:
    """What a scenario varies within the contract, such as `omit logs` or `create_status 200`."""
    body = scenario.get("body", {})
    edits = ("extra", "omit", "null")

    edited = [f"{edit} {name}" for edit in edits for name in body.get(edit, ())]
    others = [f"{name} {body[name]}" for name in body if name not in edits]
    outside = [f"{name} {scenario[name]}" for name in VARIETY if name != "body" if name in scenario]
    return (*edited, *others, *outside)


def control_case(case: Case) -> Case:
    """The case without legal variety, and without unreadable Retry-After headers."""
    scenario = {name: part for name, part in case.scenario.items() if name not in VARIETY}
    faults = {
        key: [_without_unreadable(fault) for fault in script]
        for key, script in scenario.get("faults", {}).items()
    }
    if faults:
        scenario["faults"] = faults
    return msgspec.structs.replace(case, scenario=scenario)


def _without_unreadable(fault: dict[str, Any] | None) -> dict[str, Any] | None:
    if fault is None or not isinstance(fault.get("retry_after"), str):
        return fault
    return {name: part for name, part in fault.items() if name != "retry_after"}
