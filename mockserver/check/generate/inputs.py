"""Valid inputs of a model by the contract's schema: those at its boundaries, and a strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from mockserver.check.generate.shrink import PLAIN_TEXT
from mockserver.check.model import is_valid
from mockserver.contract.operation import Operation

FRACTION = 0.125
MAX_PROMPT = 2_000  # characters
UNICODE = (
    'Zwölf Boxkämpfer & «naïve» 山水画, مرحبا, 🦊🏔️ \t"quoted" \\ back/slash\n'
    "second line\u2028third\r\n"
    "e\u0301 \u200b\ufeff {x} %s"
)
# The smallest picture of each type that the contract allows, and a URL.
PICTURES = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC",
    "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=",
    "https://example.com/a%20picture.png?size=1024&of=cat",
)
Input = dict[str, Any]


def boundary_inputs(operation: Operation) -> Iterator[Input]:
    """The minimal input, then inputs at the boundaries.

    These have all values at their lowest or falsy, highest, or default, unusual prompts, or
    pictures.
    """
    prompt = operation.picture["prompt"]
    minimal = {prompt: _plain_prompt(operation)}
    candidates = [
        minimal,
        {**minimal, **_optional_values(operation, _lowest)},
        {**minimal, **_optional_values(operation, _highest)},
        {**minimal, **_optional_values(operation, lambda schema: schema.get("default"))},
        {**minimal, **_optional_values(operation, _fraction)},
        {prompt: UNICODE},
        {prompt: "  surrounded by blanks  "},
        {prompt: ("a very long prompt, " * 100).strip()[:MAX_PROMPT]},
        *({**minimal, name: picture} for name in _images(operation) for picture in PICTURES),
    ]
    seen = []
    for candidate in candidates:
        valid = _valid(operation, candidate)
        if valid is not None and valid not in seen:
            seen.append(valid)
            yield valid


def inputs(operation: Operation) -> st.SearchStrategy[Input]:
    """Any valid input; Hypothesis starts with the minimal one."""
    prompt = operation.picture["prompt"]
    optional = {name: _values(operation, name) for name in operation.input if name != prompt}
    candidates = st.fixed_dictionaries({prompt: _prompts(operation)}, optional=optional)
    return candidates.filter(lambda value: is_valid(operation, value))


def _plain_prompt(operation: Operation) -> str:
    """The prompt that shrinking ends with, so that cases with it are minimal."""
    least: int = operation.input[operation.picture["prompt"]].get("minLength", 1)
    return PLAIN_TEXT * max(1, least)


def _prompts(operation: Operation) -> st.SearchStrategy[str]:
    schema = operation.input[operation.picture["prompt"]]
    text = st.text(
        st.characters(exclude_categories=["Cs"]),
        min_size=max(1, schema.get("minLength", 1)),
        max_size=min(MAX_PROMPT, schema.get("maxLength", MAX_PROMPT)),
    )
    # The double would use the scenario that such a prompt names instead of the case's.
    return (st.just(_plain_prompt(operation)) | text).filter(lambda prompt: "[mock:" not in prompt)


def _values(operation: Operation, name: str) -> st.SearchStrategy[Any]:
    schema = operation.input[name]
    if name in _images(operation):
        return st.sampled_from(PICTURES)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low, high = _limits(schema)
    kind = schema.get("type")
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(low, high)
    if kind == "number":
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    if kind == "string" and "format" not in schema and "pattern" not in schema:
        return st.text(
            st.characters(exclude_categories=["Cs"]),
            min_size=schema.get("minLength", 0),
            max_size=schema.get("maxLength"),
        )
    return st.sampled_from(_examples(schema)) if _examples(schema) else st.nothing()


def _limits(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    return schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)


def _lowest(schema: Mapping[str, Any]) -> Any:
    """The lowest or a falsy value, which clients drop by `if value:`."""
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "boolean":
        return False
    return _limits(schema)[0] if kind in ("integer", "number") else None


def _highest(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][-1]
    if kind == "boolean":
        return True
    return _limits(schema)[1] if kind in ("integer", "number") else None


def _fraction(schema: Mapping[str, Any]) -> Any:
    """A number that is no whole one, and has no rounding error in binary."""
    low, high = _limits(schema)
    is_between = schema.get("type") == "number" and low <= FRACTION <= high
    return FRACTION if is_between else None


def _examples(schema: Mapping[str, Any]) -> list[Any]:
    examples = [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]
    return [value for value in examples if value is not None]


def _optional_values(operation: Operation, pick: Any) -> Input:
    picked = {
        name: pick(schema)
        for name, schema in operation.input.items()
        if name != operation.picture["prompt"]
    }
    return {
        name: value
        for name, value in picked.items()
        if value is not None and name not in _images(operation)
    }


def _images(operation: Operation) -> list[str]:
    return [name for name in operation.picture["images"] if name in operation.input]


def _valid(operation: Operation, candidate: Input) -> Input | None:
    """The candidate if it is valid, or else a valid one without one of its values, or None."""
    if is_valid(operation, candidate):
        return candidate
    for name in candidate:
        fewer = {key: value for key, value in candidate.items() if key != name}
        if is_valid(operation, fewer):
            return fewer
    return None
