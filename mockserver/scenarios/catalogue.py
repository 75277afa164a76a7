"""The scenarios that have a name, and the reading of those given as values or files."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import yaml

from mockserver.contract.api_error import FORMER_DIALECTS
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.contract.yaml import read_yaml
from mockserver.errors import ScenarioError
from mockserver.json_text import cut, pointer_to, shorten
from mockserver.scenarios.scenario import BODY_FAULTS, Body, Fault, Scenario, Step
from mockserver.scenarios.timeline import TERMINAL
from mockserver.scenarios.variation import vary


def _whole(value: Any) -> Any:
    """A JSON value in which 2.0 is 2, as JSON Schema has it; wherever a fraction may stand, a whole number may."""
    if isinstance(value, Mapping):
        return {name: _whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_current_dialect(value: object) -> object:
    """A scenario's JSON value, in which a former name of a dialect of errors is replaced."""
    dialect = value.get("errors") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(dialect, str):
        return value
    return {**value, "errors": FORMER_DIALECTS.get(dialect, dialect)}


class Catalogue:
    """The scenarios that have a name, and the reading of those given as values."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.schema: dict[str, Any] = _packaged("scenario.schema.yaml")
        self._validator = jsonschema_rs.validator_for(self.schema)
        self._named: dict[str, Scenario] = {}
        for name, value in _packaged("scenarios.yaml").items():
            with suppress(
                ScenarioError
            ):  # one that does not fit another contract is not offered there
                self._named[name] = self.parse({"name": name, **value})

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[Scenario]:
        return iter(self._named.values())

    def named(self, name: str) -> Scenario:
        """The scenario of that name. Raises ScenarioError."""
        found = self._named.get(name)
        if found is None:
            near = difflib.get_close_matches(name[:100], self._named, n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            names = ", ".join(self._named)
            raise ScenarioError(f"no scenario is called {shorten(name)}{meant}; there are: {names}")
        return found

    def parse(self, value: object) -> Scenario:
        """A scenario from its JSON value. Raises ScenarioError with every fault and its place."""
        value = _with_current_dialect(value)
        if faults := [_schema_fault(error) for error in self._validator.iter_errors(value)]:
            raise _refused(value, faults)
        assert isinstance(value, Mapping)
        lifecycle = value.get("lifecycle") or self.schema["properties"]["lifecycle"]["default"]
        scenario = msgspec.convert(_whole({**value, "lifecycle": lifecycle}), Scenario)
        if faults := list(self._contradictions(scenario)):
            raise _refused(value, faults)
        return scenario

    def coerce(self, given: object) -> Scenario:
        """A scenario from a name, from `{"name": …}` alone, from its JSON value, or as it is. Raises ScenarioError."""
        if isinstance(given, Scenario):
            return self.parse(given.as_json())
        if isinstance(given, Mapping) and given.keys() == {"name"}:
            given = given["name"]
        return self.named(given) if isinstance(given, str) else self.parse(given)

    def read(self, word: str) -> Scenario:
        """A scenario by name, or from the YAML or JSON file at a path; a finding too. Raises ScenarioError."""
        if word in self._named or not Path(word).is_file():
            if "/" in word or Path(word).suffix in (".yaml", ".yml", ".json"):
                raise ScenarioError(f"scenario file {word}: no such file")
            return self.named(word)
        try:
            value = read_yaml(Path(word).read_bytes())
        except (OSError, yaml.YAMLError) as reason:
            raise ScenarioError(
                f"scenario file {word}: {' '.join(str(reason).split())}"
            ) from reason
        if isinstance(value, Mapping) and "rule" in value and "scenario" in value:
            value = {"name": Path(word).stem.lower(), **value["scenario"]}
        return self.parse(value)

    def _contradictions(self, scenario: Scenario) -> Iterator[str]:
        if statuses := self._contract.statuses:
            yield from _lifecycle_faults("/lifecycle", scenario.lifecycle, statuses)
            for number, share in enumerate(scenario.sometimes):
                yield from _lifecycle_faults(
                    f"/sometimes/{number}/lifecycle", share.lifecycle, statuses
                )
        if sum(share.chance for share in scenario.sometimes) > 1:
            yield "/sometimes: their chances add up to more than 1"
        for key, faults in scenario.faults.items():
            yield from self._script_faults(key, faults)
        for key in scenario.limits:
            if not self._named_by(key):
                yield self._unknown(pointer_to(("limits", key)))
        yield from self._body_faults(scenario.body)
        creates = self._contract.of_role("create")
        listed = sorted(
            {status for operation in creates for status in operation.responses if status < 300}
        )
        if scenario.create_status not in (None, *listed):
            yield f"/create_status: the contract answers a create with one of {listed}"

    def _script_faults(self, key: str, faults: Sequence[Fault | None]) -> Iterator[str]:
        operations = self._named_by(key)
        if not operations:
            yield self._unknown(pointer_to(("faults", key)))
            return
        for number, fault in enumerate(faults):
            if fault is None:
                continue
            place = pointer_to(("faults", key, number))
            if fault.status and not any(
                fault.status in operation.responses for operation in operations
            ):
                listed = sorted(
                    {s for operation in operations for s in operation.responses if s >= 400}
                )
                yield f"{place}/status: the contract has no {fault.status} for {key}; it has {listed}"
            if fault.after and not any(operation.commits for operation in operations):
                yield f"{place}/after: {key} changes nothing, so there is nothing to commit"
            if fault.kind in BODY_FAULTS and not any(
                operation.has_body for operation in operations
            ):
                yield f"{place}: {key} has no body that could be met by `{fault.kind}` (of streams, see `stream`)"
            if fault.times == "always" and number < len(faults) - 1:
                yield f"{place}/times: what follows an endless fault is never met"

    def _named_by(self, key: str) -> list[Operation]:
        """The operations that a key of faults or limits stands for."""
        return [
            each
            for each in self._contract.operations
            if key in ("*", each.operation_id, each.family)
        ]

    def _unknown(self, place: str) -> str:
        names = dict.fromkeys(operation.family for operation in self._contract.operations)
        return f"{place}: no such operation; there are: *, {', '.join(names)}"

    def _body_faults(self, body: Body) -> Iterator[str]:
        known = self._contract.prediction_schema["properties"]
        for name, value in body.extra.items():
            if name in known and not self._legal(Body(extra={name: value})):
                place = pointer_to(("body", "extra", name))
                yield f"{place}: the contract knows {name}, and does not let this be added"
        for name in body.omit:
            if not self._legal(Body(omit=(name,))):
                yield f"/body/omit: the contract requires {name}"
        for name in body.null:
            if name not in known or not self._legal(Body(null=(name,))):
                yield f"/body/null: the contract never lets {name} be null"

    def _legal(self, body: Body) -> bool:
        """Whether the contract allows a change in a prediction of some status."""
        reader = self._contract.reader
        return reader is not None and any(
            vary(body, reader, reader.success, shown) != shown
            for shown in self._contract.templates.values()
        )


def _schema_fault(error: jsonschema_rs.ValidationError) -> str:
    said = cut(error.message, 300)
    if error.kind.name.startswith("oneOf"):
        said = "a fault has exactly one of status, disconnect, cut, stall, drip and body, or only a delay"
    return f"{cut(pointer_to(error.instance_path), 300) or '/'}: {said}"


def _lifecycle_faults(
    where: str, lifecycle: Sequence[Step], statuses: Sequence[str]
) -> Iterator[str]:
    order = {"starting": 0, "processing": 1}
    before = -1
    for number, step in enumerate(lifecycle):
        place, last = f"{where}/{number}", number == len(lifecycle) - 1
        if step.status not in statuses:
            yield f"{place}/status: {step.status!r} is not a status; there are: {', '.join(statuses)}"
            continue
        rank = order.get(step.status, 2)
        if rank <= before:
            yield f"{place}/status: {step.status} cannot follow {lifecycle[number - 1].status}"
        if step.status == "aborted" and before == order["processing"]:
            yield f"{place}/status: aborted is for what never started"
        if step.status in TERMINAL and step.seconds is not None:
            yield f"{place}/seconds: {step.status} is terminal and lasts"
        if not last and step.status not in TERMINAL and step.seconds is None:
            yield f"{place}/seconds: needed, since another status follows"
        if step.polls > 1 and (last or not step.seconds):
            yield f"{place}/polls: a status that lasts for no time is not seen more than once"
        if step.error is not msgspec.UNSET and step.status != "failed":
            yield f"{place}/error: only failed has an error"
        before = rank


def _refused(value: object, faults: Sequence[str]) -> ScenarioError:
    name = value.get("name") if isinstance(value, Mapping) else None
    called = f" {name}" if isinstance(name, str) else ""
    return ScenarioError(f"scenario{cut(called, 70)} is refused: " + "; ".join(faults))


def _packaged(name: str) -> Any:
    text = resources.files("mockserver.scenarios").joinpath(name).read_bytes()
    return read_yaml(text)
