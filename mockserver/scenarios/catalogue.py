"""The named scenarios, and the parsing and checking of others."""

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
    """A JSON value with 2.0 as 2, since both are integers to JSON Schema."""
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
    """The named scenarios that fit a contract, and the parsing of others."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self.schema: dict[str, Any] = _packaged("scenario.schema.yaml")
        self._validator = jsonschema_rs.validator_for(self.schema)
        self._named: dict[str, Scenario] = {}
        for name, value in _packaged("scenarios.yaml").items():
            # One that does not fit a contract is not offered with it.
            with suppress(ScenarioError):
                self._named[name] = self.parse({"name": name, **value})

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[Scenario]:
        return iter(self._named.values())

    def named(self, name: str) -> Scenario:
        """The scenario of that name. Raises ScenarioError."""
        scenario = self._named.get(name)
        if scenario is None:
            near = difflib.get_close_matches(name[:100], self._named, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            names = ", ".join(self._named)
            raise ScenarioError(f"no scenario is called {shorten(name)}{hint}; there are: {names}")
        return scenario

    def parse(self, value: object) -> Scenario:
        """A scenario from its JSON value. Raises ScenarioError with all errors and their places."""
        value = _with_current_dialect(value)
        if errors := [_schema_error(error) for error in self._validator.iter_errors(value)]:
            raise _refused(value, errors)
        assert isinstance(value, Mapping)
        lifecycle = value.get("lifecycle") or self.schema["properties"]["lifecycle"]["default"]
        scenario = msgspec.convert(_whole({**value, "lifecycle": lifecycle}), Scenario)
        if errors := list(self._contradictions(scenario)):
            raise _refused(value, errors)
        return scenario

    def coerce(self, value: object) -> Scenario:
        """A checked scenario from a name, `{"name": …}`, a JSON value or a Scenario.

        Raises ScenarioError.
        """
        if isinstance(value, Scenario):
            return self.parse(value.as_json())
        if isinstance(value, Mapping) and value.keys() == {"name"}:
            value = value["name"]
        return self.named(value) if isinstance(value, str) else self.parse(value)

    def read(self, word: str) -> Scenario:
        """A scenario by its name, or from a YAML or JSON file, which may be a finding.

        Raises ScenarioError.
        """
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
            yield from _lifecycle_errors("/lifecycle", scenario.lifecycle, statuses)
            for number, share in enumerate(scenario.sometimes):
                yield from _lifecycle_errors(
                    f"/sometimes/{number}/lifecycle", share.lifecycle, statuses
                )
        if sum(share.chance for share in scenario.sometimes) > 1:
            yield "/sometimes: their chances add up to more than 1"
        for key, faults in scenario.faults.items():
            yield from self._script_errors(key, faults)
        for key in scenario.limits:
            if not self._named_by(key):
                yield self._unknown(pointer_to(("limits", key)))
        yield from self._body_errors(scenario.body)
        creates = self._contract.of_role("create")
        listed = sorted(
            {status for operation in creates for status in operation.responses if status < 300}
        )
        if scenario.create_status not in (None, *listed):
            yield f"/create_status: the contract answers a create with one of {listed}"

    def _script_errors(self, key: str, faults: Sequence[Fault | None]) -> Iterator[str]:
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
                known = f"the contract has no {fault.status} for {key}; it has {listed}"
                yield f"{place}/status: {known}"
            if fault.after and not any(operation.commits for operation in operations):
                yield f"{place}/after: {key} changes nothing, so there is nothing to commit"
            if fault.kind in BODY_FAULTS and not any(
                operation.has_body for operation in operations
            ):
                yield (f"{place}: {key} has no body for `{fault.kind}` (streams have `stream`)")
            if fault.times == "always" and number < len(faults) - 1:
                yield f"{place}/times: what follows an endless fault is never met"

    def _named_by(self, key: str) -> list[Operation]:
        """The operations that a key of faults or limits stands for."""
        return [
            operation
            for operation in self._contract.operations
            if key in ("*", operation.operation_id, operation.family)
        ]

    def _unknown(self, place: str) -> str:
        names = dict.fromkeys(operation.family for operation in self._contract.operations)
        return f"{place}: no such operation; there are: *, {', '.join(names)}"

    def _body_errors(self, body: Body) -> Iterator[str]:
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
            vary(body, reader, reader.success, template) != template
            for template in self._contract.templates.values()
        )


def _schema_error(error: jsonschema_rs.ValidationError) -> str:
    message = cut(error.message, 300)
    if error.kind.name.startswith("oneOf"):
        message = (
            "a fault has exactly one of status, disconnect, cut, stall, drip and body, "
            "or only a delay"
        )
    return f"{cut(pointer_to(error.instance_path), 300) or '/'}: {message}"


def _lifecycle_errors(
    where: str, lifecycle: Sequence[Step], statuses: Sequence[str]
) -> Iterator[str]:
    order = {"starting": 0, "processing": 1}
    before = -1
    for number, step in enumerate(lifecycle):
        place, last = f"{where}/{number}", number == len(lifecycle) - 1
        if step.status not in statuses:
            known = ", ".join(statuses)
            yield f"{place}/status: {step.status!r} is not a status; there are: {known}"
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


def _refused(value: object, errors: Sequence[str]) -> ScenarioError:
    name = value.get("name") if isinstance(value, Mapping) else None
    title = f" {name}" if isinstance(name, str) else ""
    return ScenarioError(f"scenario{cut(title, 70)} is refused: " + "; ".join(errors))


def _packaged(name: str) -> Any:
    text = resources.files("mockserver.scenarios").joinpath(name).read_bytes()
    return read_yaml(text)
