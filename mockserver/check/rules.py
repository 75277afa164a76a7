"""All rules in the order of their codes, and what a run broke of them."""

from __future__ import annotations

import msgspec

from mockserver.check.call_rules import polls_after_end
from mockserver.check.cases import Run
from mockserver.check.gateway_rules import GATEWAY_RULES
from mockserver.check.receiver_rules import RECEIVER_RULES
from mockserver.check.rule import RULES, Breach
from mockserver.check.together import calls_of
from mockserver.check.traffic_rules import exceeds_max_requests, polls_in_hot_loop, repeats_refused

__all__ = ["RULES", "find_breaches", "is_runaway"]

# The rules for clients are registered by importing their modules, in the order of their codes: call, then traffic.
RULES.update((other.code, other) for other in (*RECEIVER_RULES, *GATEWAY_RULES))


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
    if not call.positions:
        return breach
    return msgspec.structs.replace(breach, indexes=tuple(call.positions[index] for index in breach.indexes))


def is_runaway(run: Run) -> bool:
    """Whether a client that is still running has already broken a rule in a way that may never end."""
    endless = (polls_after_end, exceeds_max_requests, repeats_refused, polls_in_hot_loop)
    return any(next(observations(call), None) for call in calls_of(run) for observations in endless)
