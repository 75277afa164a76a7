"""What is wrong with a client's request, in Replicate's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

import jsonschema_rs
import msgspec

from mockserver.json_text import MAX_SHOWN, cut, pointer_to, shorten

MAX_POINTER = 300  # characters of a pointer, whose names a client may have made up
MAX_DESCRIPTION = 500  # characters of a description
MAX_VIOLATIONS = 100  # violations reported of one request


class Violation(msgspec.Struct, frozen=True, gc=False):
    """One thing in a request that the contract does not allow.

    `pointer` is a JSON pointer into the body, or `?name`, `{name}` or `Name:` for a query
    parameter, a path parameter or a header. `kind` is Replicate's word for it (`required`, `enum`,
    `number_gte`, …). `field` is Replicate's dotted path, empty for the body as a whole. `sent` is
    what arrived, shortened; `allowed` says what would be right. A fatal one refuses the request.
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


def violations_of(
    error: jsonschema_rs.ValidationError, inputs: Iterable[str]
) -> Iterator[Violation]:
    """The violations behind one error of a body; each unknown property is one of its own.

    Unknown inputs are not fatal; unknown properties beside `input` are, as with Replicate.
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


def in_order(violations: Iterable[Violation]) -> list[Violation]:
    """Violations in Replicate's order: missing properties, unknown ones, then single fields."""
    order = {"required": 0, "additional_property_not_allowed": 1}
    return sorted(violations, key=lambda violation: order.get(violation.kind, 2))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:MAX_SHOWN], list(known), n=1)
    return f"{near[0]}, perhaps" if near else "no such property"


def violation_of(
    error: jsonschema_rs.ValidationError, pointer: str | None = None, field: str | None = None
) -> Violation:
    """The violation behind an error; of a body, unless `pointer` and `field` name a parameter."""
    kind, description, allowed = _describe(error)
    path = list(error.instance_path)
    if pointer is None:
        pointer = pointer_to(
            (*path, error.kind.as_dict()["property"]) if kind == "required" else path
        )
    return Violation(
        pointer=cut(pointer, MAX_POINTER),
        kind=kind,
        field=cut(_dotted(path), MAX_POINTER) if field is None else field,
        description=cut(description, MAX_DESCRIPTION - 1),
        sent="nothing" if kind == "required" else shorten(error.instance),
        allowed=allowed,
    )


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path))


def _describe(error: jsonschema_rs.ValidationError) -> tuple[str, str, str]:
    """Replicate's word and sentence for an error, and what would be right."""
    name, about = error.kind.name, error.kind.as_dict()
    last = str(error.instance_path[-1]) if error.instance_path else "it"
    match name:
        case "required":
            return (
                "required",
                f"{about['property']} is required",
                f"a value for {about['property']}",
            )
        case "type":
            expected = " or ".join(about["types"])
            actual = _type_name(error.instance)
            return (
                "invalid_type",
                f"Invalid type. Expected: {expected}, given: {actual}",
                f"type {expected}",
            )
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
            return (
                "pattern",
                f"Does not match pattern '{about['pattern']}'",
                f"pattern {about['pattern']}",
            )
        case "format":
            return (
                "format",
                f"Does not match format '{about['format']}'",
                f"format {about['format']}",
            )
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
