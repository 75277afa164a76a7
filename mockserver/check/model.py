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

VARIETY = (
    "body",
    "headers",
    "charset",
    "gzip",
    "create_status",
    "wait",
)  # the parts of a scenario that must not change an outcome
ARRIVES_WHOLE = frozenset(
    {"delay", "drip"}
)  # the faults after which a response has still arrived whole


TOKEN_PREFIX = "kit-"  # noqa: S105 - of tokens that mean nothing elsewhere
_TOKEN = re.compile(rf"{TOKEN_PREFIX}[0-9a-f]{{20}}")


class ClientError(MockServerError):
    """The client under test cannot be run, so it cannot be judged."""


class DoubleError(MockServerError):
    """The double broke its own contract: a bug of the double, so the client must not be blamed."""


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call and how the gateway behaves during it, as one JSON value; `concurrent` such calls are made at once."""

    model: str
    input: dict[str, Any]
    scenario: dict[str, Any] = {}
    clock: Literal["autojump", "real"] = "autojump"
    concurrent: int = 1

    @property
    def key(self) -> bytes:
        """The case as bytes, the same for the same case."""
        return msgspec.json.encode(self, order="sorted")


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended. `value` is what it returned, `message` what it raised, `printed` all that a process wrote.

    `no_report`: a process ended without a last line {"output": …} or {"error": …}. Of calls made at
    once it is the worst, and `parts` are all of them in order. `client` is what it says that it is
    called.
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
        cut_off: A rule was broken beyond doubt while the client still ran, so everything was refused from then on;
            `exchanges` are those up to that moment.
        pictures: The URLs of the pictures that were made, by the ids of their predictions.
        outputs: Those that are this call's.
        other_outputs: Those of calls made at the same time.
        exchange_indexes: Where the exchanges of a call are among those of all that were made at the same time.
        bodies: The pictures themselves, by the ids of their predictions, if the client returned bytes.
        delivered: The bodies that a client which returned bytes may have downloaded whole.
        control_run: The outcome of the same case without legal variety, where that was played.
        solo_outcome: The outcome of a call of the same case that was made alone, where that was played.
        seconds: How long the call took.
        started_after: How much of that passed until its first request.
        timeout: After how many seconds the call was ended if it had not ended by itself.
        crowded: The machine was so busy that a deadline which was missed says little of the client.
        client_timeout: After how many seconds the client promises to give up by itself, if it does.
        final_statuses: The statuses in which the lifecycles of the predictions end, by their ids.
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
        """The status in which the lifecycle of the latest prediction ends."""
        return [self.scenario.lifecycle[-1].status, *self.final_statuses.values()][-1]

    @property
    def operation(self) -> Operation:
        """The create that the call asks for."""
        return operation_of(self.contract, self.case.model)

    @property
    def has_no_fault(self) -> bool:
        """Whether nothing is in the way: no fault in responses, among events of a stream or webhooks, and no limit."""
        scenario = self.scenario
        told_of_all = scenario.stream == Stream() and scenario.webhooks == Webhooks()
        return not scenario.faults and not scenario.limits and told_of_all

    @property
    def has_variety(self) -> bool:
        """Whether the scenario varies what the contract leaves open."""
        return any(name in self.case.scenario for name in VARIETY)

    def role(self, exchange: Exchange) -> str | None:
        """The role of the operation that was called; None if the contract has no such operation."""
        operation = self.contract.by_id.get(exchange.operation_id or "")
        return operation.role if operation is not None else None

    def of_role(self, role: str) -> Iterator[tuple[int, Exchange]]:
        """The exchanges with the API whose operation has that role, with their indexes."""
        for index, exchange in enumerate(self.exchanges):
            if exchange.arrived_at == "api" and self.role(exchange) == role:
                yield index, exchange

    @property
    def billed_indexes(self) -> list[int]:
        """The indexes of the creates that took effect, and are billed."""
        return [index for index, exchange in self.of_role("create") if exchange.committed]

    @property
    def end_indexes(self) -> list[int]:
        """The indexes of the responses that arrived whole and told the client of a terminal status."""
        return [
            index
            for index, exchange in enumerate(self.exchanges)
            if TERMINAL & self._statuses(exchange)
        ]

    @property
    def success_indexes(self) -> list[int]:
        """The indexes of the responses that told the client of success: by the status, or by showing the output."""
        return [
            index
            for index, exchange in enumerate(self.exchanges)
            if "succeeded" in self._statuses(exchange)
            or (arrived(exchange) and shows_output(exchange))
        ]

    def with_control_run(self, control_run: Outcome) -> Run:
        """The run, with the outcome of its control run."""
        return replace(self, control_run=control_run)

    def _statuses(self, exchange: Exchange) -> set[str]:
        """The statuses that a response or a webhook told of. Whoever reads a stream is told of its last status."""
        if not arrived(exchange):
            return set()
        if self.role(exchange) == "stream":
            return {self.last_status}
        told = {exchange.prediction_status} if exchange.prediction_status else set()
        return told | {
            shown["status"]
            for shown in _predictions(exchange)
            if isinstance(shown.get("status"), str)
        }


def served_whole(exchange: Exchange) -> bool:
    """Whether the API's response was a success, and was sent whole."""
    if exchange.arrived_at != "api" or not 200 <= exchange.status < 300:
        return False
    return exchange.fault is None or fault_of(exchange).kind in ARRIVES_WHOLE


