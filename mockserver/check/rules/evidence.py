"""Questions about exchanges and outcomes that several rules ask."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from mockserver.backend.journal import MAX_RECORDED_BODY, Exchange
from mockserver.check.model import Run, served_whole, shows_output, without_other_tokens
from mockserver.clock import SECOND
from mockserver.json_text import read_json, shorten
from mockserver.scenarios.timeline import TERMINAL

# Statuses after which a create must not be repeated.
FINAL_FOR_CREATE = frozenset({400, 401, 402, 403, 422})
TOO_SOON = 2.0  # seconds; no client's own timeout for a picture is that short


def in_lasting_outage(exchange: Exchange) -> bool:
    """Whether the exchange failed because of a fault that never ends.

    That is a 404, a 429, a 5xx, a spoilt body or no response.
    """
    fault = exchange.fault
    if fault is None or fault.times != "always" or fault.chance is not None:
        return False
    spoiled = fault.body is not None or fault.cut is not None
    return exchange.status in (0, 404) or exchange.status >= 429 or spoiled


def earliest_retry(exchange: Exchange) -> int | None:
    """The time until which a Retry-After forbids a request, in nanoseconds since the epoch."""
    fault = exchange.fault
    if fault is None:
        return None
    if fault.retry_after_date is not None:
        # An HTTP-date has whole seconds, and the double rounds up.
        return math.ceil(exchange.received_at / SECOND + fault.retry_after_date) * SECOND
    seconds = fault.retry_after
    if not isinstance(seconds, int | float):
        return None
    return exchange.received_at + round(seconds * SECOND)


def answered_at(exchange: Exchange) -> int:
    """When the response was sent, in nanoseconds since the epoch.

    Requests that were sent earlier could not take it into account.
    """
    return exchange.received_at + exchange.response.took


def retry_after_exceeds_deadline(run: Run) -> bool:
    """Whether the last response has a Retry-After that ends after the run's deadline."""
    due = earliest_retry(run.exchanges[-1]) if run.exchanges else None
    return due is not None and due > run.exchanges[0].received_at + run.timeout * SECOND


def has_unreadable_retry_after(exchange: Exchange) -> bool:
    """Whether the exchange's Retry-After was neither seconds nor a date."""
    return exchange.fault is not None and isinstance(exchange.fault.retry_after, str)


def needs_control(run: Run) -> bool:
    """Whether a run failed, and a control without its variety could tell whether that is why."""
    if run.outcome.kind == "returned" or run.cut_off:
        return False
    return (
        run.has_no_fault if run.has_variety else any(map(has_unreadable_retry_after, run.exchanges))
    )


def sent_nothing(run: Run) -> bool:
    """Whether a single call raised before it sent anything."""
    return (
        run.outcome.kind == "raised"
        and not run.exchanges
        and run.case.concurrent == 1
        and not run.other_outputs
    )


def needs_comparison_alone(run: Run) -> bool:
    """Whether one of several calls failed, and only the other calls can be the reason."""
    usual = run.has_no_fault and not run.has_variety and run.last_status == "succeeded"
    return run.case.concurrent > 1 and usual and run.outcome.kind != "returned" and not run.cut_off


def returned_another_calls_output(run: Run) -> bool:
    """Whether a call returned the picture of a concurrent call."""
    value = single_value(run.outcome.value)
    return (
        run.outcome.kind == "returned"
        and isinstance(value, str | bytes)
        and value in run.other_outputs
    )


def forged_indexes(run: Run) -> list[int]:
    """The indexes of the webhooks that were not genuine."""
    return [
        index
        for index, exchange in enumerate(run.exchanges)
        if exchange.arrived_at == "receiver" and not exchange.committed
    ]


def believed_forgery(run: Run) -> bool:
    """Whether a call returned the output of a forged webhook, even if a genuine one followed."""
    value = single_value(run.outcome.value)
    forged = {body_sent(run.exchanges[index]).get("output") for index in forged_indexes(run)}
    return (
        run.outcome.kind == "returned" and isinstance(value, str) and value in forged - run.outputs
    )


def meant_for_api(run: Run, exchange: Exchange) -> bool:
    """Whether a request that matches no operation was meant for one.

    It was if it has the API's path prefix, or lacks nothing else.
    """
    root = "/".join(run.operation.path.split("/")[:2]) + "/"
    if exchange.path.startswith(root):
        return True
    return any(
        operation.ends_like(exchange.path)
        for operation in run.contract.operations
        if not operation.public
    )


