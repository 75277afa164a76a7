"""Several plays at once: each player has a double and a client of its own, so that nothing of one reaches another."""

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
JOBS_PER_CORE = 4  # clients wait more than they work


def default_jobs() -> int:
    """How many cases are played at once where nobody says."""
    return JOBS_PER_CORE * len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )


class Stopped(BaseException):
    """The plays are to end now, whatever they were about. Raised by `Players.check` inside a play."""


class Players:
    """So many players, for the time of a `with` block; the first has the harness and the driver that are given."""

    def __init__(self, harness: Harness, driver: Driver, count: int) -> None:
        self._harness, self._driver, self._count = harness, driver, count
        self._free: SimpleQueue[tuple[Harness, Driver]] = SimpleQueue()
        self._stopped = threading.Event()
        self._started: list[Future[Any]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._free.put((self._harness, self._driver))
        for _ in range(self._count - 1):
            self._free.put((self._stack.enter_context(self._harness.clone()), self._driver.clone()))
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="player")
        self._stack.callback(self._threads.shutdown, cancel_futures=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        reason: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._stack.close()

    def start(self, play: Callable[[Harness, Driver], T]) -> Future[T]:
        """Have the next player that is free play something."""

        def work() -> T:
            self.check()
            player = self._free.get()
            try:
                return play(*player)
            finally:
                self._free.put(player)

        play_of = self._threads.submit(work)
        self._started.append(play_of)
        return play_of

    def end_plays(self) -> None:
        """End every play that goes on."""
        self._stopped.set()
        wait(self._started)
        self._started.clear()
        self._stopped.clear()

    def check(self) -> None:
        """Raise Stopped if all plays are to end. To be called now and then during a play."""
        if self._stopped.is_set():
            raise Stopped
