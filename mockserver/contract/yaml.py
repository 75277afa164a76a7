"""YAML as JSON values: text is text, however much it looks like a date or a `yes`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import yaml

from mockserver.json_text import MAX_DEPTH, read_json

MAX_ALIASED = 100_000  # values that aliases may repeat
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_CONVERT: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: text == "true",
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "str": str,
}
# What a plain scalar is taken for, as far as it looks like JSON; anything else is text.
_PLAIN = (
    (re.compile(r"null|"), _TAG + "null"),
    (re.compile(r"true|false"), _TAG + "bool"),
    (re.compile(r"-?(?:0|[1-9][0-9]*)"), _TAG + "int"),
    (re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"), _TAG + "float"),
)


def read_yaml(source: bytes) -> Any:
    """YAML, or JSON, as JSON values. Raises yaml.YAMLError."""
    # To libyaml, which speaks YAML 1.1, U+2028 and U+2029 are line breaks: not all JSON is YAML to
    # it.
    with suppress(ValueError):
        return _read_json(source)
    builder = _Builder()
    for event in yaml.parse(source, Loader=_LOADER):
        builder.take(event)
    return builder.document


def _read_json(source: bytes) -> Any:
    """JSON whose keys each stand once. Raises ValueError; the YAML parser says what is wrong, and where."""
    value = read_json(source)
    json.loads(source, object_pairs_hook=_refuse_doubles)
    return value


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError


class _Collection:
    """A list or a mapping that has begun. `values` counts all that it holds, at any depth."""

    def __init__(self, event: yaml.CollectionStartEvent) -> None:
        self.anchor = event.anchor
        self.value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.key: str | None = None
        self.values = 1


class _Builder:
    """Builds values from the parser's events.

    An alias repeats a whole tree, which may have aliases itself: a few hundred bytes can stand for
    more than any memory holds. The trees are shared, and what they would come to is counted.
    """

    def __init__(self) -> None:
        self.document: Any = None
        self._documents = 0
        self._open: list[_Collection] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _error(event, "a second document begins here")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            self._add(ended.value, ended.values, ended.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(event)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        if self._takes_key():
            raise _error(event, "a key is text, not a list or a mapping")
        if len(self._open) == MAX_DEPTH:
            raise _error(event, f"it is nested more than {MAX_DEPTH} levels deep")
        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            raise _unknown_tag(event, event.tag)
        self._open.append(_Collection(event))

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        if self._takes_key():
            self._take_key(event, event.value)
        else:
            self._add(_scalar(event), 1, event.anchor)

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        if any(collection.anchor == event.anchor for collection in self._open):
            raise _error(event, "it holds itself, by an alias")
        if event.anchor not in self._anchors:
            raise _error(event, f"nothing is called &{str(event.anchor)[:80]}")
        value, values = self._anchors[event.anchor]
        self._aliased += values
        if self._aliased > MAX_ALIASED:
            raise _error(event, f"its aliases repeat more than {MAX_ALIASED:,} values")
        if self._takes_key():
            self._take_key(event, value)
        else:
            self._add(value, values, None)

    def _takes_key(self) -> bool:
        return (
            bool(self._open)
            and isinstance(self._open[-1].value, dict)
            and self._open[-1].key is None
        )

    def _take_key(self, event: yaml.Event, key: Any) -> None:
        if not isinstance(key, str):
            raise _error(event, "a key is text, not a list or a mapping")
        within = self._open[-1]
        if key in within.value:
            raise _error(event, f"the key {key[:80]!r} stands here twice")
        within.key = key

    def _add(self, value: Any, values: int, anchor: str | None) -> None:
        """Put a value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = (value, values)
        if not self._open:
            self.document = value
            return
        within = self._open[-1]
        within.values += values
        if isinstance(within.value, list):
            within.value.append(value)
        else:
            within.value[within.key] = value
            within.key = None


def _scalar(event: yaml.ScalarEvent) -> Any:
    tag = event.tag if event.tag not in (None, "!") else _TAG + "str"
    if event.implicit[0]:
        tag = next((tag for pattern, tag in _PLAIN if pattern.fullmatch(event.value)), _TAG + "str")
    if tag not in _CONVERT:
        raise _unknown_tag(event, tag)
    try:
        return _CONVERT[tag](event.value)
    except ValueError as reason:
        raise _error(event, str(reason)) from reason


def _unknown_tag(event: yaml.Event, tag: str) -> yaml.YAMLError:
    return _error(event, f"the tag {tag[:80]} is not known; plain JSON values are")


def _error(event: yaml.Event, reason: str) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=cast(Any, event.start_mark))
