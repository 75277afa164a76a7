"""MC2xx: what a client pays for."""

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
    rests_on="money; the contract gives a create no idempotency key",
    example="The response to a create is lost, and the client sends the create again.",
    demand=(
        "At most one prediction is created in one call. Repeating a create that was refused before it took effect "
        "is fine; repeating one whose response was lost is not."
    ),
    fix=(
        "Send a create again only if it cannot have taken effect: after a 429, a 503 or a refused connection. "
        "After a lost response, raise, or look for the prediction in the list."
    ),
)
def _double_billing(run: Run) -> Iterator[Observation]:
    paid = run.billed_indexes
    for before, again in pairwise(paid):
        said = f"One call created {len(paid)} predictions."
        made = tuple(run.exchanges[index].prediction_id or "" for index in paid)
        yield Observation(
            said, tuple(paid[1:]), cause=_reason_to_create_again(run, before, again), words=made
        )


def _reason_to_create_again(run: Run, before: int, again: int) -> tuple[str, ...]:
    """What may have led a client to create a second time: the last failure between the two, and of what."""
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
    "gives up without a cancel",
    severity="warning",
    rests_on="money; a prediction that nobody waits for any more still runs, and is billed",
    example="The client's own timeout is over, and it leaves the prediction running.",
    demand=(
        "A client that declares a timeout, or asked the gateway to wait and was told that the prediction still runs, "
        "cancels the prediction that it gives up on, or sent Cancel-After with it."
    ),
    fix="On giving up, send `POST …/predictions/{id}/cancel`, or send `Cancel-After` with the create.",
)
def _no_cancel(run: Run) -> Iterator[Observation]:
    if run.outcome.kind != "raised" or run.cut_off or run.end_indexes:
        return
    still_runs = run.has_no_fault and prefer_wait_timed_out(run)
    if run.client_timeout is None and not still_runs:
        return  # without a timeout of its own, a client that raised may not know that the prediction still runs
    known = [
        (index, exchange) for index, exchange in run.of_role("create") if served_whole(exchange)
    ]
    if not known or any(run.of_role("cancel")):
        return
    index, create = known[-1]
    bounded = any(name == "cancel-after" for name, _ in headers_of(create))
    if not bounded and (still_runs or run.last_status not in TERMINAL):
        yield Observation(
            "It gave up on a prediction that was still running, and sent no cancel.", (index,)
        )
