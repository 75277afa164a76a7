"""Where a hunt stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a hunt stands: `elapsed` of its `budget`, in seconds, and what it is `doing`."""

    runs: int
    max_runs: int
    broken_rules: tuple[str, ...]
    elapsed: float
    budget: float
    doing: str


Listener = Callable[[Progress], None]
