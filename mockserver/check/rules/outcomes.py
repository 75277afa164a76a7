"""MC3xx: what a client returns, and when it ends."""

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
    status_told,
)
from mockserver.check.rules.rule import Observation, rule

REFUSAL_STATUSES = frozenset(
    {400, 405, 413, 415, 422}
)  # the double's own, to what the contract does not allow


@rule(
    "MC301",
    "an outcome that is not true",
    rests_on="the contract: `status` says how a prediction ended",
    example="`canceled` is taken for an end like any other, and the call returns nothing, without an error.",
    demand=(
        "The client reports success if and only if the prediction succeeded and it was told so, in a response that "
        "arrived whole. An output shown under `processing`, as at the end of a wait, tells of success: returning it is "
        "fine, and so is polling on. Raising is fine wherever the scenario holds any fault."
    ),
    fix=(
        "Decide by `status`: return for `succeeded` alone, raise for `failed`, `canceled` and `aborted`, and go "
        "on polling for `starting` and `processing`."
    ),
)
def _false_outcome(run: Run) -> Iterator[Observation]:
    if run.cut_off:
        return
    told = run.success_indexes
    if run.outcome.kind == "returned":
        forged = forged_indexes(run)
        if believed_forgery(run) or (not told and not returned_another_calls_output(run)):
            ended = forged or run.end_indexes
            if forged:
                said, cause = "the webhook that told it so was not genuine", "forged webhook"
            elif ended:
                said, cause = f"the prediction ended {run.last_status}", run.last_status
            elif run.billed_indexes:
                said, cause = (
                    "no response that arrived whole told it that the prediction had succeeded",
                    "not told",
                )
            else:
                said, cause = "no prediction was created", "not created"
            words = (run.last_status,) if ended and not forged else ()
            yield Observation(
                f"It reported success, though {said}.",
                tuple(ended[:1]),
                cause=(cause,),
                words=words,
            )
        return
    expires = (
        "retention" in run.case.scenario
    )  # the output may be gone before the client could fetch it
    if (
        run.outcome.kind != "raised"
        or not run.has_no_fault
        or run.last_status != "succeeded"
        or run.has_variety
        or expires
    ):
        return
    if (
        told
        and showed_output(run, told)
        and (set(told) & set(run.end_indexes) or gave_up_at_once(run))
    ):
        said = f"It raised, though it was told of success: {reason_given(run)}"
        yield Observation(
            said, tuple(told[:1]), cause=("raised after success",), words=("succeeded", "output")
        )
    elif run.billed_indexes and not told and gave_up_at_once(run):
        said = f"It raised while all was well and the prediction still ran: {reason_given(run)}"
        yield Observation(said, (run.billed_indexes[-1],), cause=("raised at once",))


@rule(
    "MC302",
    "not the output that was served",
    rests_on="the contract: `output` is the URL of the picture",
    example="`output[0]` of a string is its first character.",
    demand=(
        "What is returned is the output that was served: its URL, or the picture's bytes, whole. A list of one is "
        "the same thing."
    ),
    fix=(
        "Return `output` as it is; a string is one URL. If the picture is downloaded, compare its length with "
        "Content-Length."
    ),
)
def _wrong_output(run: Run) -> Iterator[Observation]:
    told = run.success_indexes
    if run.outcome.kind != "returned" or not told or run.cut_off or believed_forgery(run):
        return
    value = single_value(run.outcome.value)
    if (value is None and not showed_output(run, told)) or returned_another_calls_output(run):
        return
    if isinstance(value, bytes):
        if value not in run.delivered:
            sizes = " or ".join(str(len(picture)) for picture in run.delivered)
            said = f"It returned {len(value)} bytes that are not the picture, which has {sizes}."
            yield Observation(said, tuple(told[:1]), cause=("bytes",), words=("content-length",))
    elif not isinstance(value, str) or value not in run.outputs:
        said = f"It returned {display(value)}, which is not the output."
        cause = "nothing" if value is None else "another value"
        yield Observation(said, tuple(told[:1]), cause=(cause,), words=tuple(sorted(run.outputs)))


