"""The wall time that a hunt may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mockserver.clock import SECOND, wall_time


class BudgetSpent(Exception):
    """The budget of a hunt is spent: no further case is played."""


class Budget:
    """A number of seconds, counted from the creation of the budget."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = wall_time()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return (wall_time() - self._started) / SECOND

    @property
    def is_spent(self) -> bool:
        """Whether more time has passed than the budget allows."""
        return self.elapsed > self.seconds

    def check(self) -> None:
        """Raise BudgetSpent if the budget is spent."""
        if self.is_spent:
            raise BudgetSpent

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Extend the budget by the time that the block takes."""
        started = self.elapsed
        yield
        self.seconds += self.elapsed - started
