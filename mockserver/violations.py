"""What is wrong with something that a client sent, in upstream's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jsonschema_rs
import msgspec

MAX_DEPTH = 200  # levels of nesting; schemas are not checked beyond 255, and Python's own limit is not far
MAX_VALUES = 100_000  # values in one JSON text: each takes memory, and time to be looked at
MAX_SHOWN = 80  # characters of a sent value that a message repeats
MAX_POINTER = 300  # characters of a pointer, whose names a client may have made up
MAX_DESCRIPTION = 500  # characters of a description
MAX_VIOLATIONS = 100  # violations that are told of one request

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_TOO_MANY = f"of more than {MAX_VALUES:,} values"


def read_json(body: bytes) -> Any:
    """Decode JSON that somebody sent. Raises ValueError, which says what the body is instead."""
    if _marks(body) > MAX_VALUES and _has_too_many_values(body):
        raise ValueError(_TOO_MANY)
    try:
        value = msgspec.json.decode(body)
    except RecursionError as reason:
        raise ValueError(_TOO_DEEP) from reason
    except (msgspec.DecodeError, ValueError) as reason:
        raise ValueError(f"not valid JSON: {reason}") from reason
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _levels(value) > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    return value


def _marks(text: bytes) -> int:
    """About as many as there are values: those in one list or object are one more than its commas."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _has_too_many_values(body: bytes) -> bool:
    """Whether a text has too many values, and not only commas within strings. It takes no time for each value."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 4 * MAX_VALUES:  # of a name and a value
        return True
    return _marks(b"".join(unescaped.split(b'"')[::2])) > MAX_VALUES


def _levels(value: object) -> int:
    levels, layer = 0, [value]
    while layer := [part for part in layer if isinstance(part, dict | list)]:
        levels += 1
        layer = [inner for part in layer for inner in (part.values() if isinstance(part, dict) else part)]
    return levels


class Violation(msgspec.Struct, frozen=True, gc=False):
    """One thing in a request that the contract does not allow.

    `pointer` is a JSON pointer into the body, or `?name`, `{name}` or `Name:` for a query parameter, a path
    parameter or a header. `kind` is upstream's word for the fault (`required`, `enum`, `number_gte`, …).
    `field` is upstream's dotted path, empty for the body as a whole. `sent` is what arrived, shortened; `allowed` what
    would have been right.
    """

    pointer: str
    kind: str
    field: str
    description: str
    sent: str
    allowed: str
    fatal: bool = True

    def as_invalid_field(self) -> dict[str, str]:
        """The violation as an item of `invalid_fields`."""
        return {
            "type": self.kind,
            "field": self.field,
            "description": self.description,
            "pointer": self.pointer,
        }


def pointer_to(path: Iterable[str | int]) -> str:
    """A path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def shorten(value: object) -> str:
    """A value as JSON, cut to what a message can carry."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


def violations_of(error: jsonschema_rs.ValidationError, inputs: Iterable[str]) -> Iterator[Violation]:
    """The faults behind one error of a body; each unknown property is one of its own.

    Unknown inputs are not fatal; unknown properties beside `input` are, as upstream.
    """
    if error.kind.name not in ("additionalProperties", "unevaluatedProperties"):
        yield violation_of(error)
        return
    known = inputs if list(error.instance_path) == ["input"] else ()
    assert isinstance(error.instance, dict)
    for name in error.kind.as_dict()["unexpected"][:MAX_VIOLATIONS]:
        yield Violation(
            pointer=cut(pointer_to((*error.instance_path, name)), MAX_POINTER),
            kind="additional_property_not_allowed",
            field=cut(_dotted(error.instance_path), MAX_POINTER),
            description=f"Additional property {cut(name, MAX_SHOWN)} is not allowed",
            sent=shorten(error.instance[name]),
            allowed=_did_you_mean(name, known),
            fatal=not error.instance_path,
        )


def in_order(found: Iterable[Violation]) -> list[Violation]:
    """Faults in the order in which upstream lists them: what is missing, what is too much, then single fields."""
    order = {"required": 0, "additional_property_not_allowed": 1}
    return sorted(found, key=lambda fault: order.get(fault.kind, 2))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:MAX_SHOWN], list(known), n=1)
    return f"{near[0]}, perhaps" if near else "no such property"


def violation_of(
    error: jsonschema_rs.ValidationError, pointer: str | None = None, field: str | None = None
) -> Violation:
    """The one fault behind an error; of a body, unless `pointer` and `field` name another place."""
    kind, description, allowed = _describe(error)
    where = list(error.instance_path)
    if pointer is None:
        pointer = pointer_to((*where, error.kind.as_dict()["property"]) if kind == "required" else where)
    return Violation(
        pointer=cut(pointer, MAX_POINTER),
        kind=kind,
        field=cut(_dotted(where), MAX_POINTER) if field is None else field,
        description=cut(description, MAX_DESCRIPTION - 1),
        sent="nothing" if kind == "required" else shorten(error.instance),
        allowed=allowed,
    )


def cut(text: str, most: int) -> str:
    """The beginning of a text, and a sign that there is more: a token may stand where it was cut."""
    return text if len(text) <= most else text[:most] + "…"


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))


def _describe(error: jsonschema_rs.ValidationError) -> tuple[str, str, str]:
    """Upstream's word and sentence for a fault, and what would be right."""
    name, about = error.kind.name, error.kind.as_dict()
    last = str(error.instance_path[-1]) if error.instance_path else "it"
    match name:
        case "required":
            return "required", f"{about['property']} is required", f"a value for {about['property']}"
        case "type":
            wanted = " or ".join(about["types"])
            given = _type_name(error.instance)
            return "invalid_type", f"Invalid type. Expected: {wanted}, given: {given}", f"type {wanted}"
        case "enum":
            options = ", ".join(msgspec.json.encode(option).decode() for option in about["options"])
            return "enum", f"{last} must be one of the following: {options}", options
        case "minimum":
            limit = f"greater than or equal to {about['limit']}"
            return "number_gte", f"Must be {limit}", limit
        case "maximum":
            limit = f"less than or equal to {about['limit']}"
            return "number_lte", f"Must be {limit}", limit
        case "pattern":
            return "pattern", f"Does not match pattern '{about['pattern']}'", f"pattern {about['pattern']}"
        case "format":
            return "format", f"Does not match format '{about['format']}'", f"format {about['format']}"
        case "minLength":
            limit = f"greater than or equal to {about['limit']}"
            return "string_gte", f"String length must be {limit}", f"length {limit}"
        case "maxLength":
            limit = f"less than or equal to {about['limit']}"
            return "string_lte", f"String length must be {limit}", f"length {limit}"
    return name, cut(error.message, 200), f"{name} {shorten(about.get('value'))}"


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), type(value).__name__)
