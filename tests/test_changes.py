"""Who watches is woken by a change."""

import asyncio
from contextlib import ExitStack

import pytest

from mockserver.changes import Changes
from mockserver.errors import ApiError
from mockserver.inspector import MAX_WATCHERS, changes_of
from tests.helpers.wires import new_app


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


def test_so_many_may_watch_and_no_more() -> None:
    async def play() -> None:
        store = new_app().gateway.store
        with ExitStack() as stack:
            for _ in range(MAX_WATCHERS):
                stack.enter_context(store.changes.watch())
            with pytest.raises(ApiError, match="watch already"):
                changes_of(store, "one more")
        assert changes_of(store, "one").status_code == 200

    asyncio.run(play())
