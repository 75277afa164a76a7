"""All rules for clients in the order of their codes, and what a run broke of them."""

from __future__ import annotations

import msgspec

from mockserver.check.model import Run
from mockserver.check.rules import billing, outcomes, receivers, requests, secrets, traffic
from mockserver.check.rules.calls import calls_of
from mockserver.check.rules.outcomes import polls_after_end
from mockserver.check.rules.receivers import RECEIVER_RULES
from mockserver.check.rules.rule import REGISTERED, Breach, Rule
from mockserver.check.rules.traffic import exceeds_max_requests, polls_in_hot_loop, repeats_refused

# Importing a family registers its rules.
FAMILIES = (requests, billing, outcomes, traffic, secrets, receivers)
RULES: dict[str, Rule] = dict(
    sorted({**REGISTERED, **{rule.code: rule for rule in RECEIVER_RULES}}.items())
)


def find_breaches(run: Run) -> list[Breach]:
    """Every rule that a run broke, in each way in which it did."""
    calls = calls_of(run)
    found: dict[tuple[str, tuple[str, ...]], Breach] = {}
    for rule in RULES.values():
        for call in calls:
            for breach in rule.breaches(call):
                found.setdefault((rule.code, breach.cause), _in_whole(breach, call))
    return list(found.values())


def _in_whole(breach: Breach, call: Run) -> Breach:
    """A breach of one of several calls, with the places of its exchanges among all of them."""
    if not call.exchange_indexes:
        return breach
    return msgspec.structs.replace(
        breach, indexes=tuple(call.exchange_indexes[index] for index in breach.indexes)
    )


def is_runaway(run: Run) -> bool:
    """Whether a client that is still running has already broken a rule in a way that may never end."""
    endless = (polls_after_end, exceeds_max_requests, repeats_refused, polls_in_hot_loop)
    return any(next(observations(call), None) for call in calls_of(run) for observations in endless)
