"""The rules for what a client sends, pays for and returns: MC1xx to MC3xx.

A rule is one function, from a run to the observations that break it. It rests on the contract, or on money, time or
secrets. None may flag a legal client: one that raises at the first trouble, does not retry, waits longer, polls more
slowly, or takes another documented way.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mockserver.check.cases import Run, served_whole, varieties, with_defaults
from mockserver.check.evidence import (
    FINAL_FOR_CREATE,
    answered_at,
    believed_forgery,
    body_sent,
    comparable,
    display,
    forged_indexes,
    gave_up_at_once,
    headers_of,
    meant_for_api,
    operation_of_exchange,
    reason_given,
    refusal_detail,
    returned_anothers,
    sent_nothing,
    showed_output,
    single_value,
    status_told,
    waited_in_vain,
    without_token,
)
from mockserver.check.rule import Observation, rule
from mockserver.json_text import shorten
from mockserver.scenarios.timeline import TERMINAL

REFUSAL_STATUSES = frozenset({400, 405, 413, 415, 422})  # the double's own, to what the contract does not allow


@rule(
    "MC101",
    "a request that the contract refuses",
    rests_on="the contract: paths, parameters, media types and schemas",
    example="The client posts to /v1/models/… and forgets the prefix of its base URL.",
    demand="The client sends only requests that the contract allows. An unknown field or parameter is advice.",
    fix=(
        "Compare what was sent with the operation in the contract: path and prefix, `Content-Type: "
        "application/json`, and each field's name, type and range."
    ),
)
def _invalid_request(run: Run) -> Iterator[Observation]:
    advice = []
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin != "api":
            continue
        asked = f"{exchange.method} {shorten(exchange.path)}"
        if exchange.unmatched:
            if meant_for_api(run, exchange):
                said = run.contract.explain_unknown(exchange.method, exchange.path)
                yield Observation(said, (index,), None, ("unknown path", exchange.method), (exchange.path,))
            continue
        about = operation_of_exchange(run, exchange)
        for violation in exchange.violations:
            if violation.kind == "authorization":
                continue  # that is MC103
            where = violation.pointer or "/"
            said = f"{asked} at {where}: {violation.description}; sent {violation.sent}, allowed: {violation.allowed}."
            cause, word = (about, where, violation.kind), where.rpartition("/")[2]
            if violation.fatal:
                yield Observation(said, (index,), None, cause, (word,))
            else:
                advice.append(Observation(said, (index,), "advice", cause, (word,)))
        if exchange.status in REFUSAL_STATUSES and exchange.fault is None and not exchange.violations:
            said = refusal_detail(exchange)
            refused = f"{asked} was refused with {exchange.status}{said}"
            yield Observation(refused, (index,), cause=(about, str(exchange.status)))
    yield from advice


@rule(
    "MC102",
    "the input arrives changed",
    rests_on="the contract: what is asked for is what is paid for",
    example="`{k: v for k, v in input.items() if v}` drops a 0, and the default applies.",
    demand=(
        "Each given input arrives unchanged. What is compared is the effective input: with documented defaults "
        "filled in, on both sides; leaving out what equals its default is fine. To add a number that has no default, "
        "as a seed, is advice, and so is to refuse an input that the contract allows, and send nothing."
    ),
    fix=(
        "Pass the input on as it was given: leave out only what is absent, not what is falsy; trim, cut and "
        "convert nothing; encode as UTF-8."
    ),
)
def _changed_input(run: Run) -> Iterator[Observation]:
    if sent_nothing(run) and (run.control_run is None or run.control_run.kind == "returned"):
        said = f"It raised, and sent nothing, for an input that the contract allows: {reason_given(run)}"
        yield Observation(said, (), "advice", ("not sent",))
    asked = with_defaults(run.operation, run.case.input)
    for index, exchange in run.of_role("create"):
        body = body_sent(exchange)
        operation = run.contract.model_asked(run.contract.by_id[str(exchange.operation_id)], body)
        if operation is None:
            continue  # there is no such version: that is MC101
        if operation is not run.operation:
            said = f"The call asked {run.case.model}; the request went to {operation.model}."
            yield Observation(said, (index,), cause=("model",))
            continue
        arrived = body.get("input")
        if not isinstance(arrived, dict):
            continue
        sent = with_defaults(operation, arrived)
        for name in operation.input:
            if name not in asked and name not in sent:
                continue
            if comparable(asked.get(name)) != comparable(sent.get(name)):
                came = shorten(sent[name]) if name in sent else "nothing"
                given = shorten(asked[name]) if name in asked else "nothing"
                said = f"`{name}` was to be {given}; what arrived is {came}."
                # A number that the gateway would have drawn, as a seed, may be drawn by the client, to be known.
                drawn = name not in asked and operation.input[name].get("type") == "integer"
                yield Observation(said, (index,), "advice" if drawn else None, (name,), (name,))


@rule(
    "MC103",
    "a request without the right authorisation",
    rests_on="the contract: its security scheme is `Authorization: Bearer <token>`",
    example="`Authorization: Token …`, as older clients of this API sent.",
    demand="Every API request carries exactly `Authorization: Bearer <the token given>`. The files are public.",
    fix="Set `Authorization: Bearer <token>` once, where every request to the API is built, polls and cancels too.",
)
def _wrong_authorization(run: Run) -> Iterator[Observation]:
    wanted = f"Bearer {run.token}"
    for index, exchange in enumerate(run.exchanges):
        operation = run.contract.by_id.get(exchange.operation_id or "")
        if exchange.origin != "api" or operation is None or operation.public:
            continue
        sent = [value for name, value in headers_of(exchange) if name == "authorization"]
        if sent != [wanted]:
            came = "none" if not sent else without_token(run, " and ".join(sent))
            said = f"Authorization was to be `Bearer <token>`; it was {came}."
            yield Observation(said, (index,), cause=(operation.family,), words=("authorization",))


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
        yield Observation(said, tuple(paid[1:]), cause=_reason_to_create_again(run, before, again), words=made)


def _reason_to_create_again(run: Run, before: int, again: int) -> tuple[str, ...]:
    """What may have led a client to create a second time: the last failure between the two, and of what."""
    failed = [
        exchange for exchange in run.exchanges[before:again] if exchange.fault is not None or exchange.status >= 400
    ]
    if not failed:
        return ("nothing",)
    last = failed[-1]
    how = "error" if last.status >= 400 else "no response" if not last.status else "spoilt response"
    return (operation_of_exchange(run, last), how)


@rule(
    "MC202",
    "gives up without a cancel",
    severity="advice",
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
    still_runs = run.has_no_fault and waited_in_vain(run)
    if run.client_timeout is None and not still_runs:
        return  # without a timeout of its own, a client that raised may not know that the prediction still runs
    known = [(index, exchange) for index, exchange in run.of_role("create") if served_whole(exchange)]
    if not known or any(run.of_role("cancel")):
        return
    index, create = known[-1]
    bounded = any(name == "cancel-after" for name, _ in headers_of(create))
    if not bounded and (still_runs or run.last_status not in TERMINAL):
        yield Observation("It gave up on a prediction that was still running, and sent no cancel.", (index,))


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
        if believed_forgery(run) or (not told and not returned_anothers(run)):
            ended = forged or run.end_indexes
            if forged:
                said, cause = "the webhook that told it so was not genuine", "forged webhook"
            elif ended:
                said, cause = f"the prediction ended {run.last_status}", run.last_status
            elif run.billed_indexes:
                said, cause = "no response that arrived whole told it that the prediction had succeeded", "not told"
            else:
                said, cause = "no prediction was created", "not created"
            words = (run.last_status,) if ended and not forged else ()
            yield Observation(f"It reported success, though {said}.", tuple(ended[:1]), cause=(cause,), words=words)
        return
    expires = "retention" in run.case.scenario  # the output may be gone before the client could fetch it
    if (
        run.outcome.kind != "raised"
        or not run.has_no_fault
        or run.last_status != "succeeded"
        or run.has_variety
        or expires
    ):
        return
    if told and showed_output(run, told) and (set(told) & set(run.end_indexes) or gave_up_at_once(run)):
        said = f"It raised, though it was told of success: {reason_given(run)}"
        yield Observation(said, tuple(told[:1]), cause=("raised after success",), words=("succeeded", "output"))
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
    if (value is None and not showed_output(run, told)) or returned_anothers(run):
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
        polls = [(index, poll) for index, poll in run.of_role("get") if index > end and served_whole(poll)]
        known_at = answered_at(run.exchanges[end])
        after = [index for index, poll in polls if poll.prediction_id == identifier and poll.received_at >= known_at]
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
    refused = [index for index, create in run.of_role("create") if create.status in FINAL_FOR_CREATE]
    if ended:
        told = status_told(run, ended[0])
        said = f"It was told {told}, and had not ended {run.timeout:.3g} s later."
        yield Observation(said, tuple(ended[:1]), cause=(told,), words=(told,))
    elif refused and not run.billed_indexes and not run.cut_off:
        status = run.exchanges[refused[-1]].status
        said = f"Its create was refused with {status}, and it had not ended {run.timeout:.3g} s later."
        yield Observation(said, (refused[-1],), cause=("refused",))
    elif run.client_timeout is not None:
        promised = f"It promises to give up after {run.client_timeout:g} s"
        yield Observation(f"{promised}, and had not ended after {run.timeout:.3g} s.", cause=("its own timeout",))


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
    if returned_anothers(run):
        said = "It returned the picture of another call, which was made at the same time."
        yield Observation(said, tuple(run.success_indexes[:1] or run.billed_indexes[:1]), cause=("another's picture",))
    elif run.outcome.kind != "returned" and run.alone is not None and run.alone.kind == "returned" and not run.cut_off:
        how = "had not ended in time" if run.outcome.kind == "hung" else f"raised: {reason_given(run)}"
        said = f"A call that is made alone succeeds; beside others, one {how}"
        yield Observation(said, tuple(run.billed_indexes[:1]), cause=("fails beside others",))
