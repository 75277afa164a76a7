"""What is under way for a tenant while the server runs: background tasks, and those that wait for its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mockserver.clock import Clock

SETTLE_LIMIT = 5.0  # seconds of real time


class Follower:
    """One that waits for a tenant's clock, and acts when it has moved: idle while it sleeps, busy while it acts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()

    async def sleep_until(self, elapsed: int | None) -> None:
        """Sleep until the clock's `elapsed` may have come that far, or something else has changed: look again.

        None stands for a time that never comes.
        """
        if (
            not self._changed.is_set()
        ):  # what changed while it was busy is looked at before it rests
            self._idle.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._clock.seconds_until(elapsed)):
                    await self._changed.wait()
        self._changed.clear()
        self._idle.clear()

    def wake(self) -> None:
        """Have it look again."""
        self._idle.clear()
        self._changed.set()

    async def wait_until_idle(self) -> None:
        """Wait until it has acted on all that has changed."""
        await self._idle.wait()

    def leave(self) -> None:
        """Nobody has to wait for it any more."""
        self._idle.set()


class Activity:
    """The background tasks of a tenant, by prediction, and the followers of its clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._followers: set[Follower] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def follower(self) -> Iterator[Follower]:
        """Follow the clock for the time of a `with` block."""
        follower = Follower(self._clock)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            follower.leave()

    def wake(self) -> None:
        """Have every follower look again."""
        for follower in self._followers:
            follower.wake()

    async def settle(self) -> None:
        """Wait until every follower has acted on all there is; one whose client does not read is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_LIMIT):
                for follower in list(self._followers):
                    await follower.wait_until_idle()

    def spawn(self, prediction_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Have some work for a prediction go on in the background, until it is done or cancelled."""
        task = self._tasks[prediction_id] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(prediction_id, None))

    def cancel(self, prediction_id: str) -> None:
        """End the work for a prediction, and have the followers see what has become of it."""
        if prediction_id in self._tasks:
            self._tasks.pop(prediction_id).cancel()
        self.wake()

    def cancel_all(self) -> None:
        """End all the work, and have the followers see that there is nothing left to follow."""
        for prediction_id in list(self._tasks):
            self._tasks.pop(prediction_id).cancel()
        self.wake()
