"""Creates that the contract forbids, drawn by Schemathesis: what nobody thought of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import msgspec

from mockserver.conformance.inputs import JSON, Forbidden, body_properties, input_schema
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import MockServerError
from mockserver.json_text import read_json

MAX_BODY = 16 * 1024  # bytes
ROUNDS = 10  # of drawing; after these, that there are no more is believed


def drawn_creates(contract: Contract, operation: Operation, count: int) -> list[Forbidden]:
    """Up to so many creates that the contract forbids, drawn from a fixed seed. Raises MockServerError.

    None names a webhook or a picture, which a gateway that takes it would call or fetch.
    """
    found: dict[bytes, Forbidden] = {}
    for number in range(ROUNDS if count else 0):
        for body in _bodies(contract, operation, number, 2 * count):
            if (
                len(found) < count
                and body not in found
                and _is_forbidden(contract, operation, body)
            ):
                found[body] = Forbidden(f"drawn {len(found) + 1}", JSON, body)
        if len(found) == count:
            break
    return list(found.values())


def _is_forbidden(contract: Contract, operation: Operation, body: bytes) -> bool:
    """Whether the contract forbids a body, and whoever takes it all the same has nobody else to ask."""
    try:
        value = read_json(body)
    except ValueError:
        return True
    if isinstance(value, dict):
        others = body_properties(contract, operation).keys() - {"input"}
        given = value.get("input")
        if value.keys() & others or (isinstance(given, dict) and given.keys() & operation.images):
            return False
    return any(violation.fatal for violation in operation.check_body(JSON, value))


def _bodies(contract: Contract, operation: Operation, seed: int, count: int) -> Iterator[bytes]:
    if find_spec("schemathesis") is None:
        raise MockServerError("--fuzz needs Schemathesis: pip install 'flux-mockserver[fuzz]'")
    import hypothesis
    import schemathesis

    document = _document(contract, operation)
    strategy = schemathesis.openapi.from_dict(document)[operation.path]["POST"].as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )
    drawn: list[Any] = []
    settings = hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(seed)(
        settings(hypothesis.given(strategy)(lambda case: drawn.append(case.body)))
    )()
    for value in drawn:
        try:
            body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError):
            continue  # nothing that JSON can say
        if len(body) <= MAX_BODY:
            yield body


def _document(contract: Contract, operation: Operation) -> dict[str, Any]:
    """An OpenAPI document of the create alone, in which neither webhooks nor pictures can be named."""
    inputs = {
        name: _inlined(contract, node)
        for name, node in operation.input.items()
        if name not in operation.images
    }
    needed = [
        name for name in input_schema(contract, operation).get("required", []) if name in inputs
    ]
    given = {
        "type": "object",
        "properties": inputs,
        "required": needed,
        "additionalProperties": False,
    }
    body = {
        "type": "object",
        "properties": {"input": given},
        "required": ["input"],
        "additionalProperties": False,
    }
    create = {
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {"200": {"description": "The prediction."}},
    }
    info = {"title": "creates", "version": "1"}
    return {"openapi": "3.1.0", "info": info, "paths": {operation.path: {"post": create}}}


def _inlined(contract: Contract, node: Any) -> Any:
    """A schema with its references followed."""
    node = contract.resolve(node)
    if isinstance(node, Mapping):
        return {
            name: _inlined(contract, part)
            for name, part in node.items()
            if not name.startswith("x-")
        }
    return [_inlined(contract, part) for part in node] if isinstance(node, list) else node
