"""The contract's file, read and held against what the double needs and OpenAPI's own schema."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs

from mockserver.contract.yaml import read_yaml


def shipped_contract(name: str = "openapi.yaml") -> Path:
    """A contract that ships: inside an installed package, or beside it in a source tree."""
    here = Path(__file__).parent
    packaged = here / name
    return packaged if packaged.exists() else here.parent.parent / "contracts" / name


@cache
def own_schema() -> jsonschema_rs.Validator:
    """What the double asks of a contract beside OpenAPI itself."""
    return jsonschema_rs.validator_for(_packaged("contract.schema.yaml"))


@cache
def openapi_schema(kind: str | None = None) -> jsonschema_rs.Validator:
    """OpenAPI's own schema of a document, or of one kind of object in it."""
    schema = _packaged("openapi-3.1.schema.json")
    registry = jsonschema_rs.Registry([(schema["$id"], schema)], draft=jsonschema_rs.Draft202012)
    fragment = f"#/$defs/{kind}" if kind else ""
    return jsonschema_rs.validator_for({"$ref": schema["$id"] + fragment}, registry=registry)


@cache
def _packaged(name: str) -> Any:
    return read_yaml(resources.files("mockserver.contract").joinpath(name).read_bytes())