def arrived(exchange: Exchange) -> bool:
    """Whether a client may believe what it was told: in a response that arrived whole, or by a genuine webhook."""
    return exchange.committed if exchange.arrived_at == "receiver" else served_whole(exchange)


def shows_output(exchange: Exchange) -> bool:
    """Whether a response or a webhook shows a prediction's output; assumed of a success too long for the journal."""
    if exchange.response.body_size > len(exchange.response.body):
        return exchange.prediction_status == "succeeded"
    return any(shown.get("output") is not None for shown in _predictions(exchange))


def fault_of(exchange: Exchange) -> Fault:
    """The fault that was played in an exchange."""
    assert exchange.fault is not None
    return exchange.fault


def _json_object(exchange: Exchange) -> dict[str, Any]:
    """The JSON object in a response's body; an empty one if there is none."""
    try:
        value = msgspec.json.decode(
            exchange.request.body if exchange.arrived_at == "receiver" else exchange.response.body
        )
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _predictions(exchange: Exchange) -> list[dict[str, Any]]:
    """The prediction that a response shows, or those that a list shows."""
    response = _json_object(exchange)
    results = response.get("results")
    found = results if isinstance(results, list) else [response]
    return [shown for shown in found if isinstance(shown, dict)]


def operation_of(contract: Contract, model: str) -> Operation:
    """The create of a model. Raises MockServerError."""
    if model not in contract.models:
        raise MockServerError(
            f"the contract has no model {model}; it has {', '.join(contract.models)}"
        )
    return contract.models[model]


def without_other_tokens(text: str, own: str) -> str:
    """A text in which the tokens of other plays cannot be read."""
    return _TOKEN.sub(lambda match: own if match.group() == own else "<another call's token>", text)


def is_valid(operation: Operation, given: Mapping[str, Any]) -> bool:
    """Whether the contract allows an input of a create."""
    assert operation.body is not None
    return not operation.check_body(next(iter(operation.body)), {"input": given})


def with_defaults(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """An input with the documented defaults filled in."""
    return {**operation.defaults, **given}


def varieties(scenario: Mapping[str, Any]) -> tuple[str, ...]:
    """What a scenario varies of what the contract leaves open, a word for each."""
    body = scenario.get("body", {})
    named = [f"{how} {name}" for how in ("extra", "omit", "null") for name in body.get(how, ())]
    rest = [f"{name} {body[name]}" for name in body if name not in ("extra", "omit", "null")]
    return (
        *named,
        *rest,
        *(f"{name} {scenario[name]}" for name in VARIETY if name != "body" and name in scenario),
    )


def control_case(case: Case) -> Case:
    """The case without legal variety, and without a Retry-After that cannot be read."""
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
