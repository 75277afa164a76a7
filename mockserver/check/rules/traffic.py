"""MC4xx: how often a client sends requests, and how it handles failures."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run, fault_of
from mockserver.check.rules.evidence import (
    FINAL_FOR_CREATE,
    answered_at,
    earliest_retry,
    has_unreadable_retry_after,
    in_lasting_outage,
    operation_of_exchange,
    reason_given,
)
from mockserver.check.rules.rule import Observation, rule
from mockserver.clock import SECOND
from mockserver.reporting.rule import Severity

TIMER_SLACK = SECOND // 20  # nanoseconds; a client's timer may fire early by that much
MAX_REQUESTS = 20  # of one operation, while an outage lasts
MAX_POLLS_PER_SECOND = 50
FINAL_FOR_POLL = frozenset({401, 403})
TRANSIENT = frozenset({502, 503, 504})


@rule(
    "MC401",
    "ignores Retry-After",
    rests_on=(
        "the contract: a 429 says when to retry (RFC 9110, 10.2.3), and an early retry uses up the "
        "next slot too"
    ),
    demand=(
        "The client does not repeat a request before the time in Retry-After, given in seconds or "
        "as a date. If the header cannot be parsed, the client must not wait forever; raising is a "
        "warning, and so is ignoring a delay that only the body of a 429 has."
    ),
    example="Six requests back to back against a limit of one per second.",
    fix=(
        "Wait as long as `Retry-After` says, in seconds or until its date, or raise. If it cannot "
        "be parsed, use a delay of your own."
    ),
)
def _ignores_retry_after(run: Run) -> Iterator[Observation]:
    for index, exchange in enumerate(run.exchanges):
        due = earliest_retry(exchange)
        if due is None:
            continue
        for later, again in list(enumerate(run.exchanges))[index + 1 :]:
            if (again.method, again.path) != (exchange.method, exchange.path):
                continue
            if again.received_at < answered_at(exchange):
                continue  # it was sent before the response arrived
            if again.received_at < due - TIMER_SLACK:
                waited = (again.received_at - exchange.received_at) / SECOND
                required = (due - exchange.received_at) / SECOND
                message = (
                    f"It repeated a request after {waited:.2f} s; Retry-After was {required:.2f} s."
                )
                fault = fault_of(exchange)
                form = "seconds" if fault.retry_after_date is None else "a date"
                if not fault.header:
                    form, message = "the body", message.replace("Retry-After", "the body's delay")
                cause = (operation_of_exchange(run, exchange), form)
                severity: Severity | None = None if fault.header else "warning"
                yield Observation(
                    message, (later,), severity, cause, ("retry-after", "retry_after")
                )
            break
    yield from _fails_on_unreadable_retry_after(run)


def _fails_on_unreadable_retry_after(run: Run) -> Iterator[Observation]:
    unreadable = [
        index
        for index, exchange in enumerate(run.exchanges)
        if has_unreadable_retry_after(exchange)
    ]
    if not unreadable or run.control_run is None or run.cut_off or run.has_variety:
        return

    about = operation_of_exchange(run, run.exchanges[unreadable[0]])
    indexes, cause, words = tuple(unreadable[:1]), (about, "unreadable"), ("retry-after",)
    if run.outcome.kind == "raised" and run.control_run.kind == "returned":
        # Raising on a failure is legal. All clients that use urllib3's Retry do so here, since it
        # parses seconds and dates only.
        message = f"It raises at a Retry-After that cannot be parsed: {reason_given(run)}"
        yield Observation(message, indexes, "warning", cause, words)
    if run.outcome.kind == "hung" and run.control_run.kind != "hung":
        # This is an error even if a library causes it: ky without `maxRetryAfter` gets NaN, and
        # waits forever.
        message = "At a Retry-After that cannot be parsed, it waits past the deadline."
        yield Observation(message, indexes, None, cause, words)


@rule(
    "MC402",
    "keeps retrying while the gateway is down",
    rests_on="time, and the gateway: clients that keep retrying prolong an outage",
    demand=(
        "During a lasting outage, a client sends at most 20 requests of one operation, and then "
        "ends. With --client-timeout it may poll until that timeout."
    ),
    example="`while True: try … except HTTPError: continue`.",
    fix="Limit both the number of attempts and their total time; raise when either is used up.",
)
def _unbounded_retries(run: Run) -> Iterator[Observation]:
    yield from exceeds_max_requests(run)
    if run.outcome.kind == "hung" and not run.end_indexes:
        lasting = [
            index for index, exchange in enumerate(run.exchanges) if in_lasting_outage(exchange)
        ]
        if lasting and not any(earliest_retry(run.exchanges[index]) for index in lasting):
            message = f"It was still retrying after an outage of {run.timeout:.3g} s."
            cause = (operation_of_exchange(run, run.exchanges[lasting[-1]]),)
            yield Observation(message, (lasting[-1],), cause=cause)


@rule(
    "MC403",
    "retries a rejected request",
    rests_on=(
        "the contract: 400, 401, 402, 403 and 422 are about the request, which has not changed"
    ),
    demand=(
        "The client does not repeat a create after 400, 401, 402, 403 or 422, or a poll after 401 "
        "or 403."
    ),
    example=(
        "A retry wrapper around the whole call sends a create seven times although it gets a 402."
    ),
    fix=(
        "Of all 4xx responses, retry only 429 (and, for a moment, a 404 of a new prediction). "
        "Raise for the others."
    ),
)
def repeats_refused(run: Run) -> Iterator[Observation]:
    """Requests that are repeated although their response was final."""
    rejected: dict[tuple[str, str, bytes], int] = {}
    for index, exchange in enumerate(run.exchanges):
        if exchange.arrived_at == "receiver":
            continue  # that is the gateway's request
        request = (exchange.method, exchange.path, exchange.request.body)
        rejection = run.exchanges[rejected[request]] if request in rejected else None
        if rejection is not None and exchange.received_at >= answered_at(rejection):
            message = f"It repeated a request that was rejected with {rejection.status}."
            yield Observation(message, (index,), cause=(operation_of_exchange(run, exchange),))
        creating = run.role(exchange) == "create"
        if exchange.status in (FINAL_FOR_CREATE if creating else FINAL_FOR_POLL):
            rejected[request] = index


@rule(
    "MC404",
    "polls in a hot loop",
    severity="warning",
    rests_on="the gateway: polls are limited to 3,000 per minute",
    demand="The client polls at most 50 times per second.",
    example="A loop without a delay.",
    fix="Wait between polls: a fraction of a second at first, then longer.",
)
def polls_in_hot_loop(run: Run) -> Iterator[Observation]:
    """More than MAX_POLLS_PER_SECOND polls within a second."""
    polls = [(index, poll.received_at) for index, poll in run.of_role("get") if poll.fault is None]
    for (_, first), (last, at) in zip(polls, polls[MAX_POLLS_PER_SECOND:], strict=False):
        if at - first < SECOND:
            count, seconds = MAX_POLLS_PER_SECOND + 1, (at - first) / SECOND
            yield Observation(f"It polled {count} times in {seconds:.2f} s.", (last,))
            return


@rule(
    "MC405",
    "gives up after one transient failure",
    severity="warning",
    rests_on="money; the prediction is paid for, and a second poll would have found it",
    demand=(
        "A poll that fails once, with a 502, 503 or 504 or a dropped connection, does not end the "
        "call."
    ),
    example="A single 502 from a proxy ends a call after three minutes of polling.",
    fix=(
        "Repeat a poll that failed with 502, 503, 504 or without a response a few times, with a "
        "delay. Polls are free."
    ),
)
def _gives_up_on_transient(run: Run) -> Iterator[Observation]:
    failed = [index for index, exchange in enumerate(run.exchanges) if exchange.fault is not None]
    if (
        run.outcome.kind != "raised"
        or len(failed) != 1
        or run.cut_off
        or run.last_status != "succeeded"
        or run.end_indexes
    ):
        return

    poll = run.exchanges[failed[0]]
    fault = fault_of(poll)
    transient = fault.status in TRANSIENT or fault.disconnect is not None
    if run.role(poll) == "get" and transient and fault.times == 1:
        how = "error" if fault.status is not None else "no response"
        message = f"A single failed poll ended the call: {reason_given(run)}"
        yield Observation(message, (failed[0],), cause=(how,))


@rule(
    "MC406",
    "waits forever on a stalled connection",
    severity="warning",
    rests_on="time; a connection can die silently, and then nothing more ever arrives",
    demand="The client gives up on a response that stalls halfway, before the deadline of the run.",
    example="`fetch` without a signal, requests without a timeout.",
    fix=(
        "Set a read timeout (`AbortSignal.timeout`, `timeout=` in requests and httpx) that is "
        "shorter than the caller's patience."
    ),
)
def _waits_on_silence(run: Run) -> Iterator[Observation]:
    if (
        run.outcome.kind != "hung"
        or run.cut_off
        or run.client_timeout is not None
        or not run.exchanges
    ):
        return  # a client that does not keep its declared timeout is MC304's

    last = run.exchanges[-1]
    if last.fault is not None and fault_of(last).stall is not None:
        silent = run.timeout - (last.received_at - run.exchanges[0].received_at) / SECOND
        message = (
            f"A response stalled halfway, and it was still waiting after {silent:.1f} s of silence."
        )
        cause = (operation_of_exchange(run, last),)
        yield Observation(message, (len(run.exchanges) - 1,), cause=cause)


def exceeds_max_requests(run: Run) -> Iterator[Observation]:
    """More than MAX_REQUESTS requests of one operation during a lasting outage.

    A client with a declared timeout may poll until then.
    """
    counts: dict[str | None, int] = {}
    for index, exchange in enumerate(run.exchanges):
        if not in_lasting_outage(exchange) or (
            run.client_timeout is not None and run.role(exchange) == "get"
        ):
            continue
        count = counts[exchange.operation_id] = counts.get(exchange.operation_id, 0) + 1
        if count > MAX_REQUESTS:
            operation = exchange.operation_id
            message = f"During the outage it sent {operation} more than {MAX_REQUESTS} times."
            yield Observation(message, (index,), cause=(operation_of_exchange(run, exchange),))
            return
