"""MC1xx: what a client sends."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run, with_defaults
from mockserver.check.rules.evidence import (
    body_sent,
    comparable,
    headers_of,
    meant_for_api,
    operation_of_exchange,
    reason_given,
    refusal_detail,
    sent_nothing,
    without_token,
)
from mockserver.check.rules.outcomes import REFUSAL_STATUSES
from mockserver.check.rules.rule import Observation, rule
from mockserver.json_text import shorten


@rule(
    "MC101",
    "a request that the contract refuses",
    rests_on="the contract: paths, parameters, media types and schemas",
    example="The client posts to /v1/models/… and forgets the prefix of its base URL.",
    demand="The client sends only requests that the contract allows. An unknown field or parameter is a warning.",
    fix=(
        "Compare what was sent with the operation in the contract: path and prefix, `Content-Type: "
        "application/json`, and each field's name, type and range."
    ),
)
def _invalid_request(run: Run) -> Iterator[Observation]:
    warnings = []
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin != "api":
            continue
        asked = f"{exchange.method} {shorten(exchange.path)}"
        if exchange.unmatched:
            if meant_for_api(run, exchange):
                said = run.contract.explain_unknown(exchange.method, exchange.path)
                yield Observation(
                    said, (index,), None, ("unknown path", exchange.method), (exchange.path,)
                )
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
                warnings.append(Observation(said, (index,), "warning", cause, (word,)))
        if (
            exchange.status in REFUSAL_STATUSES
            and exchange.fault is None
            and not exchange.violations
        ):
            said = refusal_detail(exchange)
            refused = f"{asked} was refused with {exchange.status}{said}"
            yield Observation(refused, (index,), cause=(about, str(exchange.status)))
    yield from warnings


@rule(
    "MC102",
    "the input arrives changed",
    rests_on="the contract: what is asked for is what is paid for",
    example="`{k: v for k, v in input.items() if v}` drops a 0, and the default applies.",
    demand=(
        "Each given input arrives unchanged. What is compared is the effective input: with documented defaults "
        "filled in, on both sides; leaving out what equals its default is fine. To add a number that has no default, "
        "as a seed, is a warning, and so is to refuse an input that the contract allows, and send nothing."
    ),
    fix=(
        "Pass the input on as it was given: leave out only what is absent, not what is falsy; trim, cut and "
        "convert nothing; encode as UTF-8."
    ),
)
def _changed_input(run: Run) -> Iterator[Observation]:
    if sent_nothing(run) and (run.control_run is None or run.control_run.kind == "returned"):
        said = f"It raised, and sent nothing, for an input that the contract allows: {reason_given(run)}"
        yield Observation(said, (), "warning", ("not sent",))
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
                # A number that the gateway would have drawn, as a seed, may be drawn by the client,
                # to be known.
                drawn = name not in asked and operation.input[name].get("type") == "integer"
                yield Observation(said, (index,), "warning" if drawn else None, (name,), (name,))


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
