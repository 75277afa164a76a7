"""MC6xx: rules for webhook receivers."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run
from mockserver.check.rules.rule import Observation, Rule


def accepts(status: int | None) -> bool:
    """Whether a receiver that answers with this status has accepted the webhook."""
    return status is not None and 200 <= status < 300


def _accepted(run: Run, *, stale: bool) -> Iterator[Observation]:
    """Stale or forged webhooks that a client's receiver accepted.

    They are warnings, since the client may not have acted on them.
    """
    for index, exchange in enumerate(run.exchanges):
        is_kind = (run.scenario.webhooks.timestamp == "stale") == stale
        if (
            exchange.arrived_at == "receiver"
            and not exchange.committed
            and is_kind
            and accepts(exchange.status)
        ):
            kind = "signed an hour ago" if stale else "not signed by the gateway"
            message = f"Its receiver answered {exchange.status} to a webhook that was {kind}."
            words = ("webhook-timestamp",) if stale else ()
            yield Observation(message, (index,), "warning", words=words)


def _accepts_forged(run: Run) -> Iterator[Observation]:
    return _accepted(run, stale=False)


def _accepts_stale(run: Run) -> Iterator[Observation]:
    return _accepted(run, stale=True)


_SIGNED = (
    "the contract: webhooks are signed (Standard Webhooks 1.0), so that nobody else can send them"
)
RECEIVER_RULES = (
    Rule(
        code="MC601",
        title="rejects a valid webhook",
        severity="error",
        rests_on=(
            "the contract: an event that is not answered 2xx within 5 s is sent again, or lost"
        ),
        demand=(
            "The receiver answers every genuine event with 2xx, also if it has two signatures "
            "because a key is being rotated."
        ),
        example="The receiver compares the whole `webhook-signature` header with one signature.",
        fix=(
            "Split `webhook-signature` at spaces, and accept the event if one signature is valid. "
            "Respond before doing the work."
        ),
    ),
    Rule(
        code="MC602",
        title="accepts a forged webhook",
        severity="error",
        rests_on=_SIGNED,
        demand=(
            "The receiver does not answer 2xx to a webhook that is unsigned or signed with another "
            "key."
        ),
        example=(
            "`if (validateWebhook(request))`, where the function returns a promise, which is "
            "always truthy."
        ),
        fix=(
            "Verify the raw body with a Standard Webhooks library, await the result, and answer "
            "401 if it is invalid."
        ),
        function=_accepts_forged,
    ),
    Rule(
        code="MC603",
        title="accepts a tampered webhook",
        severity="error",
        rests_on=_SIGNED,
        demand=(
            "The receiver does not answer 2xx to a webhook whose body, id or timestamp differs "
            "from what was signed."
        ),
        example="The receiver verifies only the body, and trusts the headers.",
        fix="Verify `id.timestamp.body` as received, before parsing anything.",
    ),
    Rule(
        code="MC604",
        title="accepts a stale webhook",
        severity="error",
        rests_on=(
            "Standard Webhooks 1.0: a receiver that accepts old timestamps accepts replayed "
            "messages"
        ),
        demand=(
            "The receiver does not answer 2xx to a webhook whose timestamp is an hour old, or an "
            "hour ahead."
        ),
        example=(
            "The timestamp is part of the signed content, but is never compared with the clock."
        ),
        fix=(
            "Reject timestamps that are more than five minutes from the current time, in either "
            "direction."
        ),
        function=_accepts_stale,
    ),
    Rule(
        code="MC605",
        title="rejects a duplicate or late webhook",
        severity="error",
        rests_on="the contract: an event may arrive twice, and late",
        demand=(
            "The receiver answers 2xx to a webhook that it has received before, and to one that "
            "arrives after `completed`; otherwise they are sent again."
        ),
        example="Inserting the same id twice violates a constraint, and the receiver answers 500.",
        fix=(
            "Make the handler idempotent: remember ids, and answer 2xx to known and outdated "
            "events."
        ),
    ),
)
