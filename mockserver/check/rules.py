"""What the kit demands of a client: one pure function a rule, from a run to what it broke.

A rule rests on the contract, or on money, time or secrets. None may flag a legal client: one that raises at the first
trouble, does not retry, waits longer, polls more slowly, or takes another documented way.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mockserver.check.cases import Run, effective, fault_of, served
from mockserver.check.evidence import (
    as_text,
    exact,
    gave_up_too_soon,
    has_output,
    has_unreadable_retry_after,
    headers_of,
    input_of,
    is_meant_for_api,
    last_words,
    refusal_of,
    retry_allowed_at,
    single,
    status_at,
    without_token,
)
from mockserver.check.receiver_rules import RECEIVER_RULES
from mockserver.check.rule import RULES, Breach, rule
from mockserver.clock import SECOND
from mockserver.journal import Exchange
from mockserver.lifecycle import TERMINAL
from mockserver.violations import shorten

__all__ = ["RULES", "find_breaches", "is_runaway"]

GRACE = SECOND // 20  # nanoseconds; a client's timer may be early by that much
MAX_REQUESTS = 20  # of one operation, while an outage lasts
HOT_POLLS = 50  # a second
FINAL_FOR_CREATE = frozenset({400, 401, 402, 403, 422})
FINAL_FOR_POLL = frozenset({401, 403})
TRANSIENT = frozenset({502, 503, 504})
REFUSING = frozenset({400, 405, 413, 415, 422})  # what the double answers to what the contract does not allow


def find_breaches(run: Run) -> list[Breach]:
    """The first breach of each rule that a run broke."""
    breaches = []
    for each in RULES.values():
        if each.function is not None and (breach := next(each.function(run), None)) is not None:
            breaches.append(msgspec.structs.replace(breach, rule=each.code, severity=breach.severity or each.severity))
    return breaches


def is_runaway(run: Run) -> bool:
    """Whether a client that is still running has already broken a rule in a way that may never end."""
    return any(next(found(run), None) for found in (_keeps_polling, _storms, _repeats, _hot_loop))


@rule(
    "MC101",
    "a request that the contract refuses",
    rests_on="the contract: paths, parameters, media types and schemas",
    example="The client posts to /v1/models/… and forgets the prefix of its base URL.",
    demand="The client sends only requests that the contract allows. An unknown field or parameter is advice.",
)
def _sends_what_is_allowed(run: Run) -> Iterator[Breach]:
    advice = []
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin != "api":
            continue
        asked = f"{exchange.method} {shorten(exchange.path)}"
        if exchange.unmatched:
            near = run.contract.nearest(exchange.method, exchange.path)
            if is_meant_for_api(run, exchange):
                yield Breach(f"The contract has no {asked}; the nearest it has is {near.method} {near.path}.", (index,))
            continue
        for violation in exchange.violations:
            if violation.kind == "authorization":
                continue
            where = violation.pointer or "/"
            said = f"{asked} at {where}: {violation.description}; sent {violation.sent}, allowed: {violation.allowed}."
            if violation.fatal:
                yield Breach(said, (index,))
            advice.append(Breach(said, (index,), "advice"))
        if exchange.status in REFUSING and exchange.fault is None and not exchange.violations:
            said = refusal_of(exchange)
            yield Breach(f"{asked} was refused with {exchange.status}{said}", (index,))
    yield from advice


@rule(
    "MC102",
    "the input arrives changed",
    rests_on="the contract: what is asked for is what is paid for",
    example="`{k: v for k, v in input.items() if v}` drops a 0, and the default applies.",
    demand=(
        "Each given input arrives unchanged. What is compared is the effective input: with documented defaults "
        "filled in, on both sides; leaving out what equals its default is fine."
    ),
)
def _sends_what_was_asked(run: Run) -> Iterator[Breach]:
    asked = effective(run.operation, run.case.input)
    for index, exchange in run.of_role("create"):
        operation = run.contract.by_id[str(exchange.operation_id)]
        if operation is not run.operation:
            yield Breach(f"The call asked {run.case.model}; the request went to {operation.model}.", (index,))
            continue
        arrived = input_of(exchange)
        if arrived is None:
            continue
        sent = effective(operation, arrived)
        for name in operation.input:
            if name not in asked and name not in sent:
                continue
            if exact(asked.get(name)) != exact(sent.get(name)):
                came = shorten(sent[name]) if name in sent else "nothing"
                given = shorten(asked[name]) if name in asked else "nothing"
                yield Breach(f"`{name}` was to be {given}; what arrived is {came}.", (index,))


@rule(
    "MC103",
    "a request without the right authorisation",
    rests_on="the contract: its security scheme is `Authorization: Bearer <token>`",
    example="`Authorization: Token …`, as older clients of this API sent.",
    demand="Every API request carries exactly `Authorization: Bearer <the token given>`. The files are public.",
)
def _authorises(run: Run) -> Iterator[Breach]:
    wanted = f"Bearer {run.token}"
    for index, exchange in enumerate(run.exchanges):
        operation = run.contract.by_id.get(exchange.operation_id or "")
        if exchange.origin != "api" or operation is None or operation.public:
            continue
        sent = [value for name, value in headers_of(exchange) if name == "authorization"]
        if sent != [wanted]:
            came = "none" if not sent else without_token(run, " and ".join(sent))
            yield Breach(f"Authorization was to be `Bearer <token>`; it was {came}.", (index,))


@rule(
    "MC201",
    "double billing",
    rests_on="money; the contract gives a create no idempotency key",
    example="The answer to a create is lost, and the client sends the create again.",
    demand=(
        "At most one prediction is created in one call. Repeating a create that was refused before it took effect "
        "is fine; repeating one whose answer was lost is not."
    ),
)
def _pays_once(run: Run) -> Iterator[Breach]:
    paid = run.committed
    if len(paid) > 1:
        yield Breach(f"One call created {len(paid)} predictions.", tuple(paid[1:]))


@rule(
    "MC202",
    "gives up without a cancel",
    severity="advice",
    rests_on="money; what nobody waits for any more is still worked on, and paid for",
    example="The client's own timeout strikes, and it leaves the prediction running.",
    demand=(
        "A client that declares a timeout cancels the prediction that it gives up on, or sent Cancel-After with it."
    ),
)
def _cancels(run: Run) -> Iterator[Breach]:
    if run.client_timeout is None or run.outcome.kind != "raised" or run.cut_off or run.ends:
        return
    known = [(index, exchange) for index, exchange in run.of_role("create") if served(exchange)]
    if not known or any(exchange.committed for _, exchange in run.of_role("cancel")):
        return
    index, create = known[-1]
    bounded = any(name == "cancel-after" for name, _ in headers_of(create))
    if not bounded and run.end not in TERMINAL:
        yield Breach("It gave up on a prediction that was still running, and sent no cancel.", (index,))


@rule(
    "MC301",
    "an outcome that is not true",
    rests_on="the contract: `status` says how a prediction ended",
    example="`canceled` is taken for an end like any other, and the call returns nothing, without an error.",
    demand=(
        "The client reports success if and only if the prediction succeeded and it was told so, in an answer that "
        "arrived whole. Raising is fine wherever the scenario holds any fault."
    ),
)
def _tells_the_truth(run: Run) -> Iterator[Breach]:
    if run.cut_off:
        return
    told = run.successes
    if run.outcome.kind == "returned":
        if not told:
            ended = run.ends
            if ended:
                said = f"the prediction ended {run.end}"
            elif run.committed:
                said = "it was never told, whole, that the prediction had succeeded"
            else:
                said = "no prediction was created"
            yield Breach(f"It reported success, though {said}.", tuple(ended[:1]))
        return
    expires = "retention" in run.case.scenario  # sooner than usual, perhaps before it could be fetched
    if run.outcome.kind != "raised" or not run.faultless or run.end != "succeeded" or run.varied or expires:
        return
    if told and has_output(run, told) and set(told) & set(run.ends):
        yield Breach(f"It raised, though it was told of success: {last_words(run)}", tuple(told[:1]))
    elif run.committed and not told and gave_up_too_soon(run):
        yield Breach(
            f"It raised while all was well and the prediction still ran: {last_words(run)}", (run.committed[-1],)
        )


@rule(
    "MC302",
    "not the output that was served",
    rests_on="the contract: `output` is the URL of the picture",
    example="`output[0]` of a string is its first character.",
    demand=(
        "What is returned is the output that was served: its URL, or the picture's bytes, whole. A list of one is "
        "the same thing."
    ),
)
def _returns_the_output(run: Run) -> Iterator[Breach]:
    told = run.successes
    if run.outcome.kind != "returned" or not told or run.cut_off:
        return
    value = single(run.outcome.value)
    if value is None and not has_output(run, told):
        return
    if isinstance(value, bytes):
        if value not in run.delivered:
            sizes = " or ".join(str(len(picture)) for picture in run.delivered)
            yield Breach(
                f"It returned {len(value)} bytes that are not the picture, which has {sizes}.", tuple(told[:1])
            )
    elif not isinstance(value, str) or value not in run.outputs:
        yield Breach(f"It returned {as_text(value)}, which is not the output.", tuple(told[:1]))


@rule(
    "MC303",
    "polls on after the end",
    rests_on="the contract: a terminal status never changes",
    example="`aborted` is not in the client's list of terminal statuses.",
    demand=(
        "Once it was told a terminal status, in an answer that arrived whole, the client stops polling. One read "
        "more, to confirm, is fine."
    ),
)
def _keeps_polling(run: Run) -> Iterator[Breach]:
    for end in run.ends:
        if run.role(run.exchanges[end]) == "stream":
            continue  # when its reader came to the end is not known
        identifier = run.exchanges[end].prediction_id
        polls = [(index, poll) for index, poll in run.of_role("get") if index > end and served(poll)]
        after = [index for index, poll in polls if poll.prediction_id == identifier]
        if identifier and len(after) > 1:
            said = f"It was told {status_at(run, end)} and polled at least {len(after)} times more."
            yield Breach(said, tuple(after[1:]))


@rule(
    "MC304",
    "does not end",
    rests_on="time; a suite that hangs is worse than one that fails",
    example="The client's own timeout is never looked at while it waits for the body of an answer.",
    demand=(
        "The call ends within the deadline once there is nothing left to wait for: the prediction has ended, or "
        "its create was refused for good, or the time is over after which the client promises to give up."
    ),
)
def _ends(run: Run) -> Iterator[Breach]:
    if run.outcome.kind != "hung":
        return
    ended = run.ends
    refused = [index for index, create in run.of_role("create") if create.status in FINAL_FOR_CREATE]
    if ended:
        yield Breach(
            f"It was told {status_at(run, ended[0])}, and had not ended {run.timeout:.3g} s later.", tuple(ended[:1])
        )
    elif refused and not run.committed and not run.cut_off:
        status = run.exchanges[refused[-1]].status
        yield Breach(
            f"Its create was refused with {status}, and it had not ended {run.timeout:.3g} s later.", (refused[-1],)
        )
    elif run.client_timeout is not None:
        promised = f"It promises to give up after {run.client_timeout:g} s"
        yield Breach(f"{promised}, and had not ended after {run.timeout:.3g} s.")


@rule(
    "MC305",
    "trips over legal variety",
    rests_on="the contract: what it leaves open may differ from one day to the next",
    example="`prediction['logs'].splitlines()`, where `logs` may be null.",
    demand=(
        "The outcome does not depend on what the contract leaves open: unknown fields and headers, null logs, "
        "absent optional fields, 200, 201 or 202, the precision of time stamps."
    ),
)
def _carries_on(run: Run) -> Iterator[Breach]:
    if run.control_run is None or not run.varied or not run.faultless or run.cut_off:
        return
    if run.outcome.kind != "returned" and run.control_run.kind == "returned":
        how = "hangs" if run.outcome.kind == "hung" else f"raises: {last_words(run)}"
        yield Breach(f"It succeeds where the gateway answers as usual; here it {how}", tuple(run.committed[:1]))


@rule(
    "MC401",
    "does not wait out Retry-After",
    rests_on="the contract: a 429 says when to come back (RFC 9110, 10.2.3); too early costs the next turn as well",
    example="Six requests back to back against a limit of one a second.",
    demand=(
        "The next request of an operation comes no sooner than its Retry-After allowed, in seconds or as a date. "
        "One that cannot be read must neither crash the client nor make it wait for ever."
    ),
)
def _waits(run: Run) -> Iterator[Breach]:
    for index, exchange in enumerate(run.exchanges):
        due = retry_allowed_at(exchange)
        if due is None:
            continue
        for later, again in list(enumerate(run.exchanges))[index + 1 :]:
            if (again.method, again.path) != (exchange.method, exchange.path):
                continue
            if again.received_at < due - GRACE:
                waited, asked = (again.received_at - exchange.received_at), (due - exchange.received_at)
                yield Breach(
                    f"It came back after {waited / SECOND:.2f} s; Retry-After asked for {asked / SECOND:.2f} s.",
                    (later,),
                )
            break
    unreadable = [index for index, exchange in enumerate(run.exchanges) if has_unreadable_retry_after(exchange)]
    if unreadable and run.control_run is not None and not run.cut_off and not run.varied:
        if run.outcome.kind == "raised" and run.control_run.kind == "returned":
            said = f"It carries on without a Retry-After, but one that cannot be read makes it raise: {last_words(run)}"
            yield Breach(said, tuple(unreadable[:1]))
        if run.outcome.kind == "hung" and run.control_run.kind != "hung":
            yield Breach("A Retry-After that cannot be read makes it wait beyond the deadline.", tuple(unreadable[:1]))


@rule(
    "MC402",
    "storms a gateway that is down",
    rests_on="time, and the gateway: retries without a bound keep a gateway from recovering",
    example="`while True: try … except HTTPError: continue`.",
    demand="Under an outage that lasts, a client sends at most 20 requests of one operation, and ends.",
)
def _bounds_retries(run: Run) -> Iterator[Breach]:
    yield from _storms(run)
    if run.outcome.kind == "hung" and not run.ends:
        lasting = [index for index, exchange in enumerate(run.exchanges) if _lasting(exchange)]
        if lasting and not any(retry_allowed_at(run.exchanges[index]) for index in lasting):
            yield Breach(f"The outage lasted, and after {run.timeout:.3g} s it had still not given up.", (lasting[-1],))


@rule(
    "MC403",
    "repeats what was refused for good",
    rests_on="the contract: 400, 401, 402, 403 and 422 are about the request, and it has not changed",
    example="A general retry around the call tries seven times to pay with an empty account.",
    demand=(
        "A create that was answered 400, 401, 402, 403 or 422 is not sent again as it was, nor a poll that was "
        "answered 401 or 403."
    ),
)
def _repeats(run: Run) -> Iterator[Breach]:
    refused: dict[tuple[str, str, bytes], int] = {}
    for index, exchange in enumerate(run.exchanges):
        asked = (exchange.method, exchange.path, exchange.body)
        if asked in refused:
            status = run.exchanges[refused[asked]].status
            yield Breach(f"It was refused with {status}, and sent the same again.", (index,))
        creating = run.role(exchange) == "create"
        if exchange.status in (FINAL_FOR_CREATE if creating else FINAL_FOR_POLL):
            refused[asked] = index


@rule(
    "MC404",
    "polls in a hot loop",
    severity="advice",
    rests_on="the gateway: polls are limited to 3,000 a minute",
    example="A loop without a pause.",
    demand="A client polls at most 50 times a second.",
)
def _hot_loop(run: Run) -> Iterator[Breach]:
    polls = [(index, poll.received_at) for index, poll in run.of_role("get") if poll.fault is None]
    for (_, first), (last, at) in zip(polls, polls[HOT_POLLS:], strict=False):
        if at - first < SECOND:
            yield Breach(f"It polled {HOT_POLLS + 1} times in {(at - first) / SECOND:.2f} s.", (last,))
            return


@rule(
    "MC405",
    "gives up after one transient failure",
    severity="advice",
    rests_on="money; the prediction is paid for, and a second poll would have found it",
    example="One 502 from a proxy, in three minutes of polling, ends the call.",
    demand="A single 502, 503 or 504, or one dropped connection, on a poll does not end the call.",
)
def _survives_a_hiccup(run: Run) -> Iterator[Breach]:
    met = [index for index, exchange in enumerate(run.exchanges) if exchange.fault is not None]
    if run.outcome.kind != "raised" or len(met) != 1 or run.cut_off or run.end != "succeeded" or run.ends:
        return
    poll = run.exchanges[met[0]]
    fault = fault_of(poll)
    transient = fault.status in TRANSIENT or fault.disconnect is not None
    if run.role(poll) == "get" and transient and fault.times == 1:
        yield Breach(f"One failed poll ended the call: {last_words(run)}", (met[0],))


@rule(
    "MC501",
    "the token in the wrong place",
    rests_on="secrets: URLs, bodies and output are logged, and other hosts are other people",
    example="The session that carries the token also fetches the picture from the file host.",
    demand=(
        "The token goes to the API's origin only: never to the file host or wherever else a URL leads; and never "
        "into a URL, a request's body or the client's output."
    ),
)
def _keeps_the_secret(run: Run) -> Iterator[Breach]:
    secret = run.token.encode()
    for index, exchange in enumerate(run.exchanges):
        shown = exchange.path.encode() + b"?" + exchange.query
        headers = b"\n".join(value for _, value in exchange.headers)
        if exchange.origin != "api" and secret in headers:
            there = "the file host" if exchange.origin == "files" else "an origin that is not the API's"
            yield Breach(f"The token went to {there}.", (index,))
        if secret in shown:
            yield Breach("The token stands in a URL.", (index,))
        if secret in exchange.body:
            yield Breach("The token stands in the body of a request.", (index,))
        if (
            exchange.origin == "api"
            and exchange.unmatched
            and secret in headers
            and not is_meant_for_api(run, exchange)
        ):
            yield Breach(f"The token went to {shorten(exchange.path)}, which is not the API's.", (index,))
    outcome = run.outcome
    if run.token in outcome.printed or run.token in outcome.message or run.token in str(outcome.value):
        yield Breach("The token stands in the client's output.")


@rule(
    "MC502",
    "leaves the base URL it was given",
    severity="advice",
    rests_on="the documents: `urls.*` there point at another host than the gateway, where its token means nothing",
    example="The client polls `urls.get` as it is.",
    demand=(
        "A client polls through the base URL that it was given when `urls.*` point elsewhere. With --strict-urls "
        "an error."
    ),
)
def _stays(run: Run) -> Iterator[Breach]:
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin == "foreign":
            said = f"It followed a URL of the prediction to another origin: {exchange.method} {shorten(exchange.path)}."
            yield Breach(said, (index,), "error" if run.strict_urls else None)


def _storms(run: Run) -> Iterator[Breach]:
    """More requests of one operation than an outage deserves."""
    counts: dict[str | None, int] = {}
    for index, exchange in enumerate(run.exchanges):
        if not _lasting(exchange):
            continue
        count = counts[exchange.operation_id] = counts.get(exchange.operation_id, 0) + 1
        if count > MAX_REQUESTS:
            yield Breach(
                f"While the outage lasted it sent {exchange.operation_id} more than {MAX_REQUESTS} times.", (index,)
            )
            return


def _lasting(exchange: Exchange) -> bool:
    if exchange.fault is None or exchange.fault.get("times") != "always":
        return False
    return exchange.status == 0 or exchange.status >= 429


RULES.update({each.code: each for each in RECEIVER_RULES})
