"""MC3xx: what a client returns, and when."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run, served_whole, varieties
from mockserver.check.rules.evidence import (
    FINAL_FOR_CREATE,
    answered_at,
    believed_forgery,
    display,
    forged_indexes,
    gave_up_at_once,
    polls_to_the_end,
    prefer_wait_timed_out,
    reason_given,
    returned_another_calls_output,
    showed_output,
    single_value,
    terminal_status,
)
from mockserver.check.rules.rule import Observation, rule

# With which the double itself rejects a request that the contract does not allow.
REFUSAL_STATUSES = frozenset({400, 405, 413, 415, 422})


@rule(
    "MC301",
    "reports a false outcome",
    rests_on="the contract: `status` says how a prediction ended",
    demand=(
        "The client reports success if and only if the prediction succeeded and a complete "
        "response said so. An output under `processing`, as at the end of a `Prefer: wait`, counts "
        "as success: the client may return it or keep polling. Raising is fine wherever the "
        "scenario has a fault."
    ),
    example="The client treats `canceled` as success and returns nothing, without an error.",
    fix=(
        "Decide by `status`: return for `succeeded` only, raise for `failed`, `canceled` and "
        "`aborted`, and keep polling for `starting` and `processing`."
    ),
)
def _false_outcome(run: Run) -> Iterator[Observation]:
    if run.cut_off:
        return
    if run.outcome.kind == "returned":
        yield from _false_success(run)
    elif run.outcome.kind == "raised":
        yield from _false_failure(run)


def _false_success(run: Run) -> Iterator[Observation]:
    knew_success = run.success_indexes or returned_another_calls_output(run)
    if knew_success and not believed_forgery(run):
        return

    forged = forged_indexes(run)
    ended = forged or run.end_indexes
    words: tuple[str, ...] = ()
    if forged:
        why, cause = "the webhook that said so was forged", "forged webhook"
    elif ended:
        why, cause = f"the prediction ended as {run.last_status}", run.last_status
        words = (run.last_status,)
    elif run.billed_indexes:
        why, cause = "no complete response said that the prediction had succeeded", "not told"
    else:
        why, cause = "it created no prediction", "not created"
    message = f"It reported success although {why}."
    yield Observation(message, tuple(ended[:1]), cause=(cause,), words=words)


def _false_failure(run: Run) -> Iterator[Observation]:
    may_expire = "retention" in run.case.scenario  # the output may be gone before it is fetched
    if not run.has_no_fault or run.last_status != "succeeded" or run.has_variety or may_expire:
        return

    succeeded = run.success_indexes
    if not succeeded:
        if run.billed_indexes and gave_up_at_once(run):
            message = f"It raised while the prediction was still running: {reason_given(run)}"
            yield Observation(message, (run.billed_indexes[-1],), cause=("raised at once",))
        return

    final = bool(set(succeeded) & set(run.end_indexes))
    if showed_output(run, succeeded) and (final or gave_up_at_once(run)):
        message = f"It raised although the prediction had succeeded: {reason_given(run)}"
        cause, words = ("raised after success",), ("succeeded", "output")
        yield Observation(message, tuple(succeeded[:1]), cause=cause, words=words)


@rule(
    "MC302",
    "returns the wrong output",
    rests_on="the contract: `output` is the URL of the picture",
    demand=(
        "The client returns the output of the prediction: its URL, or all bytes of the picture. A "
        "list with one item is equivalent to that item."
    ),
    example="`output[0]` of a string is its first character.",
    fix=(
        "Return `output` as it is; a string is one URL. When downloading the picture, compare its "
        "length with Content-Length."
    ),
)
def _wrong_output(run: Run) -> Iterator[Observation]:
    succeeded = run.success_indexes
    if run.outcome.kind != "returned" or not succeeded or run.cut_off or believed_forgery(run):
        return
    value = single_value(run.outcome.value)
    if (value is None and not showed_output(run, succeeded)) or returned_another_calls_output(run):
        return

    first = tuple(succeeded[:1])
    if isinstance(value, bytes):
        if value not in run.delivered:
            sizes = " or ".join(str(len(picture)) for picture in run.delivered)
            message = f"It returned {len(value)} bytes that are not the picture, which has {sizes}."
            yield Observation(message, first, cause=("bytes",), words=("content-length",))
    elif not isinstance(value, str) or value not in run.outputs:
        message = f"It returned {display(value)}, which is not the output."
        cause = "nothing" if value is None else "another value"
        yield Observation(message, first, cause=(cause,), words=tuple(sorted(run.outputs)))


@rule(
    "MC303",
    "keeps polling after the end",
    rests_on="the contract: a terminal status never changes",
    demand=(
        "The client stops polling after a complete response with a terminal status. One more read, "
        "to confirm, is fine."
    ),
    example="`aborted` is missing from the client's list of terminal statuses.",
    fix=(
        "Stop at every status other than `starting` and `processing`, so that an unknown status "
        "ends the loop too."
    ),
)
def polls_after_end(run: Run) -> Iterator[Observation]:
    """More than one poll after a terminal status."""
    for end in run.end_indexes:
        if run.role(run.exchanges[end]) == "stream":
            continue  # the journal does not say when the client read the stream's end
        identifier = run.exchanges[end].prediction_id
        polls = [
            (index, poll)
            for index, poll in run.of_role("get")
            if index > end and served_whole(poll)
        ]
        known_at = answered_at(run.exchanges[end])
        after = [
            index
            for index, poll in polls
            if poll.prediction_id == identifier and poll.received_at >= known_at
        ]
        if identifier and len(after) > 1:
            status = terminal_status(run, end)
            message = f"After the status {status} it polled at least {len(after)} more times."
            yield Observation(message, tuple(after[1:]), cause=(status,), words=(status,))


@rule(
    "MC304",
    "hangs",
    rests_on="time; a suite that hangs is worse than one that fails",
    demand=(
        "The call returns before the deadline once there is nothing left to wait for: the "
        "prediction has ended, its create was rejected permanently, or the client's declared "
        "timeout has expired."
    ),
    example="The client does not check its own timeout while it waits for a response body.",
    fix=(
        "Limit every wait: set a timeout for each request, including its body, and one for the "
        "whole call."
    ),
)
def _hangs(run: Run) -> Iterator[Observation]:
    if run.outcome.kind != "hung":
        return
    ended = run.end_indexes
    rejected = [
        index for index, create in run.of_role("create") if create.status in FINAL_FOR_CREATE
    ]
    still_running = f"it was still running {run.timeout:.3g} s later."
    if ended:
        status = terminal_status(run, ended[0])
        message = f"After the status {status} {still_running}"
        yield Observation(message, tuple(ended[:1]), cause=(status,), words=(status,))
    elif rejected and not run.billed_indexes and not run.cut_off:
        status_code = run.exchanges[rejected[-1]].status
        message = f"Its create was rejected with {status_code}; {still_running}"
        yield Observation(message, (rejected[-1],), cause=("refused",))
    elif run.client_timeout is not None and run.exchanges:
        message = (
            f"Its timeout is {run.client_timeout:g} s, but it was still running after "
            f"{run.timeout:.3g} s."
        )
        yield Observation(message, cause=("its own timeout",))


@rule(
    "MC305",
    "breaks on optional fields",
    rests_on="the contract: anything that it leaves open may change from one day to the next",
    demand=(
        "The outcome does not depend on what the contract leaves open: unknown fields and headers, "
        "null logs, missing optional fields, 200, 201 or 202, the precision of timestamps, a "
        "charset, compression."
    ),
    example="`prediction['logs'].splitlines()`, where `logs` may be null.",
    fix=(
        "Read only the fields you need, with defaults for those that may be missing or null. "
        "Ignore unknown fields, accept every 2xx, and parse times with a library."
    ),
)
def _breaks_on_optional_fields(run: Run) -> Iterator[Observation]:
    if run.control_run is None or not run.has_variety or not run.has_no_fault or run.cut_off:
        return
    if run.outcome.kind != "returned" and run.control_run.kind == "returned":
        how = "hangs" if run.outcome.kind == "hung" else f"raises: {reason_given(run)}"
        message = f"It succeeds without this variation, but with it, it {how}"
        varied = varieties(run.case.scenario)
        words = tuple(part.rpartition(" ")[2].rpartition(".")[2] for part in varied)
        yield Observation(message, tuple(run.billed_indexes[:1]), cause=varied, words=words)


@rule(
    "MC306",
    "mixes up concurrent calls",
    rests_on="the contract: each prediction is the answer to its own create",
    demand=(
        "With several concurrent calls through one client, each call gets its own picture, and no "
        "call fails that succeeds on its own. Tested with --concurrent."
    ),
    example=(
        "The client stores the prediction's id in an attribute, and the next call overwrites it."
    ),
    fix=(
        "Keep the state of a call (the prediction's id, its connection, its result) in the call, "
        "not in the client."
    ),
)
def _mixes_up(run: Run) -> Iterator[Observation]:
    if returned_another_calls_output(run):
        indexes = tuple(run.success_indexes[:1] or run.billed_indexes[:1])
        message = "It returned the picture of a concurrent call."
        yield Observation(message, indexes, cause=("another's picture",))
        return
    alone = run.solo_outcome
    if run.outcome.kind == "returned" or alone is None or alone.kind != "returned" or run.cut_off:
        return

    how = "did not end in time" if run.outcome.kind == "hung" else f"raised: {reason_given(run)}"
    message = f"A single call succeeds, but one of several concurrent calls {how}"
    yield Observation(message, tuple(run.billed_indexes[:1]), cause=("fails beside others",))


@rule(
    "MC307",
    "gives up on slow predictions",
    rests_on="money and time; the prediction was paid for, and would have succeeded",
    example=(
        "`for attempt in range(5)` around the poll: a model that takes a minute to start is an "
        "error."
    ),
    demand=(
        "The client waits for a prediction that takes many polls or outlasts `Prefer: wait`; it "
        "does not raise while the prediction is starting or running. A client with a timeout of "
        "its own declares it with --client-timeout."
    ),
    fix=(
        "Limit the duration of the call, not the number of polls. Keep polling for `starting` and "
        "`processing`, also after a `Prefer: wait` that ended early."
    ),
)
def _gives_up_on_slow(run: Run) -> Iterator[Observation]:
    needed = polls_to_the_end(run)
    if (
        run.outcome.kind != "raised"
        or run.client_timeout is not None
        or not run.has_no_fault
        or run.has_variety
        or run.cut_off
        or run.last_status != "succeeded"
        or run.success_indexes
        or run.case.clock != "autojump"
        or not run.billed_indexes
        or not (needed or prefer_wait_timed_out(run, limited=False))
    ):
        return

    polls = [index for index, poll in run.of_role("get") if served_whole(poll)]
    if len(polls) < needed or not needed:
        last = run.exchanges[(polls or run.billed_indexes)[-1]]
        status = last.prediction_status or "starting"
        count = f"{len(polls)} poll{'s' * (len(polls) != 1)}" if polls else "its create"
        message = f"It raised after {count}, while the prediction was {status}: {reason_given(run)}"
        cause = "gives up polling" if polls else "gives up after the wait"
        yield Observation(
            message, ((polls or run.billed_indexes)[-1],), cause=(cause,), words=(status,)
        )
