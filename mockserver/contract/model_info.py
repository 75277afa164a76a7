"""What is told of a model: its name, an example of it, and a version with the schema of its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation

_TOLD = (
    "type",
    "default",
    "enum",
    "minimum",
    "maximum",
    "format",
    "description",
)  # of the schema of an input


def describe_model(contract: Contract, create: Operation) -> dict[str, Any]:
    """A model as upstream tells of it: the contract's example, with its own facts filled in."""
    shown = _example(contract, "model")
    owner, _, name = str(create.model).partition("/")
    url = str(shown.get("url", "")).replace(
        f"{shown.get('owner')}/{shown.get('name')}", str(create.model)
    )
    own = {"url": url, "owner": owner, "name": name, "description": create.document.get("summary")}
    own |= {
        "default_example": _default_example(contract, create),
        "latest_version": describe_version(contract, create),
    }
    return {**shown, **{key: value for key, value in own.items() if key in shown}}


def describe_version(contract: Contract, create: Operation) -> dict[str, Any] | None:
    """The version of a model, with the schema of its input; None in a contract that has no versions."""
    shown = _example(contract, "version")
    if not shown:
        return None
    document = shown["openapi_schema"]
    schemas = {**document["components"]["schemas"], "Input": _input_schema(contract, create)}
    openapi = {**document, "components": {**document["components"], "schemas": schemas}}
    return {**shown, "id": create.version, "openapi_schema": openapi}


def _input_schema(contract: Contract, create: Operation) -> dict[str, Any]:
    """The schema of a model's input, as Cog writes it: only what clients read, in the contract's order."""
    properties = {
        name: {
            **{key: schema[key] for key in _TOLD if key in schema},
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
    """The names of the inputs that a model cannot do without."""
    media = contract.resolve(create.document["requestBody"])["content"]["application/json"]
    given = contract.resolve(contract.resolve(media["schema"])["properties"]["input"])
    return list(given.get("required", []))


def _default_example(contract: Contract, create: Operation) -> dict[str, Any] | None:
    """A prediction of a model: the contract's example of success, with the input of its example of a request."""
    shown = contract.templates.get("succeeded")
    media = contract.resolve(create.document["requestBody"])["content"]["application/json"]
    given = [
        contract.resolve(example)["value"]["input"]
        for example in media.get("examples", {}).values()
    ]
    return {**shown, "model": create.model, "input": given[0]} if shown and given else None


def _example(contract: Contract, role: str) -> Mapping[str, Any]:
    """The contract's example of what a role answers; empty if there is none."""
    found = [contract.example(operation) for operation in contract.of_role(role)]
    return found[0][2] if found and found[0] else {}
