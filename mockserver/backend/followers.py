"""What is under way for a tenant: background tasks, and followers of its clock.

A follower is a task that acts as a prediction's time passes: a stream, a webhook's sender, a create
with `Prefer: wait`. None of them polls. It acts on all that has happened by now, and then sleeps
until the next change is due, or until it is woken because something else has changed: a cancel, a
clock that was set or advanced, a reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mockserver.clock import Clock

SETTLE_LIMIT = 5.0  # seconds of real time
MAX_POSTS_PER_TENANT = 8  # webhooks under way at a time, of all that a server sends


class Follower:
    """Waits for a tenant's clock: idle while it sleeps, busy while its task acts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()

    async def sleep_until(self, elapsed: int | None) -> None:
        """Sleep until the clock may have reached `elapsed`, or something else has changed.

        None is for a change that is never due by itself. The caller has to look again: what has
        changed may not concern it. A change that came while it was busy ends the sleep at once.
        """
        if not self._changed.is_set():
            self._idle.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._clock.seconds_until(elapsed)):
                    await self._changed.wait()
        self._changed.clear()
        self._idle.clear()

    def wake(self) -> None:
        """End its sleep: something has changed."""
        self._idle.clear()
        self._changed.set()

    async def wait_until_idle(self) -> None:
        """Wait until it has acted on everything that has changed."""
        await self._idle.wait()

    def leave(self) -> None:
        """Its task has ended: nobody has to wait for it."""
        self._idle.set()


class Activity:
    """The background tasks of a tenant, by prediction, and the followers of its clock.

    `posting` bounds the webhooks that are under way, so that a tenant whose receiver does not
    respond cannot hold up those of others.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.posting = asyncio.Semaphore(MAX_POSTS_PER_TENANT)
        self._followers: set[Follower] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def follower(self) -> Iterator[Follower]:
        """A follower of the clock during a `with` block."""
        follower = Follower(self._clock)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            follower.leave()

    def wake(self) -> None:
        """Wake every follower."""
        for follower in self._followers:
            follower.wake()

    async def settle(self) -> None:
        """Wait until every follower has acted on everything that has changed.

        There is a limit: a client that does not read keeps the follower of its stream busy.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_LIMIT):
                for follower in list(self._followers):
                    await follower.wait_until_idle()

    def spawn(self, prediction_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Run some work for a prediction in the background, until it is done or canceled."""
        task = self._tasks[prediction_id] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(prediction_id, None))

    def cancel(self, prediction_id: str) -> None:
        """Cancel the work for a prediction, and wake the followers."""
        if prediction_id in self._tasks:
            self._tasks.pop(prediction_id).cancel()
        self.wake()

    def cancel_all(self) -> None:
        """Cancel all work, and wake the followers: there is nothing left to follow."""
        for prediction_id in list(self._tasks):
            self._tasks.pop(prediction_id).cancel()
        self.wake()
