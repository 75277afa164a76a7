"""Inputs that the contract allows, and requests that it forbids, made from its schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import MockServerError
from mockserver.images.draw import parse_ratio

JSON = "application/json"

_WRONG: dict[str, Any] = {
    "string": 4711,
    "integer": "many",
    "number": "much",
    "boolean": "perhaps",
    "array": "none",
    "object": "none",
}
_SAMPLE: dict[str, Any] = {
    "string": "a lighthouse",
    "integer": 1,
    "number": 1,
    "boolean": False,
    "array": [],
    "object": {},
}


class Forbidden(NamedTuple):
    """A create that the contract forbids: what is wrong with it, and what is sent."""

    wrong: str
    media_type: str
    body: bytes


def valid_input(contract: Contract, operation: Operation) -> dict[str, Any]:
    """An input that shows much: the contract's example, but with a ratio that is no square and an unusual format.

    No pictures are sent along. Raises MockServerError if the contract's schemas do not say enough
    to make one.
    """
    schema = input_schema(contract, operation)
    example = {
        name: value
        for name, value in _example(contract, operation).items()
        if name not in operation.images
    }
    given = {
        name: _sample(operation.input[name])
        for name in schema.get("required", [])
        if name in operation.input
    }
    given |= example
    ratio, kind = operation.picture["ratio"], operation.picture["format"]
    if ratio in operation.input and parse_ratio(str(given.get(ratio))) in (None, 1.0):
        wide = [
            each
            for each in operation.input[ratio].get("enum", [])
            if parse_ratio(str(each)) not in (None, 1.0)
        ]
        if wide:
            given[ratio] = "3:2" if "3:2" in wide else wide[0]
    others = [
        each
        for each in operation.input.get(kind, {}).get("enum", [])
        if each != operation.defaults.get(kind)
    ]
    if others:
        given[kind] = others[0]
    if found := operation.check_body(JSON, {"input": given}):
        place = f"{operation.method} {operation.path}"
        raise MockServerError(
            f"no valid input for {place} can be made from the contract: {found[0].description}"
        )
    return given


def forbidden_creates(contract: Contract, operation: Operation) -> Iterator[Forbidden]:
    """Creates that the contract forbids, one of each kind for each input; none is too large a body."""
    given = valid_input(contract, operation)
    for wrong, value in _wrong_bodies(contract, operation, given):
        if any(violation.fatal for violation in operation.check_body(JSON, value)):
            yield Forbidden(wrong, JSON, msgspec.json.encode(value))
    body = msgspec.json.encode({"input": given})
    yield Forbidden("broken JSON", JSON, body[:-2])
    if "text/plain" not in (operation.body or {}):
        yield Forbidden("a body declared text/plain", "text/plain", body)


def forbidden_by_version(
    contract: Contract, operation: Operation, model: Operation
) -> Iterator[Forbidden]:
    """Creates that the contract forbids of an operation whose body names the model, in `version`."""
    given = valid_input(contract, model)
    bodies = {"no version": {"input": given}, "no input": {"version": model.model}}
    for wrong, value in bodies.items():
        if any(violation.fatal for violation in operation.check_body(JSON, value)):
            yield Forbidden(wrong, JSON, msgspec.json.encode(value))
    yield Forbidden(
        "broken JSON", JSON, msgspec.json.encode({"version": model.model, "input": given})[:-2]
    )


def _wrong_bodies(
    contract: Contract, operation: Operation, given: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    yield "no input", {}
    for name in input_schema(contract, operation).get("required", []):
        yield f"no {name}", {"input": {key: value for key, value in given.items() if key != name}}
    for name, node in operation.input.items():
        kind = node.get("type")
        if isinstance(kind, str) and kind in _WRONG:
            yield f"{name} of another type", {"input": {**given, name: _WRONG[kind]}}
    for name, node in operation.input.items():
        step = 1 if node.get("type") == "integer" else 0.5
        if "minimum" in node:
            yield f"{name} below its range", {"input": {**given, name: node["minimum"] - step}}
        if "maximum" in node:
            yield f"{name} above its range", {"input": {**given, name: node["maximum"] + step}}
    for name, node in operation.input.items():
        if "enum" in node:
            yield f"{name} none of its values", {"input": {**given, name: "mockserver-verify"}}


def _example(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    request = contract.resolve(operation.document.get("requestBody", {}))
    media = request.get("content", {}).get(JSON, {})
    for each in (media, *media.get("examples", {}).values()):
        shown = contract.resolve(each)
        value = shown.get("example", shown.get("value"))
        if isinstance(value, Mapping) and isinstance(value.get("input"), Mapping):
            found: Mapping[str, Any] = value["input"]
            return found
    return {}


def input_schema(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    """The schema of the `input` in a create's body."""
    found: Mapping[str, Any] = contract.resolve(body_properties(contract, operation)["input"])
    return found


def body_properties(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    """The schemas of what may stand in a create's body, by their names."""
    request = contract.resolve(operation.document["requestBody"])
    found: Mapping[str, Any] = contract.resolve(request["content"][JSON]["schema"])["properties"]
    return found


def _sample(node: Mapping[str, Any]) -> Any:
    if "default" in node:
        return node["default"]
    if node.get("enum"):
        return node["enum"][0]
    kind = node.get("type")
    return node.get(
        "minimum", _SAMPLE[kind if isinstance(kind, str) and kind in _SAMPLE else "string"]
    )
