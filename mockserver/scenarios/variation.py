"""Legal variations of predictions: fields added, omitted, null, or in another format."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mockserver.clock import SECOND, parse_timestamp
from mockserver.contract.operation import Operation
from mockserver.scenarios.scenario import Body

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z")


def _with(name: str, part: object, value: dict[str, Any]) -> dict[str, Any]:
    return value if name in value else {**value, name: part}


def _with_total_time(value: dict[str, Any]) -> dict[str, Any]:
    """The prediction with the seconds from creation to completion in its metrics, if complete."""
    if "completed_at" not in value or "metrics" not in value:
        return value
    took = (parse_timestamp(value["completed_at"]) - parse_timestamp(value["created_at"])) / SECOND
    return {**value, "metrics": {**value["metrics"], "total_time": took}}


def _with_null(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {**value, name: None} if name in value else value


def _without(path: Sequence[str], value: dict[str, Any]) -> dict[str, Any]:
    name, *rest = path
    if not rest:
        return {key: part for key, part in value.items() if key != name}
    inner = value.get(name)
    return {**value, name: _without(rest, inner)} if isinstance(inner, dict) else value


def _with_fraction(digits: int, value: dict[str, Any]) -> dict[str, Any]:
    def rewritten(part: Any) -> Any:
        match = _TIMESTAMP.fullmatch(part) if isinstance(part, str) else None
        if match is None:
            return part
        fraction = (match[2] or "").ljust(digits, "0")[:digits]
        return f"{match[1]}.{fraction}Z" if fraction else f"{match[1]}Z"

    return {name: rewritten(part) for name, part in value.items()}


def vary(
    body: Body, operation: Operation, status: int, prediction: dict[str, Any]
) -> dict[str, Any]:
    """A prediction with those variations applied that the contract allows."""
    varied = prediction
    candidates: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        *(partial(_with, name, value) for name, value in body.extra.items()),
        *([_with_total_time] if body.total_time else []),
        *(partial(_with_null, name) for name in body.null),
        *(partial(_without, name.split(".")) for name in body.omit),
    ]
    if body.fraction is not None:
        candidates.append(partial(_with_fraction, body.fraction))

    for change in candidates:
        candidate = change(varied)
        if not operation.check_response(status, "application/json", candidate):
            varied = candidate
    return varied
