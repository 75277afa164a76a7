"""Which breaches a hunt still looks for: those of rules that are neither ignored nor settled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from mockserver.check.report.findings import MAX_CAUSES
from mockserver.check.rules.rule import Breach
from mockserver.reporting.rule import Severity

MAX_FLAKES = 3  # unconfirmed breaches of one cause, after which that cause is not looked for


class OpenRules:
    """The breaches that a hunt still looks for.

    Each rule is open until it has `MAX_CAUSES` findings, errors and warnings counted separately. A
    warning never hides an error. Rules in `ignore` are never open.
    """

    def __init__(self, ignore: Iterable[str]) -> None:
        self._ignored = frozenset(ignore)
        self._causes: defaultdict[tuple[str, Severity], list[frozenset[str]]] = defaultdict(list)
        self._findings: Counter[tuple[str, Severity]] = Counter()
        self._flakes: Counter[tuple[str, Severity, tuple[str, ...]]] = Counter()

    def includes(self, code: str) -> bool:
        """Whether a rule is looked for at all."""
        return code not in self._ignored

    def accepts(self, breach: Breach) -> bool:
        """Whether a breach is looked for: not if its cause, or a part of that, is known already."""
        if breach.rule in self._ignored or self._flakes[_key(breach)] >= MAX_FLAKES:
            return False

        # A known error makes a warning of the same cause superfluous, but not vice versa.
        severities: tuple[Severity, ...] = (
            ("error",) if breach.severity == "error" else ("error", "warning")
        )
        kinds = [(breach.rule, severity) for severity in severities]
        if any(self._findings[kind] >= MAX_CAUSES for kind in kinds):
            return False
        return not any(cause <= set(breach.cause) for kind in kinds for cause in self._causes[kind])

    def filter(self, breaches: Iterable[Breach]) -> list[Breach]:
        """The breaches that are looked for."""
        return [breach for breach in breaches if self.accepts(breach)]

    def note_accepted(self, breach: Breach) -> None:
        """Stop looking for this cause: the baseline accepts it."""
        self._causes[breach.rule, breach.severity].append(frozenset(breach.cause))

    def note_finding(self, breach: Breach) -> None:
        """Stop looking for this cause: the report has it. It counts toward `MAX_CAUSES`."""
        self.note_accepted(breach)
        self._findings[breach.rule, breach.severity] += 1

    def note_flake(self, breach: Breach) -> None:
        """Note a breach that was not confirmed."""
        self._flakes[_key(breach)] += 1


def _key(breach: Breach) -> tuple[str, Severity, tuple[str, ...]]:
    return breach.rule, breach.severity, tuple(breach.cause)
