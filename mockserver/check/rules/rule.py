"""Rules for clients: facts, and a function that finds breaches in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from mockserver.check.model import Run
from mockserver.reporting.rule import RuleFacts, Severity


class Observation(msgspec.Struct, frozen=True):
    """One breach as a rule's function sees it: a sentence, and the indexes of its exchanges.

    `severity` is only set where it differs from the rule's. `cause` distinguishes the ways in which
    a rule can be broken, by words such as a pointer, an operation or a status; each cause is a
    separate finding. `words` are what a reader should look for in the exchanges.
    """

    message: str
    indexes: tuple[int, ...] = ()
    severity: Severity | None = None
    cause: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Breach(msgspec.Struct, frozen=True):
    """One way in which a run broke a rule: an observation with its rule and severity."""

    rule: str
    severity: Severity
    message: str
    indexes: tuple[int, ...] = ()
    cause: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


RuleFunction = Callable[[Run], Iterator[Observation]]


class Rule(RuleFacts, frozen=True, kw_only=True):
    """A rule for clients. One without a function is judged elsewhere, for each response."""

    function: RuleFunction | None = None

    def breaches(self, run: Run) -> Iterator[Breach]:
        """The breaches of this rule in a run: the first of each cause."""
        causes: set[tuple[str, ...]] = set()
        for observation in self.function(run) if self.function is not None else ():
            if observation.cause in causes:
                continue
            causes.add(observation.cause)
            yield Breach(
                self.code,
                observation.severity or self.severity,
                observation.message,
                observation.indexes,
                observation.cause,
                observation.words,
            )


# Rules with a function; importing their modules adds them. The registry module has all rules.
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
