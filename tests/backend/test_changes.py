"""Who watches is woken by a change."""

import asyncio

from mockserver.backend.store import Changes


def test_each_who_watches_is_woken_and_nobody_else() -> None:
    async def play() -> None:
        changes = Changes()
        changes.note()
        with changes.watch() as one, changes.watch() as other:
            assert len(changes) == 2
            assert not one.is_set()
            changes.note()
            assert one.is_set()
            assert other.is_set()
            one.clear()
        changes.note()
        assert not one.is_set()
        assert len(changes) == 0

    asyncio.run(play())
