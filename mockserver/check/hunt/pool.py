"""A pool of players, which play cases in parallel.

Each player has a double and a driver of its own, so that nothing of one play reaches another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from mockserver.check.drive.protocol import Driver
from mockserver.check.hunt.harness import Harness

T = TypeVar("T")
JOBS_PER_CORE = 4  # clients spend more time waiting than working


def default_jobs() -> int:
    """How many cases are played in parallel by default."""
    return JOBS_PER_CORE * len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )


class PlayStopped(BaseException):
    """Raised by `PlayerPool.check` inside a play that is to stop.

    Like KeyboardInterrupt it is no Exception, so that a play does not mistake it for an error of
    the client.
    """


class PlayerPool:
    """A number of players, inside a `with` block. The first uses `harness` and `driver` directly.

    Leaving the block stops all plays.
    """

    def __init__(self, harness: Harness, driver: Driver, count: int) -> None:
        self._harness = harness
        self._driver = driver
        self._count = count
        self._idle: SimpleQueue[tuple[Harness, Driver]] = SimpleQueue()
        self._stopping = threading.Event()
        self._started: list[Future[Any]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._idle.put((self._harness, self._driver))
        for _ in range(self._count - 1):
            self._idle.put((self._stack.enter_context(self._harness.clone()), self._driver.clone()))

        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="player")
        self._stack.callback(self._threads.shutdown, cancel_futures=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._stack.close()

    def start(self, play: Callable[[Harness, Driver], T]) -> Future[T]:
        """Have the next idle player run `play`. The future raises PlayStopped if it was stopped."""

        def work() -> T:
            self.check()
            player = self._idle.get()
            try:
                return play(*player)
            finally:
                self._idle.put(player)

        future = self._threads.submit(work)
        self._started.append(future)
        return future

    def end_plays(self) -> None:
        """Stop all plays, and wait until they have ended. New ones can be started afterwards."""
        self._stopping.set()
        wait(self._started)
        self._started.clear()
        self._stopping.clear()

    def check(self) -> None:
        """Raise PlayStopped if the plays are to stop. A play must call it every now and then."""
        if self._stopping.is_set():
            raise PlayStopped
