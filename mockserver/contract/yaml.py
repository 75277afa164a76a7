"""YAML as JSON values: text is text, however much it looks like a date or a `yes`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
import yaml

from mockserver.json_text import MAX_DEPTH, levels

MAX_ALIASED = 100_000  # values that aliases may repeat
_TAG = "tag:yaml.org,2002:"
_CONVERT: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: text == "true",
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "str": str,
}
# What a plain scalar is, as far as it looks like JSON; anything else is text.
_PLAIN = [
    (_TAG + "null", re.compile(r"(null|)\Z")),
    (_TAG + "bool", re.compile(r"(true|false)\Z")),
    (_TAG + "int", re.compile(r"-?(0|[1-9][0-9]*)\Z")),
    (_TAG + "float", re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")),
]
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the latter without libyaml


def read_yaml(source: bytes) -> Any:
    """YAML, or JSON, as JSON values. Raises yaml.YAMLError."""
    # To libyaml, which speaks YAML 1.1, U+2028 and U+2029 are line breaks: not all JSON is YAML to
    # it. It is slower, too, but it says where a mistake is.
    with suppress(msgspec.DecodeError, ValueError, RecursionError):
        return _read_json(source)

    loader = _JsonLoader(source)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _read_json(source: bytes) -> Any:
    """JSON of any size, not too deep, without duplicate keys. Raises ValueError, RecursionError."""
    value = msgspec.json.decode(source)
    json.loads(source, object_pairs_hook=_refuse_duplicates)
    if levels(value) > MAX_DEPTH:
        raise ValueError
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError


class _JsonLoader(_BaseLoader):  # type: ignore[misc]
    """PyYAML's loader, but plain scalars are what JSON takes them for, and keys are text.

    An alias repeats a whole tree, which may have aliases itself: a few hundred bytes can stand for
    more than any memory holds. PyYAML shares the trees; the values that they repeat are counted.
    """

    yaml_implicit_resolvers: ClassVar = {None: _PLAIN}  # None: whatever a scalar begins with

    def __init__(self, source: bytes) -> None:
        super().__init__(source)
        self._depth = 0
        self._values = 0  # constructed or repeated so far
        self._repeated = 0
        self._sizes: dict[yaml.Node, int] = {}  # the values in a node, at any depth

    # The composer, which is recursive and in C, calls these two around each node. Without a limit
    # here deep nesting would overflow the stack.
    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        self._depth += 1
        if parent is not None and self._depth > MAX_DEPTH + 1:
            raise _error(parent, f"it is nested more than {MAX_DEPTH} levels deep")

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node in self.recursive_objects:
            raise _error(node, "it holds itself, by an alias")

        if node in self.constructed_objects:
            self._values += self._sizes[node]
            self._repeated += self._sizes[node]
            if self._repeated > MAX_ALIASED:
                raise _error(node, f"its aliases repeat more than {MAX_ALIASED:,} values")
            return self.constructed_objects[node]

        before = self._values
        value = super().construct_object(node, deep=True)
        self._values += 1
        self._sizes[node] = self._values - before
        return value

    def construct_json_scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return _CONVERT[node.tag](self.construct_scalar(node))
        except ValueError as reason:
            raise _error(node, str(reason)) from reason

    def construct_json_object(self, node: yaml.MappingNode) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "a key is text, not a list or a mapping")
            if key.value in value:
                raise _error(key, f"the key {key.value[:80]!r} stands here twice")
            value[key.value] = self.construct_object(item)
        return value

    def construct_unknown(self, node: yaml.Node) -> Any:
        raise _error(node, f"the tag {node.tag[:80]} is not known; plain JSON values are")

    # In place of PyYAML's own, which include dates, sets and binary data.
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **dict.fromkeys(_CONVERT, construct_json_scalar),
        _TAG + "seq": _BaseLoader.construct_sequence,
        _TAG + "map": construct_json_object,
        None: construct_unknown,
    }


def _error(node: yaml.Node, reason: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=node.start_mark)
