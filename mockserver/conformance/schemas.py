"""The properties of a value that are not in the contract's schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from mockserver.contract.contract import Contract
from mockserver.json_text import pointer_to

MAX_ITEMS = 200  # of a list that are examined
MAX_UNKNOWN = 20  # properties of one value that are returned
MAX_NESTING = 12  # levels of a value that are examined

_APPLICATORS = ("allOf", "anyOf", "oneOf")
_CONDITIONALS = ("if", "then", "else")


class Shape:
    """The properties and items that several schemas together have for a value.

    The shapes of nested values are built when they are needed.
    """

    def __init__(self, contract: Contract, schemas: list[object]) -> None:
        self._contract = contract
        self._parts = [part for schema in schemas for part in _parts(contract, schema, MAX_NESTING)]
        self._inner: dict[str, Shape] = {}
        self._known = {name for part in self._parts for name in part.get("properties", {})}
        self._takes_anything = not self._parts or any(map(_takes_anything, self._parts))

    def unknown(self, value: object) -> list[str]:
        """JSON pointers to properties that no schema has, even if they allow any property."""
        return list(islice(self._unknown(value, "", MAX_NESTING), MAX_UNKNOWN))

    def _unknown(self, value: object, place: str, levels: int) -> Iterator[str]:
        if not levels:
            return
        if isinstance(value, list):
            items = self._of_items()
            for number, item in enumerate(value[:MAX_ITEMS]):
                yield from items._unknown(item, f"{place}/{number}", levels - 1)
        elif isinstance(value, dict) and not self._takes_anything:
            for name, inner in value.items():
                if name not in self._known:
                    yield place + pointer_to((name,))
                elif isinstance(inner, dict | list):
                    yield from self._of_property(name)._unknown(
                        inner, place + pointer_to((name,)), levels - 1
                    )

    def _of_property(self, name: str) -> Shape:
        if name not in self._inner:
            nodes = [
                part["properties"][name]
                for part in self._parts
                if name in part.get("properties", {})
            ]
            self._inner[name] = Shape(self._contract, nodes)
        return self._inner[name]

    def _of_items(self) -> Shape:
        if "/" not in self._inner:
            self._inner["/"] = Shape(
                self._contract, [part["items"] for part in self._parts if "items" in part]
            )
        return self._inner["/"]


@lru_cache(512)
def shape_of(contract: Contract, operation: str, status: int, media_type: str) -> Shape:
    """The shape of a response body of an operation."""
    response = contract.resolve(contract.by_id[operation].document["responses"][str(status)])
    media = {name.lower(): node for name, node in response["content"].items()}
    return Shape(contract, [media[media_type].get("schema", True)])


def _parts(contract: Contract, schema: object, levels: int) -> Iterator[Mapping[str, Any]]:
    """A schema, and the schemas that it combines."""
    node = contract.resolve(schema)
    if not isinstance(node, Mapping) or not levels:
        return
    yield node
    inner = [part for name in _APPLICATORS for part in node.get(name, [])]
    for part in [*inner, *(node[name] for name in _CONDITIONALS if name in node)]:
        yield from _parts(contract, part, levels - 1)


def _takes_anything(part: Mapping[str, Any]) -> bool:
    """Whether a schema declares an object without its properties."""
    if part.get("additionalProperties") not in (None, False):
        return True
    declared = part.get("type") == "object" or (
        isinstance(part.get("type"), list) and "object" in part["type"]
    )
    return declared and not part.keys() & {"properties", *_APPLICATORS}
