"""The description of a model: its name, an example, and its version with the input schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation

# The keywords of an input's schema that are shown.
_SHOWN = ("type", "default", "enum", "minimum", "maximum", "format", "description")


def describe_model(contract: Contract, create: Operation) -> dict[str, Any]:
    """A model as Replicate describes it: the contract's example, with the model's own facts."""
    example = _example(contract, "model")
    owner, _, name = str(create.model).partition("/")
    example_name = f"{example.get('owner')}/{example.get('name')}"
    url = str(example.get("url", "")).replace(example_name, str(create.model))
    own = {"url": url, "owner": owner, "name": name, "description": create.document.get("summary")}
    own |= {
        "default_example": _default_example(contract, create),
        "latest_version": describe_version(contract, create),
    }
    return {**example, **{key: value for key, value in own.items() if key in example}}


def describe_version(contract: Contract, create: Operation) -> dict[str, Any] | None:
    """A model's version, with the schema of its input; None if the contract has no versions."""
    example = _example(contract, "version")
    if not example:
        return None
    document = example["openapi_schema"]
    schemas = {**document["components"]["schemas"], "Input": _input_schema(contract, create)}
    openapi = {**document, "components": {**document["components"], "schemas": schemas}}
    return {**example, "id": create.version, "openapi_schema": openapi}


def _input_schema(contract: Contract, create: Operation) -> dict[str, Any]:
    """The schema of a model's input, as Cog writes it: what clients read, in order."""
    properties = {
        name: {
            **{key: schema[key] for key in _SHOWN if key in schema},
            "title": name.replace("_", " ").title(),
            "x-order": number,
        }
        for number, (name, schema) in enumerate(create.input.items())
    }
    return {
        "type": "object",
        "title": "Input",
        "required": _required(contract, create),
        "properties": properties,
    }


def _required(contract: Contract, create: Operation) -> list[str]:
    """The names of the inputs that a model requires."""
    media = contract.resolve(create.document["requestBody"])["content"]["application/json"]
    schema = contract.resolve(contract.resolve(media["schema"])["properties"]["input"])
    return list(schema.get("required", []))


def _default_example(contract: Contract, create: Operation) -> dict[str, Any] | None:
    """A prediction of a model: the contract's succeeded one, with an example's input."""
    example = contract.templates.get("succeeded")
    media = contract.resolve(create.document["requestBody"])["content"]["application/json"]
    inputs = [
        contract.resolve(request)["value"]["input"]
        for request in media.get("examples", {}).values()
    ]
    if not example or not inputs:
        return None
    return {**example, "model": create.model, "input": inputs[0]}


def _example(contract: Contract, role: str) -> Mapping[str, Any]:
    """The contract's example of a role's response; empty if there is none."""
    examples = [contract.example(operation) for operation in contract.of_role(role)]
    return examples[0][2] if examples and examples[0] else {}
