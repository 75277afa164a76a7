"""All rules in the order of their codes, and what a run broke of them."""

from __future__ import annotations

from mockserver.check.call_rules import polls_after_end
from mockserver.check.cases import Run
from mockserver.check.gateway_rules import GATEWAY_RULES
from mockserver.check.receiver_rules import RECEIVER_RULES
from mockserver.check.rule import RULES, Breach
from mockserver.check.traffic_rules import exceeds_max_requests, polls_in_hot_loop, repeats_refused

__all__ = ["RULES", "find_breaches", "is_runaway"]

# The rules for clients are registered by importing their modules, in the order of their codes: call, then traffic.
RULES.update((other.code, other) for other in (*RECEIVER_RULES, *GATEWAY_RULES))


def find_breaches(run: Run) -> list[Breach]:
    """Every rule that a run broke, in each way in which it did."""
    return [breach for rule in RULES.values() for breach in rule.breaches(run)]


def is_runaway(run: Run) -> bool:
    """Whether a client that is still running has already broken a rule in a way that may never end."""
    endless = (polls_after_end, exceeds_max_requests, repeats_refused, polls_in_hot_loop)
    return any(next(observations(run), None) for observations in endless)
