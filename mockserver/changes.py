"""Tells those who watch the double that something has changed in what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Changes:
    """Wakes whoever watches; costs nothing where nobody does."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def note(self) -> None:
        """Something has changed."""
        for watcher in self._watchers:
            watcher.set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that is set on each change, for the time of a `with` block; the watcher clears it."""
        watcher = asyncio.Event()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
