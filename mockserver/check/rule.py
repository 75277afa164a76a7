"""What a rule is: a code, what it demands and why, and the function that looks for breaches in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from mockserver.check.cases import Run

Severity = Literal["error", "advice"]


class Observation(msgspec.Struct, frozen=True):
    """What a rule's function saw: a sentence, and the indexes of the exchanges that show it.

    `severity` is only set where it differs from the rule's own.
    """

    message: str
    indexes: tuple[int, ...] = ()
    severity: Severity | None = None


class Breach(msgspec.Struct, frozen=True):
    """One way in which a run broke a rule: an observation with its rule and severity filled in."""

    rule: str
    severity: Severity
    message: str
    indexes: tuple[int, ...] = ()


RuleFunction = Callable[[Run], Iterator[Observation]]


class Rule(NamedTuple):
    """One thing that is demanded, with its stable code, what it rests on, and an example of a client that breaks it.

    A rule for webhook receivers has no function: `check_receiver` judges each response as it comes.
    """

    code: str
    title: str
    severity: Severity
    rests_on: str
    demand: str
    example: str
    function: RuleFunction | None = None

    def first_breach(self, run: Run) -> Breach | None:
        """The first breach of this rule in a run, or None."""
        seen = next(self.function(run), None) if self.function is not None else None
        if seen is None:
            return None
        return Breach(self.code, seen.severity or self.severity, seen.message, seen.indexes)


# Filled by mockserver.check.rules: import it from there, so that it is never seen empty.
RULES: dict[str, Rule] = {}


def rule(
    code: str, title: str, *, rests_on: str, demand: str, example: str, severity: Severity = "error"
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule `code`."""

    def register(function: RuleFunction) -> RuleFunction:
        assert code not in RULES, f"two rules have the code {code}"
        RULES[code] = Rule(code, title, severity, rests_on, demand, example, function)
        return function

    return register
