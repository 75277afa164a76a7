"""What a hunt still looks for: every rule, until it was found broken in several ways, or one way was seen too often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity

MAX_FLAKES = 3  # of a cause; after that it is not looked for


class OpenRules:
    """The breaches that are looked for. Rules in `ignore` are not. Advice never stands in the way of an error."""

    def __init__(self, ignore: Iterable[str]) -> None:
        self._ignored = frozenset(ignore)
        self._causes: defaultdict[tuple[str, Severity], list[frozenset[str]]] = defaultdict(list)
        self._found: Counter[tuple[str, Severity]] = Counter()
        self._flakes: Counter[tuple[str, Severity, tuple[str, ...]]] = Counter()

    def rule(self, code: str) -> bool:
        """Whether anything is looked for under a rule."""
        return code not in self._ignored

    def accepts(self, breach: Breach) -> bool:
        """Whether a breach is looked for: not one whose cause is known, nor one of several causes if one is known."""
        if breach.rule in self._ignored or self._flakes[_way(breach)] >= MAX_FLAKES:
            return False
        severities: tuple[Severity, ...] = (
            ("error",) if breach.severity == "error" else ("error", "warning")
        )
        kinds = [(breach.rule, severity) for severity in severities]
        if any(self._found[kind] >= MAX_CAUSES for kind in kinds):
            return False
        return not any(cause <= set(breach.cause) for kind in kinds for cause in self._causes[kind])

    def filter(self, breaches: Iterable[Breach]) -> list[Breach]:
        """Those that are looked for."""
        return [breach for breach in breaches if self.accepts(breach)]

    def accept(self, breach: Breach) -> None:
        """Do not look for this cause any more: the baseline has it."""
        self._causes[breach.rule, breach.severity].append(frozenset(breach.cause))

    def found(self, breach: Breach) -> None:
        """Do not look for this cause any more: it is in the report, which has so many of a rule."""
        self.accept(breach)
        self._found[breach.rule, breach.severity] += 1

    def note_flake(self, breach: Breach) -> None:
        """Note a breach that was not confirmed."""
        self._flakes[_way(breach)] += 1


def _way(breach: Breach) -> tuple[str, Severity, tuple[str, ...]]:
    return breach.rule, breach.severity, tuple(breach.cause)
