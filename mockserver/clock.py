"""How time passes for a tenant."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, get_args

Mode = Literal["autojump", "real", "frozen"]
MODES: tuple[Mode, ...] = get_args(Mode)

SECOND = 1_000_000_000  # nanoseconds
FROZEN_START = 1_735_689_600 * SECOND  # 2025-01-01T00:00:00Z, so that a frozen run repeats to the byte

_STARTED_AT = time.time_ns() - time.monotonic_ns()


def wall_time() -> int:
    """Nanoseconds since the epoch, never running backwards."""
    return _STARTED_AT + time.monotonic_ns()


class Clock:
    """A tenant's time, in nanoseconds.

    It has two readings. `now` is the instant that timestamps are taken from. `elapsed` is how much time has
    passed for what is under way: under `autojump` it stands still, since there each prediction's own time
    jumps when somebody looks; under `real` it runs with the wall, times `speed`; under `frozen` both move
    only by `advance`.
    """

    def __init__(self, mode: Mode = "autojump", speed: float = 1.0, wall: Callable[[], int] = wall_time) -> None:
        self.mode: Mode = mode
        self.speed = speed
        self._wall = wall
        self._anchor = wall()
        self._now = FROZEN_START if mode == "frozen" else self._anchor
        self._elapsed = 0

    def now(self) -> int:
        """The tenant's instant, in nanoseconds since the epoch."""
        if self.mode == "frozen":
            return self._now
        passed = self._wall() - self._anchor
        return self._now + (int(passed * self.speed) if self.mode == "real" else passed)

    def elapsed(self) -> int:
        """Nanoseconds that have passed for what is under way, from an arbitrary start."""
        if self.mode == "real":
            return self._elapsed + int((self._wall() - self._anchor) * self.speed)
        return self._elapsed

    def advance(self, nanoseconds: int) -> None:
        """Move time forward, in any mode."""
        self._now += nanoseconds
        self._elapsed += nanoseconds

    def change(self, mode: Mode, *, speed: float | None = None, now: int | None = None) -> None:
        """Go on in another mode from the present instant, or from `now`."""
        self._now, self._elapsed = (self.now() if now is None else now), self.elapsed()
        self._anchor = self._wall()
        self.mode = mode
        self.speed = self.speed if speed is None else speed
