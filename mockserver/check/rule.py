"""What a rule is, and the table of all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from mockserver.check.cases import Run

Severity = Literal["error", "advice"]


class Breach(msgspec.Struct, frozen=True):
    """One way in which a run broke a rule: a sentence, and the indexes of the exchanges that show it.

    `severity` is the rule's own unless the rule's function sets it; `rule` is filled in by `find_breaches`.
    """

    message: str
    indexes: tuple[int, ...] = ()
    severity: Severity | None = None
    rule: str = ""


RuleFunction = Callable[[Run], Iterator[Breach]]


class Rule(NamedTuple):
    """One thing that is demanded, with its stable code, what it rests on, and an example of a client that breaks it."""

    code: str
    title: str
    severity: Severity
    rests_on: str
    demand: str
    example: str
    function: RuleFunction | None = None


RULES: dict[str, Rule] = {}


def rule(
    code: str, title: str, *, rests_on: str, demand: str, example: str, severity: Severity = "error"
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule `code`."""

    def register(function: RuleFunction) -> RuleFunction:
        RULES[code] = Rule(code, title, severity, rests_on, demand, example, function)
        return function

    return register
