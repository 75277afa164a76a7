"""The contract of the admin API, contracts/admin.yaml: what is served, and what bodies are held against."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema_rs

from mockserver.contract.loader import shipped_contract
from mockserver.contract.yaml import read_yaml


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = read_yaml(shipped_contract("admin.yaml").read_bytes())
    return document


@cache
def body_validator(name: str) -> jsonschema_rs.Validator:
    """What checks a body against the schema of that name."""
    return jsonschema_rs.validator_for(_document()["components"]["schemas"][name])


def document_with(scenario_schema: dict[str, Any], scenario_names: list[str]) -> dict[str, Any]:
    """The OpenAPI document, with the schema and the names of scenarios in their places."""
    document = _document()
    components = document["components"]
    moved = _moved({name: part for name, part in scenario_schema.items() if name not in ("$schema", "$defs")})
    named = {**components["schemas"]["ScenarioName"], "enum": scenario_names}
    schemas = {**components["schemas"], "Scenario": moved, "ScenarioName": named}
    for name, part in scenario_schema["$defs"].items():
        schemas[name.capitalize()] = _moved(part)
    return {**document, "components": {**components, "schemas": schemas}}


def _moved(value: Any) -> Any:
    """A schema whose references into its own `$defs` lead to the document's components."""
    if isinstance(value, dict):
        return {
            name: "#/components/schemas/" + part.rpartition("/")[2].capitalize() if name == "$ref" else _moved(part)
            for name, part in value.items()
        }
    return [_moved(part) for part in value] if isinstance(value, list) else value