def refusal_detail(exchange: Exchange) -> str:
    """The `detail` of an error body, as the end of a sentence."""
    try:
        error = read_json(exchange.response.body)
    except ValueError:
        return "."
    detail = error.get("detail") if isinstance(error, dict) else None
    return f": {detail}" if isinstance(detail, str) else "."


def body_sent(exchange: Exchange) -> dict[str, Any]:
    """The JSON object in a request; empty if there is none, or if the journal has only a part."""
    try:
        body = (
            read_json(exchange.request.body)
            if exchange.request.body_size <= MAX_RECORDED_BODY
            else {}
        )
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def comparable(value: Any) -> Any:
    """A JSON value that compares as in JSON, where 1 equals 1.0 but not `true`."""
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [comparable(part) for part in value]
    return (isinstance(value, bool), value)


def headers_of(exchange: Exchange) -> Iterable[tuple[str, str]]:
    """The request's headers as text, names in lower case."""
    return [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in exchange.request.headers
    ]


def without_token(run: Run, text: str) -> str:
    """A text for a message, without the run's token."""
    return shorten(without_other_tokens(text, run.token).replace(run.token, "<token>"))


def operation_of_exchange(run: Run, exchange: Exchange) -> str:
    """The operation of an exchange, by the name that scenarios use."""
    operation = run.contract.by_id.get(exchange.operation_id or "")
    return operation.family if operation is not None else f"{exchange.method} elsewhere"


def prefer_wait_timed_out(run: Run, *, limited: bool = True) -> bool:
    """Whether a create with `Prefer: wait` returned while the prediction was still running.

    Without `limited`, creates with a limit such as `wait=5` do not count.
    """
    return any(
        served_whole(create)
        and create.prediction_status not in TERMINAL
        and not shows_output(create)
        for _, create in run.of_role("create")
        if any(
            name == "prefer" and (value == "wait" or (limited and value.startswith("wait")))
            for name, value in ((name, value.strip().lower()) for name, value in headers_of(create))
        )
    )


def polls_to_the_end(run: Run) -> int:
    """The number of reads until the prediction has ended, if more than usual, else 0."""
    steps = run.scenario.lifecycle[:-1]
    return sum(step.polls for step in steps) if any(step.polls > 1 for step in steps) else 0


def showed_output(run: Run, indexes: Iterable[int]) -> bool:
    """Whether any of these responses to a succeeded prediction had its output, which may expire."""
    return any(
        run.role(run.exchanges[index]) == "stream" or shows_output(run.exchanges[index])
        for index in indexes
    )


def gave_up_at_once(run: Run) -> bool:
    """Whether a client raised without a failure, and sooner than any timeout could explain."""
    took = run.seconds - run.started_after  # the time to start the client does not count
    within_timeout = run.client_timeout is None or took < run.client_timeout * 0.8
    if prefer_wait_timed_out(run):
        return False  # it has waited as long as the gateway lets it, in the tenant's time

    nothing_unusual = (
        run.case.clock == "autojump"
        and run.scenario.urls in (None, "local")
        and not polls_to_the_end(run)
    )
    all_served = all(
        served_whole(exchange) for _, exchange in (*run.of_role("create"), *run.of_role("get"))
    )
    return nothing_unusual and all_served and within_timeout and took < TOO_SOON


def terminal_status(run: Run, index: int) -> str:
    """The terminal status in a response. The journal has none for the end of a stream."""
    return run.exchanges[index].prediction_status or run.last_status


def reason_given(run: Run) -> str:
    """The last line of the client's error message, without the token."""
    lines = run.outcome.message.replace(run.token, "<token>").strip().splitlines()
    return lines[-1][:200] if lines else "no reason given"


def single_value(value: Any) -> Any:
    """The value; the item of a list with one item, None for an empty list.

    A data URI is decoded to its bytes.
    """
    if isinstance(value, list | tuple) and len(value) <= 1:
        value = value[0] if value else None
    if isinstance(value, str) and value.startswith("data:"):
        try:
            return b64decode(value.partition(",")[2], validate=True)
        except ValueError:
            return value
    return value


def display(value: Any) -> str:
    """A returned value for a message. A Python client may return values that are not JSON."""
    try:
        return shorten(value)
    except (TypeError, ValueError):
        return f"a {type(value).__name__}"
