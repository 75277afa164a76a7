"""What a hunt still looks for: every rule, until it was found broken in several ways, or was seen once too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mockserver.check.rule import Breach

MAX_CAUSES = 5  # of a rule that are told apart
MAX_FLAKES = 3  # of a rule; after that it is not looked for


class Wanted:
    """The breaches that are looked for. Rules in `ignore` are not."""

    def __init__(self, ignore: Iterable[str]) -> None:
        self._muted = set(ignore)
        self._causes: dict[str, list[frozenset[str]]] = {}
        self._found: Counter[str] = Counter()
        self._flakes: dict[str, int] = {}

    def rule(self, code: str) -> bool:
        """Whether anything is looked for under a rule."""
        return code not in self._muted

    def holds(self, breach: Breach) -> bool:
        """Whether a breach is looked for: not one whose cause is known, nor one of several causes if one is known."""
        known = self._causes.get(breach.rule, ())
        return self.rule(breach.rule) and not any(cause <= set(breach.cause) for cause in known)

    def among(self, breaches: Iterable[Breach]) -> list[Breach]:
        """Those that are looked for."""
        return [breach for breach in breaches if self.holds(breach)]

    def accept(self, breach: Breach) -> None:
        """Do not look for this cause any more: the baseline has it."""
        self._causes.setdefault(breach.rule, []).append(frozenset(breach.cause))

    def found(self, breach: Breach) -> None:
        """Do not look for this cause any more: it is in the report, which has so many of a rule."""
        self.accept(breach)
        self._found[breach.rule] += 1
        if self._found[breach.rule] >= MAX_CAUSES:
            self._muted.add(breach.rule)

    def seen_once(self, code: str) -> None:
        """Note a breach that was not confirmed."""
        self._flakes[code] = self._flakes.get(code, 0) + 1
        if self._flakes[code] >= MAX_FLAKES:
            self._muted.add(code)
