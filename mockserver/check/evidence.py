"""What the exchanges of a run show, for the rules to judge."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from mockserver.check.cases import Run, served, shows_output
from mockserver.clock import SECOND
from mockserver.journal import MAX_RECORDED_BODY, Exchange
from mockserver.violations import read_json, shorten

TOO_SOON = 2.0  # seconds; nobody can have waited for a picture in so short a time


def retry_allowed_at(exchange: Exchange) -> int | None:
    """The instant before which a Retry-After forbids the next request, in nanoseconds since the epoch."""
    fault = exchange.fault or {}
    if "retry_after_date" in fault:
        return math.ceil(exchange.received_at / SECOND + float(fault["retry_after_date"])) * SECOND
    asked = fault.get("retry_after")
    return exchange.received_at + round(asked * SECOND) if isinstance(asked, int | float) else None


def has_unreadable_retry_after(exchange: Exchange) -> bool:
    """Whether a Retry-After came that is neither a number nor a date."""
    return isinstance((exchange.fault or {}).get("retry_after"), str)


def is_meant_for_api(run: Run, exchange: Exchange) -> bool:
    """Whether a request without an operation was meant for one: under the API's prefix, or but for the prefix."""
    root = "/".join(run.operation.path.split("/")[:2]) + "/"
    if exchange.path.startswith(root):
        return True
    return any(operation.ends_like(exchange.path) for operation in run.contract.operations if not operation.public)


def refusal_of(exchange: Exchange) -> str:
    """What a refusal says, as the end of a sentence."""
    try:
        said = read_json(exchange.response_body)
    except ValueError:
        return "."
    detail = said.get("detail") if isinstance(said, dict) else None
    return f": {detail}" if isinstance(detail, str) else "."


def input_of(exchange: Exchange) -> dict[str, Any] | None:
    """The input that a create sent; None if it is too long to have been kept, or none."""
    if exchange.body_size > MAX_RECORDED_BODY:
        return None
    try:
        given = read_json(exchange.body)["input"]
    except (ValueError, LookupError, TypeError):
        return None
    return given if isinstance(given, dict) else None


def exact(value: Any) -> Any:
    """A JSON value so that true is not 1, while 1 is 1.0."""
    if isinstance(value, dict):
        return {name: exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [exact(part) for part in value]
    return (isinstance(value, bool), value)


def headers_of(exchange: Exchange) -> Iterable[tuple[str, str]]:
    """The headers of a request, their names in lower case."""
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in exchange.headers]


def without_token(run: Run, text: str) -> str:
    """A text, shortened, that does not show the token."""
    return shorten(text.replace(run.token, "<token>"))


def has_output(run: Run, told: Iterable[int]) -> bool:
    """Whether an answer that told of success showed the output, and not that it had expired."""
    return any(run.role(run.exchanges[index]) == "stream" or shows_output(run.exchanges[index]) for index in told)


def gave_up_too_soon(run: Run) -> bool:
    """Whether a client raised too soon to have lost its patience with a prediction."""
    patient = run.client_timeout is None or run.seconds < run.client_timeout * 0.8
    usual = run.case.clock == "autojump" and run.scenario.urls in (None, "local")
    well = all(served(exchange) for _, exchange in (*run.of_role("create"), *run.of_role("get")))
    return usual and well and patient and run.seconds < TOO_SOON


def status_at(run: Run, index: int) -> str:
    """The status that a client was told in an exchange."""
    return run.exchanges[index].prediction_status or run.end


def last_words(run: Run) -> str:
    """The last line of what a client raised."""
    said = run.outcome.message.replace(run.token, "<token>").strip().splitlines()
    return said[-1][:200] if said else "no reason given"


def single(value: Any) -> Any:
    """The value; of a list of one, the one. A data URI stands for its bytes."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.startswith("data:"):
        try:
            return b64decode(value.partition(",")[2], validate=True)
        except ValueError:
            return value
    return value


def as_text(value: Any) -> str:
    """A value as a message can show it."""
    try:
        return shorten(value)
    except TypeError:
        return f"a {type(value).__name__}"
