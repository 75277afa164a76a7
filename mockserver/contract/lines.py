"""The lines of the contract's file that violations are about."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.json_text import pointer_to

_APPLICATORS = ("allOf", "anyOf", "oneOf")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def line_of_violation(contract: Contract, operation: Operation, pointer: str) -> int | None:
    """The line of the contract that a violation is about, or the nearest one around it."""
    own = pointer_to(("paths", operation.path, operation.method.lower()))
    if not pointer.startswith("/"):
        return line_of(contract, _parameter(contract, own, pointer.strip("?{}:").lower()) or own)

    place = _followed(contract, own + "/requestBody") + "/content/application~1json/schema"
    for part in pointer.split("/")[1:]:
        inner = _property(contract, place, part)
        if inner is None:
            break
        place = inner
    return line_of(contract, place)


def _parameter(contract: Contract, own: str, name: str) -> str | None:
    for owner in (own, own.rpartition("/")[0]):
        for number in range(len(_node(contract, owner).get("parameters", []))):
            place = _followed(contract, f"{owner}/parameters/{number}")
            if str(_node(contract, place).get("name", "")).lower() == name:
                return place
    return None


def _property(contract: Contract, place: str, part: str) -> str | None:
    """The place of a property of a schema, or of one of the schemas that it is composed of."""
    place = _followed(contract, place)
    node = _node(contract, place)
    if part.replace("~1", "/").replace("~0", "~") not in _mapping(node.get("properties")):
        parts = (
            f"{place}/{word}/{number}"
            for word in _APPLICATORS
            for number in range(len(node.get(word, [])))
        )
        return next(filter(None, (_property(contract, inner, part) for inner in parts)), None)
    return f"{place}/properties/{part}"


def _followed(contract: Contract, place: str) -> str:
    """The place that a reference at a place leads to."""
    for _ in range(20):  # references may form a cycle
        reference = _node(contract, place).get("$ref")
        if not isinstance(reference, str):
            break
        place = reference.removeprefix("#")
    return place


def _node(contract: Contract, place: str) -> Mapping[str, Any]:
    node: Any = contract.document
    for part in place.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        node = node[int(name)] if isinstance(node, list) else _mapping(node).get(name)
    return _mapping(node)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def line_of(contract: Contract, pointer: str) -> int | None:
    """The line, from 1, that a JSON pointer leads to, or its longest prefix that exists."""
    return _lines(contract.source).get(_nearest(_lines(contract.source), pointer))


def _nearest(lines: Mapping[str, int], pointer: str) -> str:
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return pointer


@lru_cache(4)
def _lines(source: bytes) -> dict[str, int]:
    """The line of each place in a file, by JSON pointer; the first, for what aliases repeat."""
    try:
        root = yaml.compose(source.decode(), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}

    lines: dict[str, int] = {}
    open_nodes: list[tuple[str, Any]] = [("", root)] if root is not None else []
    while open_nodes and len(lines) < 100_000:
        place, node = open_nodes.pop()
        lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = place + pointer_to((str(key.value),))
                lines.setdefault(inner, key.start_mark.line + 1)
                open_nodes.append((inner, value))
        elif isinstance(node, yaml.SequenceNode):
            open_nodes += [(f"{place}/{number}", value) for number, value in enumerate(node.value)]
    return lines
