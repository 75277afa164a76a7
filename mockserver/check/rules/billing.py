"""MC2xx: the predictions that a client pays for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mockserver.check.model import Run, served_whole
from mockserver.check.rules.evidence import headers_of, operation_of_exchange, prefer_wait_timed_out
from mockserver.check.rules.rule import Observation, rule
from mockserver.scenarios.timeline import TERMINAL


@rule(
    "MC201",
    "double billing",
    rests_on="money; the contract has no idempotency key for creates",
    demand=(
        "One call creates at most one prediction. A client may repeat a create that was rejected "
        "before it took effect, but not one whose response was lost."
    ),
    example="The response to a create is lost, and the client sends the create again.",
    fix=(
        "Retry a create only if it cannot have taken effect: after a 429, a 503 or a refused "
        "connection. After a lost response, raise, or look for the prediction in the list."
    ),
)
def _double_billing(run: Run) -> Iterator[Observation]:
    paid = run.billed_indexes
    for before, again in pairwise(paid):
        identifiers = tuple(run.exchanges[index].prediction_id or "" for index in paid)
        yield Observation(
            f"One call created {len(paid)} predictions.",
            tuple(paid[1:]),
            cause=_reason_to_create_again(run, before, again),
            words=identifiers,
        )


def _reason_to_create_again(run: Run, before: int, again: int) -> tuple[str, ...]:
    """The operation and kind of the last failure between two creates, if there is one."""
    failed = [
        exchange
        for exchange in run.exchanges[before:again]
        if exchange.fault is not None or exchange.status >= 400
    ]
    if not failed:
        return ("nothing",)

    last = failed[-1]
    how = "error" if last.status >= 400 else "no response" if not last.status else "spoilt response"
    return (operation_of_exchange(run, last), how)


@rule(
    "MC202",
    "gives up without canceling",
    severity="warning",
    rests_on="money; a prediction keeps running, and is billed, when nobody waits for it",
    demand=(
        "A client that gives up on a running prediction cancels it, or has sent Cancel-After with "
        "the create. This applies to clients that declare a timeout, and to those whose `Prefer: "
        "wait` ended while the prediction was still running."
    ),
    example="The client's own timeout expires, and it leaves the prediction running.",
    fix=(
        "When giving up, send `POST …/predictions/{id}/cancel`, or send `Cancel-After` with the "
        "create."
    ),
)
def _no_cancel(run: Run) -> Iterator[Observation]:
    if run.outcome.kind != "raised" or run.cut_off or run.end_indexes:
        return
    still_runs = run.has_no_fault and prefer_wait_timed_out(run)
    if run.client_timeout is None and not still_runs:
        return  # a client that raised may not know that the prediction is still running
    known = [
        (index, exchange) for index, exchange in run.of_role("create") if served_whole(exchange)
    ]
    if not known or any(run.of_role("cancel")):
        return

    index, create = known[-1]
    bounded = any(name == "cancel-after" for name, _ in headers_of(create))
    if not bounded and (still_runs or run.last_status not in TERMINAL):
        yield Observation("It gave up on a running prediction without canceling it.", (index,))
