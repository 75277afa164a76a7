"""MC1xx: the requests that a client sends."""

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
from mockserver.reporting.rule import Severity


@rule(
    "MC101",
    "sends an invalid request",
    rests_on="the contract: paths, parameters, media types and schemas",
    demand=(
        "The client sends only requests that the contract allows. An unknown field or parameter is "
        "a warning."
    ),
    example="The client posts to /v1/models/… without the path prefix of its base URL.",
    fix=(
        "Compare the request with the operation in the contract: path and prefix, `Content-Type: "
        "application/json`, and the name, type and range of each field."
    ),
)
def _invalid_request(run: Run) -> Iterator[Observation]:
    warnings = []
    for index, exchange in enumerate(run.exchanges):
        if exchange.arrived_at != "api":
            continue
        request = f"{exchange.method} {shorten(exchange.path)}"
        if exchange.unmatched:
            if meant_for_api(run, exchange):
                message = run.contract.explain_unknown(exchange.method, exchange.path)
                cause = ("unknown path", exchange.method)
                yield Observation(message, (index,), None, cause, (exchange.path,))
            continue

        about = operation_of_exchange(run, exchange)
        for violation in exchange.violations:
            if violation.kind == "authorization":
                continue  # that is MC103
            where = violation.pointer or "/"
            message = (
                f"{request} at {where}: {violation.description}; sent {violation.sent}, "
                f"allowed: {violation.allowed}."
            )
            ways, word = (about, where, violation.kind), where.rpartition("/")[2]
            if violation.fatal:
                yield Observation(message, (index,), None, ways, (word,))
            else:
                warnings.append(Observation(message, (index,), "warning", ways, (word,)))

        if (
            exchange.status in REFUSAL_STATUSES
            and exchange.fault is None
            and not exchange.violations
        ):
            message = f"{request} was rejected with {exchange.status}{refusal_detail(exchange)}"
            yield Observation(message, (index,), cause=(about, str(exchange.status)))
    yield from warnings


@rule(
    "MC102",
    "changes the input",
    rests_on="the contract: the caller pays for what is requested",
    demand=(
        "Every input arrives unchanged. The comparison fills in documented defaults on both sides, "
        "so a client may leave out a value that equals its default. Two things are warnings: to "
        "add a number that has no default, such as a seed, and to reject an input that the "
        "contract allows without sending anything."
    ),
    example="`{k: v for k, v in input.items() if v}` drops a 0, so the default applies.",
    fix=(
        "Pass the input through as it is. Leave out only absent values, not falsy ones; do not "
        "trim, truncate or convert; encode as UTF-8."
    ),
)
def _changed_input(run: Run) -> Iterator[Observation]:
    if sent_nothing(run) and (run.control_run is None or run.control_run.kind == "returned"):
        message = f"It rejected a valid input without sending anything: {reason_given(run)}"
        yield Observation(message, (), "warning", ("not sent",))

    requested = with_defaults(run.operation, run.case.input)
    for index, exchange in run.of_role("create"):
        body = body_sent(exchange)
        operation = run.contract.model_asked(run.contract.by_id[str(exchange.operation_id)], body)
        if operation is None:
            continue  # the version does not exist: that is MC101
        if operation is not run.operation:
            message = f"The call was for {run.case.model}, the request for {operation.model}."
            yield Observation(message, (index,), cause=("model",))
            continue
        arrived = body.get("input")
        if not isinstance(arrived, dict):
            continue

        sent = with_defaults(operation, arrived)
        for name in operation.input:
            if comparable(requested.get(name)) == comparable(sent.get(name)):
                continue
            expected = shorten(requested[name]) if name in requested else "absent"
            arrived_as = shorten(sent[name]) if name in sent else "absent"
            message = f"`{name}` should be {expected}, but arrived as {arrived_as}."

            # A client may choose a number that the gateway would choose otherwise, such as a seed,
            # because only then it knows it.
            is_choice = name not in requested and operation.input[name].get("type") == "integer"
            severity: Severity | None = "warning" if is_choice else None
            yield Observation(message, (index,), severity, (name,), (name,))


@rule(
    "MC103",
    "sends the wrong Authorization header",
    rests_on="the contract: its security scheme is `Authorization: Bearer <token>`",
    demand=(
        "Every API request has exactly `Authorization: Bearer <token>`, with the token that the "
        "client was configured with. Files are public."
    ),
    example="`Authorization: Token …`, as older clients of this API send.",
    fix=(
        "Set `Authorization: Bearer <token>` in the one place where API requests are built, "
        "including polls and cancels."
    ),
)
def _wrong_authorization(run: Run) -> Iterator[Observation]:
    expected = f"Bearer {run.token}"
    for index, exchange in enumerate(run.exchanges):
        operation = run.contract.by_id.get(exchange.operation_id or "")
        if exchange.arrived_at != "api" or operation is None or operation.public:
            continue
        sent = [value for name, value in headers_of(exchange) if name == "authorization"]
        if sent != [expected]:
            actual = without_token(run, " and ".join(sent)) if sent else "missing"
            message = f"Authorization should be `Bearer <token>`, but was {actual}."
            cause = (operation.family,)
            yield Observation(message, (index,), cause=cause, words=("authorization",))