@rule(
    "MC303",
    "polls on after the end",
    rests_on="the contract: a terminal status never changes",
    example="`aborted` is not in the client's list of terminal statuses.",
    demand=(
        "Once it was told a terminal status, in a response that arrived whole, the client stops polling. One more "
        "read, to confirm, is fine."
    ),
    fix="Stop at every status that is not `starting` or `processing`, so that one you do not know ends the loop too.",
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
            told = status_told(run, end)
            said = f"It was told {told} and polled at least {len(after)} more times."
            yield Observation(said, tuple(after[1:]), cause=(told,), words=(told,))


@rule(
    "MC304",
    "does not end",
    rests_on="time; a suite that hangs is worse than one that fails",
    example="The client's own timeout is not checked while it waits for the body of a response.",
    demand=(
        "The call ends within the deadline once there is nothing left to wait for: the prediction has ended, or "
        "its create was refused for good, or the time is over after which the client promises to give up."
    ),
    fix="Give every wait an end: a timeout for each request, body included, and one for the whole call.",
)
def _does_not_end(run: Run) -> Iterator[Observation]:
    if run.outcome.kind != "hung":
        return
    ended = run.end_indexes
    refused = [
        index for index, create in run.of_role("create") if create.status in FINAL_FOR_CREATE
    ]
    if ended:
        told = status_told(run, ended[0])
        said = f"It was told {told}, and had not ended {run.timeout:.3g} s later."
        yield Observation(said, tuple(ended[:1]), cause=(told,), words=(told,))
    elif refused and not run.billed_indexes and not run.cut_off:
        status = run.exchanges[refused[-1]].status
        said = (
            f"Its create was refused with {status}, and it had not ended {run.timeout:.3g} s later."
        )
        yield Observation(said, (refused[-1],), cause=("refused",))
    elif run.client_timeout is not None and run.exchanges:
        promised = f"It promises to give up after {run.client_timeout:g} s"
        yield Observation(
            f"{promised}, and had not ended after {run.timeout:.3g} s.", cause=("its own timeout",)
        )


@rule(
    "MC305",
    "fails on legal variety",
    rests_on="the contract: what it leaves open may differ from one day to the next",
    example="`prediction['logs'].splitlines()`, where `logs` may be null.",
    demand=(
        "The outcome does not depend on what the contract leaves open: unknown fields and headers, null logs, "
        "absent optional fields, 200, 201 or 202, the precision of time stamps, a charset, compression."
    ),
    fix=(
        "Read only what is needed, with defaults for what may be absent or null; ignore unknown fields; take "
        "every 2xx; parse times with a library."
    ),
)
def _fails_on_legal_variety(run: Run) -> Iterator[Observation]:
    if run.control_run is None or not run.has_variety or not run.has_no_fault or run.cut_off:
        return
    if run.outcome.kind != "returned" and run.control_run.kind == "returned":
        how = "hangs" if run.outcome.kind == "hung" else f"raises: {reason_given(run)}"
        said = f"It succeeds without this variety; with it, it {how}"
        varied = varieties(run.case.scenario)
        words = tuple(part.rpartition(" ")[2].rpartition(".")[2] for part in varied)
        yield Observation(said, tuple(run.billed_indexes[:1]), cause=varied, words=words)


@rule(
    "MC306",
    "calls made at once are mixed up",
    rests_on="the contract: each prediction is the answer to its own create",
    example="The id of the prediction is kept in the client, and the next call overwrites it.",
    demand=(
        "Of several calls made at once through one client, each gets its own picture, and only its own; none fails "
        "that succeeds alone. Played with --concurrent."
    ),
    fix="Keep what belongs to a call (its prediction's id, its connection, its result) in the call, not in the client.",
)
def _mixes_up(run: Run) -> Iterator[Observation]:
    if returned_another_calls_output(run):
        said = "It returned the picture of another call, which was made at the same time."
        yield Observation(
            said,
            tuple(run.success_indexes[:1] or run.billed_indexes[:1]),
            cause=("another's picture",),
        )
    elif (
        run.outcome.kind != "returned"
        and run.solo_outcome is not None
        and run.solo_outcome.kind == "returned"
        and not run.cut_off
    ):
        how = (
            "had not ended in time"
            if run.outcome.kind == "hung"
            else f"raised: {reason_given(run)}"
        )
        said = f"A call that is made alone succeeds; beside others, one {how}"
        yield Observation(said, tuple(run.billed_indexes[:1]), cause=("fails beside others",))


@rule(
    "MC307",
    "fails what only takes long",
    rests_on="money and time; the prediction was paid for, and would have succeeded",
    example="`for attempt in range(5)` around the poll: a model that takes a minute to start is an error.",
    demand=(
        "A prediction that takes many polls, or outlasts `Prefer: wait`, is waited for: the client does not raise "
        "while it starts or runs. A client that gives up after a time of its own says so with --client-timeout."
    ),
    fix=(
        "Bound the time of the call, not the number of polls; poll on through `starting` and `processing`, and after "
        "a wait that came back unfinished."
    ),
)
def _fails_what_takes_long(run: Run) -> Iterator[Observation]:
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
