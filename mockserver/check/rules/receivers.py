"""MC6xx: what is demanded of webhook receivers."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run
from mockserver.check.rules.rule import Observation, Rule


def takes(status: int | None) -> bool:
    """Whether a receiver has taken a webhook that it answered so."""
    return status is not None and 200 <= status < 300


def _takes_what_is_not_genuine(run: Run, *, stale: bool) -> Iterator[Observation]:
    """Webhooks that a client's receiver took, and was to refuse: advice, where it may not have acted on them."""
    for index, exchange in enumerate(run.exchanges):
        wanted = (run.scenario.webhooks.timestamp == "stale") == stale
        if (
            exchange.origin == "receiver"
            and not exchange.committed
            and wanted
            and takes(exchange.status)
        ):
            why = "was signed an hour ago" if stale else "was not signed by the gateway"
            said = f"Its receiver answered {exchange.status} to a webhook that {why}."
            yield Observation(
                said, (index,), "warning", words=("webhook-timestamp",) if stale else ()
            )


def _takes_forged(run: Run) -> Iterator[Observation]:
    return _takes_what_is_not_genuine(run, stale=False)


def _takes_stale(run: Run) -> Iterator[Observation]:
    return _takes_what_is_not_genuine(run, stale=True)


_SIGNED = (
    "the contract: webhooks are signed (Standard Webhooks 1.0), so that nobody else can send them"
)
RECEIVER_RULES = (
    Rule(
        code="MC601",
        title="refuses a genuine webhook",
        severity="error",
        rests_on="the contract: what is not answered 2xx within 5 s is delivered again, or lost",
        demand="Every genuine event is answered 2xx, also with two signatures, one of a key that is being replaced.",
        example="The receiver compares the whole `webhook-signature` header with one signature.",
        fix="Split `webhook-signature` at blanks, and take it if one part is right; answer before doing the work.",
    ),
    Rule(
        code="MC602",
        title="takes a forged webhook",
        severity="error",
        rests_on=_SIGNED,
        demand="A webhook that is signed with another key, or not at all, is not answered 2xx.",
        example="`if (validateWebhook(request))`, where the function returns a promise, which is always true.",
        fix="Verify with a library for Standard Webhooks, over the raw body, await what it says, and answer 401 to no.",
        function=_takes_forged,
    ),
    Rule(
        code="MC603",
        title="takes a tampered webhook",
        severity="error",
        rests_on=_SIGNED,
        demand="A webhook whose body, id or timestamp is not what was signed is not answered 2xx.",
        example="The receiver verifies the body alone, and trusts the headers.",
        fix="Verify `id.timestamp.body` as it came, before anything is parsed.",
    ),
    Rule(
        code="MC604",
        title="takes a stale webhook",
        severity="error",
        rests_on="Standard Webhooks 1.0: a receiver that takes old timestamps takes replayed messages",
        demand="A webhook that was signed an hour ago, or for an hour ahead, is not answered 2xx.",
        example="The timestamp is part of what is verified, but is never compared with the clock.",
        fix="Refuse a timestamp more than five minutes from now, in either direction.",
        function=_takes_stale,
    ),
    Rule(
        code="MC605",
        title="refuses a duplicate or a late webhook",
        severity="error",
        rests_on="the contract: the same event may arrive twice, and late",
        demand="The same webhook again, and one that comes after `completed`, are answered 2xx, or they come again.",
        example="A second insert of the same id violates a constraint, and the receiver answers 500.",
        fix="Make handling idempotent: remember ids, and answer 2xx to what is known or out of date.",
    ),
)
