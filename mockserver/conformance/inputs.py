"""Valid inputs and forbidden requests, made from the schemas of the contract."""

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
    """A create that the contract forbids, and what is wrong with it."""

    wrong: str
    media_type: str
    body: bytes


def valid_input(contract: Contract, operation: Operation) -> dict[str, Any]:
    """The contract's example without pictures, with a ratio and a format that are not the default.

    These show in the picture whether the gateway heeds the input. Raises MockServerError if the
    contract's schemas do not determine a valid input.
    """
    schema = input_schema(contract, operation)
    example = {
        name: value
        for name, value in _example(contract, operation).items()
        if name not in operation.images
    }
    inputs = {
        name: _sample(operation.input[name])
        for name in schema.get("required", [])
        if name in operation.input
    }
    inputs |= example
    ratio, kind = operation.picture["ratio"], operation.picture["format"]
    if ratio in operation.input and parse_ratio(str(inputs.get(ratio))) in (None, 1.0):
        wide = [
            name
            for name in operation.input[ratio].get("enum", [])
            if parse_ratio(str(name)) not in (None, 1.0)
        ]
        if wide:
            inputs[ratio] = "3:2" if "3:2" in wide else wide[0]
    others = [
        name
        for name in operation.input.get(kind, {}).get("enum", [])
        if name != operation.defaults.get(kind)
    ]
    if others:
        inputs[kind] = others[0]
    if violations := operation.check_body(JSON, {"input": inputs}):
        place = f"{operation.method} {operation.path}"
        raise MockServerError(
            f"no valid input for {place} can be made from the contract: {violations[0].description}"
        )
    return inputs


def forbidden_creates(contract: Contract, operation: Operation) -> Iterator[Forbidden]:
    """Forbidden creates, one of each kind for each input."""
    inputs = valid_input(contract, operation)
    for wrong, value in _wrong_bodies(contract, operation, inputs):
        if any(violation.fatal for violation in operation.check_body(JSON, value)):
            yield Forbidden(wrong, JSON, msgspec.json.encode(value))
    body = msgspec.json.encode({"input": inputs})
    yield Forbidden("broken JSON", JSON, body[:-2])
    if "text/plain" not in (operation.body or {}):
        yield Forbidden("a body declared text/plain", "text/plain", body)


def forbidden_by_version(
    contract: Contract, operation: Operation, model: Operation
) -> Iterator[Forbidden]:
    """Forbidden creates for an operation whose body has the model in `version`."""
    inputs = valid_input(contract, model)
    bodies = {"no version": {"input": inputs}, "no input": {"version": model.model}}
    for wrong, value in bodies.items():
        if any(violation.fatal for violation in operation.check_body(JSON, value)):
            yield Forbidden(wrong, JSON, msgspec.json.encode(value))
    yield Forbidden(
        "broken JSON", JSON, msgspec.json.encode({"version": model.model, "input": inputs})[:-2]
    )


def _wrong_bodies(
    contract: Contract, operation: Operation, inputs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    yield "no input", {}
    for name in input_schema(contract, operation).get("required", []):
        yield f"no {name}", {"input": {key: value for key, value in inputs.items() if key != name}}
    for name, node in operation.input.items():
        kind = node.get("type")
        if isinstance(kind, str) and kind in _WRONG:
            yield f"{name} of another type", {"input": {**inputs, name: _WRONG[kind]}}
    for name, node in operation.input.items():
        step = 1 if node.get("type") == "integer" else 0.5
        if "minimum" in node:
            yield f"{name} below its range", {"input": {**inputs, name: node["minimum"] - step}}
        if "maximum" in node:
            yield f"{name} above its range", {"input": {**inputs, name: node["maximum"] + step}}
    for name, node in operation.input.items():
        if "enum" in node:
            yield f"{name} none of its values", {"input": {**inputs, name: "mockserver-verify"}}


def _example(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    request = contract.resolve(operation.document.get("requestBody", {}))
    media = request.get("content", {}).get(JSON, {})
    for node in (media, *media.get("examples", {}).values()):
        holder = contract.resolve(node)
        value = holder.get("example", holder.get("value"))
        if isinstance(value, Mapping) and isinstance(value.get("input"), Mapping):
            inputs: Mapping[str, Any] = value["input"]
            return inputs
    return {}


def input_schema(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    """The schema of the `input` in a create's body."""
    schema: Mapping[str, Any] = contract.resolve(body_properties(contract, operation)["input"])
    return schema


def body_properties(contract: Contract, operation: Operation) -> Mapping[str, Any]:
    """The schemas of the properties of a create's body, by name."""
    request = contract.resolve(operation.document["requestBody"])
    body = contract.resolve(request["content"][JSON]["schema"])
    properties: Mapping[str, Any] = body["properties"]
    return properties


def _sample(node: Mapping[str, Any]) -> Any:
    if "default" in node:
        return node["default"]
    if node.get("enum"):
        return node["enum"][0]
    kind = node.get("type")
    return node.get(
        "minimum", _SAMPLE[kind if isinstance(kind, str) and kind in _SAMPLE else "string"]
    )
