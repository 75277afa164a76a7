"""All rules for clients in the order of their codes, and the breaches of a run."""

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
    """The breaches in a run: the first for each rule and cause."""
    calls = calls_of(run)
    breaches: dict[tuple[str, tuple[str, ...]], Breach] = {}
    for rule in RULES.values():
        for call in calls:
            for breach in rule.breaches(call):
                breaches.setdefault((rule.code, breach.cause), _among_all_calls(breach, call))
    return list(breaches.values())


def _among_all_calls(breach: Breach, call: Run) -> Breach:
    """A breach of one call, with the indexes of its exchanges in the whole run."""
    if not call.exchange_indexes:
        return breach
    return msgspec.structs.replace(
        breach, indexes=tuple(call.exchange_indexes[index] for index in breach.indexes)
    )


def is_runaway(run: Run) -> bool:
    """Whether a running client has already broken a rule, and may do so forever."""
    endless = (polls_after_end, exceeds_max_requests, repeats_refused, polls_in_hot_loop)
    return any(next(observations(call), None) for call in calls_of(run) for observations in endless)
