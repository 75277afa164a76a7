"""Samples cases with Hypothesis, in a thread beside the runs, or all at once."""

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

AHEAD = 100  # cases that are sampled before they are needed
PATIENCE = 0.1  # seconds between checks for the end of the `with` block


class _Closed(BaseException):
    """No more cases are needed. Hypothesis would treat an Exception as a failing example."""


def sample_all(cases: st.SearchStrategy[Case], seed: int, count: int, wanted: int) -> list[Case]:
    """The first `wanted` of `count` cases, all at once.

    This is for a client in this process, while it is not called: Hypothesis seeds the `random`
    module while it samples, and warns if other code uses it.
    """
    sampled: list[Case] = []

    def take(case: Case) -> None:
        sampled.append(case)
        if len(sampled) >= wanted:
            raise _Closed

    with suppress(_Closed):
        _sample(cases, seed, count, take)
    return sampled


class BackgroundSampler:
    """Cases that are sampled in a thread, for the time of a `with` block.

    Their order depends on the seed only. Sampling takes about as long as the runs.
    """

    def __init__(self, cases: st.SearchStrategy[Case], seed: int, count: int) -> None:
        self._cases, self._seed, self._count = cases, seed, count
        self._queue: Queue[Case | Exception | None] = Queue(AHEAD)
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
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
        while (sampled := self._queue.get()) is not None:
            if isinstance(sampled, Exception):
                raise sampled
            yield sampled

    def _run(self) -> None:
        with suppress(_Closed):
            try:
                _sample(self._cases, self._seed, self._count, self._put)
            except Exception as reason:
                self._put(reason)
            else:
                self._put(None)

    def _put(self, sampled: Case | Exception | None) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(sampled, timeout=PATIENCE)
            except Full:
                continue
        raise _Closed


def _sample(
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
    def sample(case: Case) -> None:
        take(case)

    sample()
