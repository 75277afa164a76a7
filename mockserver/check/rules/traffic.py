"""MC4xx: how often a client sends requests, and how it takes trouble."""

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

TIMER_SLACK = SECOND // 20  # nanoseconds; a client's timer may fire early by that much
MAX_REQUESTS = 20  # of one operation, while an outage lasts
MAX_POLLS_PER_SECOND = 50
FINAL_FOR_POLL = frozenset({401, 403})
TRANSIENT = frozenset({502, 503, 504})


@rule(
    "MC401",
    "does not wait out Retry-After",
    rests_on="the contract: a 429 says when to come back (RFC 9110, 10.2.3); too early costs the next turn as well",
    example="Six requests back to back against a limit of one a second.",
    demand=(
        "The next request of an operation comes no sooner than its Retry-After allowed, in seconds or as a date. "
        "One that cannot be read must not make the client wait for ever; that it makes it raise is a warning."
    ),
    fix=(
        "Wait as long as `Retry-After` says, in seconds or until its date, or raise. If it cannot be read, use a "
        "pause of your own."
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
                continue  # it was on its way already
            if again.received_at < due - TIMER_SLACK:
                waited, asked = (
                    (again.received_at - exchange.received_at),
                    (due - exchange.received_at),
                )
                said = f"It came back after {waited / SECOND:.2f} s; Retry-After asked for {asked / SECOND:.2f} s."
                form = "a date" if "retry_after_date" in (exchange.fault or {}) else "seconds"
                cause = (operation_of_exchange(run, exchange), form)
                yield Observation(said, (later,), cause=cause, words=("retry-after",))
            break
    unreadable = [
        index
        for index, exchange in enumerate(run.exchanges)
        if has_unreadable_retry_after(exchange)
    ]
    if not unreadable or run.control_run is None or run.cut_off or run.has_variety:
        return
    about = operation_of_exchange(run, run.exchanges[unreadable[0]])
    if run.outcome.kind == "raised" and run.control_run.kind == "returned":
        # Raising at trouble is legal: every client on urllib3's Retry does so here, which reads
        # seconds and dates only.
        said = f"It carries on without a Retry-After, but one that cannot be read makes it raise: {reason_given(run)}"
        yield Observation(
            said, tuple(unreadable[:1]), "warning", (about, "unreadable"), ("retry-after",)
        )
    if run.outcome.kind == "hung" and run.control_run.kind != "hung":
        # An error, also where a library is to blame: ky without `maxRetryAfter` computes no number,
        # and waits for ever.
        said = "A Retry-After that cannot be read makes it wait beyond the deadline."
        yield Observation(
            said, tuple(unreadable[:1]), None, (about, "unreadable"), ("retry-after",)
        )


@rule(
    "MC402",
    "keeps retrying while the gateway is down",
    rests_on="time, and the gateway: clients that keep retrying make an outage last longer",
    example="`while True: try … except HTTPError: continue`.",
    demand=(
        "Under an outage that lasts, a client sends at most 20 requests of one operation, and ends. With "
        "--client-timeout it may poll until then."
    ),
    fix="Count the tries and limit the time they take together; raise when either is spent.",
)
def _unbounded_retries(run: Run) -> Iterator[Observation]:
    yield from exceeds_max_requests(run)
    if run.outcome.kind == "hung" and not run.end_indexes:
        lasting = [
            index for index, exchange in enumerate(run.exchanges) if in_lasting_outage(exchange)
        ]
        if lasting and not any(earliest_retry(run.exchanges[index]) for index in lasting):
            said = f"The outage lasted, and after {run.timeout:.3g} s it had still not given up."
            yield Observation(
                said,
                (lasting[-1],),
                cause=(operation_of_exchange(run, run.exchanges[lasting[-1]]),),
            )


@rule(
    "MC403",
    "repeats a request that was refused for good",
    rests_on="the contract: 400, 401, 402, 403 and 422 are about the request, and it has not changed",
    example="A retry wrapper around the whole call sends a create seven times that was answered 402.",
    demand=(
        "A create that was answered 400, 401, 402, 403 or 422 is not sent again as it was, nor a poll that was "
        "answered 401 or 403."
    ),
    fix="Of what is answered 4xx, retry 429 alone (and a 404 of a fresh prediction for a moment); raise at the rest.",
)
def repeats_refused(run: Run) -> Iterator[Observation]:
    """The same request again, though the response to it was final."""
    refused: dict[tuple[str, str, bytes], int] = {}
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin == "receiver":
            continue  # that is the gateway's request
        asked = (exchange.method, exchange.path, exchange.body)
        if asked in refused and exchange.received_at >= answered_at(run.exchanges[refused[asked]]):
            status = run.exchanges[refused[asked]].status
            said = f"It was refused with {status}, and sent the same again."
            yield Observation(said, (index,), cause=(operation_of_exchange(run, exchange),))
        creating = run.role(exchange) == "create"
        if exchange.status in (FINAL_FOR_CREATE if creating else FINAL_FOR_POLL):
            refused[asked] = index


@rule(
    "MC404",
    "polls in a hot loop",
    severity="warning",
    rests_on="the gateway: polls are limited to 3,000 a minute",
    example="A loop without a pause.",
    demand="A client polls at most 50 times a second.",
    fix="Pause between polls: a fraction of a second at first, then longer.",
)
def polls_in_hot_loop(run: Run) -> Iterator[Observation]:
    """More polls within a second than the limit."""
    polls = [(index, poll.received_at) for index, poll in run.of_role("get") if poll.fault is None]
    for (_, first), (last, at) in zip(polls, polls[MAX_POLLS_PER_SECOND:], strict=False):
        if at - first < SECOND:
            yield Observation(
                f"It polled {MAX_POLLS_PER_SECOND + 1} times in {(at - first) / SECOND:.2f} s.",
                (last,),
            )
            return


@rule(
    "MC405",
    "gives up after one transient failure",
    severity="warning",
    rests_on="money; the prediction is paid for, and a second poll would have found it",
    example="One 502 from a proxy, in three minutes of polling, ends the call.",
    demand="A single 502, 503 or 504, or one dropped connection, on a poll does not end the call.",
    fix="Repeat a poll that failed with 502, 503, 504 or no response a few times, with a pause. It costs nothing.",
)
def _gives_up_on_transient(run: Run) -> Iterator[Observation]:
    met = [index for index, exchange in enumerate(run.exchanges) if exchange.fault is not None]
    if (
        run.outcome.kind != "raised"
        or len(met) != 1
        or run.cut_off
        or run.last_status != "succeeded"
        or run.end_indexes
    ):
        return
    poll = run.exchanges[met[0]]
    fault = fault_of(poll)
    transient = fault.status in TRANSIENT or fault.disconnect is not None
    if run.role(poll) == "get" and transient and fault.times == 1:
        how = "error" if fault.status is not None else "no response"
        yield Observation(
            f"One failed poll ended the call: {reason_given(run)}", (met[0],), cause=(how,)
        )


@rule(
    "MC406",
    "waits on a connection that has gone silent",
    severity="warning",
    rests_on="time; a connection can die without a word, and then nothing more will ever come",
    example="`fetch` without a signal, requests without a timeout.",
    demand="A client gives up on a response that stops in the middle, before the deadline of the run is over.",
    fix=(
        "Set a timeout for reading (`AbortSignal.timeout`, `timeout=` of requests and httpx), shorter than what "
        "the caller will wait."
    ),
)
def _waits_on_silence(run: Run) -> Iterator[Observation]:
    if (
        run.outcome.kind != "hung"
        or run.cut_off
        or run.client_timeout is not None
        or not run.exchanges
    ):
        return  # a client that declares a timeout, and does not keep it, is MC304's
    last = run.exchanges[-1]
    if last.fault is not None and fault_of(last).stall is not None:
        silent = run.timeout - (last.received_at - run.exchanges[0].received_at) / SECOND
        said = f"A response stopped in the middle, and it still waited for the rest after {silent:.1f} s of silence."
        yield Observation(
            said, (len(run.exchanges) - 1,), cause=(operation_of_exchange(run, last),)
        )


def exceeds_max_requests(run: Run) -> Iterator[Observation]:
    """More than MAX_REQUESTS requests of one operation while an outage lasts.

    A client that promises to give up after some time may poll as long as that.
    """
    counts: dict[str | None, int] = {}
    for index, exchange in enumerate(run.exchanges):
        if not in_lasting_outage(exchange) or (
            run.client_timeout is not None and run.role(exchange) == "get"
        ):
            continue
        count = counts[exchange.operation_id] = counts.get(exchange.operation_id, 0) + 1
        if count > MAX_REQUESTS:
            said = f"While the outage lasted it sent {exchange.operation_id} more than {MAX_REQUESTS} times."
            yield Observation(said, (index,), cause=(operation_of_exchange(run, exchange),))
            return
