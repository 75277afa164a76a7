"""What is demanded of webhook receivers."""

from __future__ import annotations

from mockserver.check.rule import Rule

_SIGNED = "the contract: webhooks are signed (Standard Webhooks 1.0), so that nobody else can send them"
RECEIVER_RULES = (
    Rule(
        "MC601",
        "refuses a genuine webhook",
        "error",
        "the contract: what is not answered 2xx within 5 s is delivered again, or lost",
        "Every genuine event is answered 2xx, also with two signatures, one of a key that is being replaced.",
        "The receiver compares the whole `webhook-signature` header with one signature.",
    ),
    Rule(
        "MC602",
        "takes a forged webhook",
        "error",
        _SIGNED,
        "A webhook that is signed with another key, or not at all, is not answered 2xx.",
        "`if (validateWebhook(request))`, where the function returns a promise, which is always true.",
    ),
    Rule(
        "MC603",
        "takes a tampered webhook",
        "error",
        _SIGNED,
        "A webhook whose body, id or timestamp is not what was signed is not answered 2xx.",
        "The receiver verifies the body alone, and trusts the headers.",
    ),
    Rule(
        "MC604",
        "takes a stale webhook",
        "error",
        "Standard Webhooks 1.0: a timestamp far from the present is refused, or the message can be replayed for ever",
        "A webhook that was signed an hour ago, or for an hour ahead, is not answered 2xx.",
        "The timestamp is part of what is verified, but is never compared with the clock.",
    ),
    Rule(
        "MC605",
        "refuses a duplicate or a late webhook",
        "error",
        "the contract: the same event may arrive twice, and late",
        "The same webhook again, and one that comes after the end, are answered 2xx: otherwise they come again.",
        "A second insert of the same id violates a constraint, and the receiver answers 500.",
    ),
)
