"""JSON from outside: decoded within bounds, pointed into, and shortened for messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

# Levels of nesting: validators of schemas stop at 255, and Python's own limit is not far.
MAX_DEPTH = 200
MAX_VALUES = 100_000  # in one JSON text: each takes memory, and time to be checked
MAX_SHOWN = 80  # characters of a sent value that a message repeats
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_TOO_MANY = f"of more than {MAX_VALUES:,} values"


def read_json(body: bytes) -> Any:
    """Decode JSON from outside. Raises ValueError, which says what the text is instead."""
    # A text has no more values, and no more levels, than bytes: short ones need not be counted.
    if len(body) > MAX_VALUES and _marks(body) > MAX_VALUES and _has_too_many_values(body):
        raise ValueError(_TOO_MANY)
    try:
        value = msgspec.json.decode(body)
    except RecursionError as reason:
        raise ValueError(_TOO_DEEP) from reason
    except (msgspec.DecodeError, ValueError) as reason:
        raise ValueError(f"not valid JSON: {reason}") from reason
    brackets = body.count(b"[") + body.count(b"{") if len(body) > MAX_DEPTH else 0
    if brackets > MAX_DEPTH and levels(value) > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    return value


def _marks(text: bytes) -> int:
    """About the number of values: a list or an object has one more than commas."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _has_too_many_values(body: bytes) -> bool:
    """Whether a text has too many values, and not only commas within strings.

    It takes no step for each value, which would be slow where there are millions.
    """
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 4 * MAX_VALUES:  # more than a name and a value each
        return True
    return _marks(b"".join(unescaped.split(b'"')[::2])) > MAX_VALUES


def levels(value: object) -> int:
    """How many levels deep lists and objects are nested in a value."""
    depth, layer = 0, [value]
    while layer := [part for part in layer if isinstance(part, dict | list)]:
        depth += 1
        layer = [
            inner for part in layer for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return depth


def pointer_to(path: Iterable[str | int]) -> str:
    """A path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def shorten(value: object) -> str:
    """A value as JSON, cut to the length that a message can have."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def cut(text: str, most: int) -> str:
    """The beginning of a text; an ellipsis tells that there is more.

    `redacted` looks there for the beginning of a token.
    """
    return text if len(text) <= most else text[:most] + "…"
