"""What a rule is: a code, what it demands and why, and the function that looks for breaches in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from mockserver.check.model import Run
from mockserver.reporting.rule import RuleFacts, Severity


class Observation(msgspec.Struct, frozen=True):
    """What a rule's function saw: a sentence, and the indexes of the exchanges that show it.

    `severity` is only set where it differs from the rule's own. `cause` is what was wrong, in words
    such as a pointer, an operation or a status, for a rule that can be broken in several ways; each
    is a finding of its own. `words` are those that a reader should look for in the exchanges.
    """

    message: str
    indexes: tuple[int, ...] = ()
    severity: Severity | None = None
    cause: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Breach(msgspec.Struct, frozen=True):
    """One way in which a run broke a rule: an observation with its rule and severity filled in."""

    rule: str
    severity: Severity
    message: str
    indexes: tuple[int, ...] = ()
    cause: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


RuleFunction = Callable[[Run], Iterator[Observation]]


class Rule(RuleFacts, frozen=True, kw_only=True):
    """A rule for clients. One without a function is judged elsewhere, response by response."""

    function: RuleFunction | None = None

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The breaches of this rule in a run: the first of each cause."""
        causes: set[tuple[str, ...]] = set()
        for seen in self.function(run) if self.function is not None else ():
            if seen.cause not in causes:
                causes.add(seen.cause)
                severity = seen.severity or self.severity
                yield Breach(
                    self.code, severity, seen.message, seen.indexes, seen.cause, seen.words
                )


# Those with a function, as their modules are imported; mockserver.check.rules.registry has all of
# them.
REGISTERED: dict[str, Rule] = {}


def rule(
    code: str,
    title: str,
    *,
    rests_on: str,
    demand: str,
    example: str,
    fix: str,
    severity: Severity = "error",
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule `code`."""

    def register(function: RuleFunction) -> RuleFunction:
        assert code not in REGISTERED, f"two rules have the code {code}"
        REGISTERED[code] = Rule(
            code=code,
            title=title,
            severity=severity,
            rests_on=rests_on,
            demand=demand,
            example=example,
            fix=fix,
            function=function,
        )
        return function

    return register
