"""The progress of a hunt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a hunt: `elapsed` and `budget` in seconds, `doing` its current activity."""

    runs: int
    max_runs: int
    broken_rules: tuple[str, ...]
    elapsed: float
    budget: float
    doing: str


Listener = Callable[[Progress], None]
