"""What is under way for a tenant: who waits for its clock, and what goes on in the background."""

import asyncio

from mockserver.backend.followers import Activity
from mockserver.clock import Clock


def test_an_advance_has_settled_when_every_follower_has_acted_on_it() -> None:
    async def scene() -> list[int]:
        clock = Clock("frozen")
        activity = Activity(clock)
        seen: list[int] = []

        async def follow(until: int) -> None:
            with activity.follower() as follower:
                while clock.elapsed() < until:
                    await follower.sleep_until(until)
                    for _ in range(5):
                        await asyncio.sleep(0)  # work that takes its time
                    seen.append(clock.elapsed())

        followers = [asyncio.ensure_future(follow(until)) for until in (1, 2, 3)]
        await asyncio.sleep(0)  # they begin
        for _ in range(3):
            clock.advance(1)
            activity.wake()
            await activity.settle()
            assert len(seen) == {1: 3, 2: 5, 3: 6}[clock.elapsed()]
        await asyncio.gather(*followers)
        return seen

    assert asyncio.run(scene()) == [1, 1, 1, 2, 2, 3]


def test_a_follower_that_is_busy_when_time_moves_acts_on_that_too_before_it_rests() -> None:
    async def scene() -> list[int]:
        clock = Clock("frozen")
        activity = Activity(clock)
        seen: list[int] = []

        async def follow() -> None:
            with activity.follower() as follower:
                while clock.elapsed() < 2:
                    seen.append(clock.elapsed())
                    for _ in range(5):
                        await asyncio.sleep(0)
                    await follower.sleep_until(2)

        following = asyncio.ensure_future(follow())
        await asyncio.sleep(0)  # it begins, and is busy
        clock.advance(1)
        activity.wake()
        await activity.settle()
        assert seen == [0, 1]
        clock.advance(1)
        activity.wake()
        await following
        return seen

    assert asyncio.run(scene()) == [0, 1]
