"""BackgroundSampler cases with Hypothesis: beside the plays, since that takes as long as they do, or all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Full, Queue
from types import TracebackType
from typing import Self

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mockserver.check.model import Case

AHEAD = 100  # cases that are drawn before they are asked for
PATIENCE = 0.1  # seconds between looks at whether anybody still wants them


class _Closed(BaseException):
    """Nobody wants the rest. Not an Exception: Hypothesis would take that for a failing example."""


def sample_all(cases: st.SearchStrategy[Case], seed: int, count: int, wanted: int) -> list[Case]:
    """The first `wanted` of so many cases, at once.

    For a client in this process, while no call of it is under way: Hypothesis seeds the `random`
    module while it draws, and warns of anybody else who uses it.
    """
    drawn: list[Case] = []

    def take(case: Case) -> None:
        drawn.append(case)
        if len(drawn) >= wanted:
            raise _Closed

    with suppress(_Closed):
        _draw(cases, seed, count, take)
    return drawn


class BackgroundSampler:
    """So many cases, in an order that the seed fixes; drawn in a thread of its own for the time of a `with` block."""

    def __init__(self, cases: st.SearchStrategy[Case], seed: int, count: int) -> None:
        self._cases, self._seed, self._count = cases, seed, count
        self._drawn: Queue[Case | Exception | None] = Queue(AHEAD)
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="drawing", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Case]:
        while (drawn := self._drawn.get()) is not None:
            if isinstance(drawn, Exception):
                raise drawn
            yield drawn

    def _run(self) -> None:
        with suppress(_Closed):
            try:
                _draw(self._cases, self._seed, self._count, self._put)
            except Exception as reason:
                self._put(reason)
            else:
                self._put(None)

    def _put(self, drawn: Case | Exception | None) -> None:
        while not self._closed.is_set():
            try:
                return self._drawn.put(drawn, timeout=PATIENCE)
            except Full:
                continue
        raise _Closed


def _draw(
    cases: st.SearchStrategy[Case], seed: int, count: int, take: Callable[[Case], None]
) -> None:
    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def draw(case: Case) -> None:
        take(case)

    draw()
