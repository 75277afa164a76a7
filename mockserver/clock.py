"""How time passes for a tenant."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, get_args

Mode = Literal["autojump", "real", "frozen"]
MODES: tuple[Mode, ...] = get_args(Mode)

MILLISECOND = 1_000_000  # nanoseconds
SECOND = 1000 * MILLISECOND
# 2025-01-01T00:00:00Z: a frozen run repeats to the byte.
FROZEN_START = 1_735_689_600 * SECOND

EPOCH = datetime(1970, 1, 1)
# Seconds since the epoch: the years 1 to 9999, which RFC 3339 can express.
MIN_SECOND, MAX_SECOND = -62_135_596_800, 253_402_300_799

_STARTED_AT = time.time_ns() - time.monotonic_ns()


def wall_time() -> int:
    """Nanoseconds since the epoch, never running backwards."""
    return _STARTED_AT + time.monotonic_ns()


@lru_cache(1024)
def timestamp(instant: int) -> str:
    """Nanoseconds since the epoch as RFC 3339: to the millisecond, or finer if needed.

    Replicate writes them so.
    """
    seconds, nanoseconds = divmod(instant, SECOND)
    milliseconds, finer = divmod(nanoseconds, MILLISECOND)
    fraction = f"{nanoseconds:09d}".rstrip("0") if finer else f"{milliseconds:03d}"
    return f"{_to_the_second(seconds)}.{fraction}Z"


@lru_cache(1024)
def _to_the_second(seconds: int) -> str:
    seconds = max(MIN_SECOND, min(seconds, MAX_SECOND))  # later ones cannot be written
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 timestamp. Raises ValueError."""
    match = re.fullmatch(r"(.{1,40}?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp such as 2025-01-01T00:00:00Z")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole + zone)
    since = int(moment.timestamp())
    if not MIN_SECOND <= since <= MAX_SECOND:
        raise ValueError(f"{text!r} is not within the years 1 to 9999")
    return since * SECOND + int((fraction or "0").ljust(9, "0"))


def seconds(nanoseconds: int) -> float:
    """Nanoseconds as seconds, as JSON numbers have them."""
    return nanoseconds / SECOND


class Clock:
    """A tenant's time, in nanoseconds.

    It has two readings. `now` is the instant that timestamps are taken from. `elapsed` is how much
    time has passed for predictions: under `real` it runs with the wall clock, times `speed`; under
    `frozen` both move only by `advance`. Under `autojump` it stands still: there each prediction's
    own time jumps to its next change when somebody looks at it, so that waiting takes no time, and
    a run is the same on any machine.
    """

    def __init__(
        self, mode: Mode = "autojump", speed: float = 1.0, wall: Callable[[], int] = wall_time
    ) -> None:
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
        return self._now + (passed if self.mode == "autojump" else int(passed * self.speed))

    def elapsed(self) -> int:
        """Nanoseconds that have passed for predictions, from an arbitrary start."""
        if self.mode == "real":
            return self._elapsed + int((self._wall() - self._anchor) * self.speed)
        return self._elapsed

    def advance(self, nanoseconds: int) -> None:
        """Move time forward, in any mode."""
        self._now += nanoseconds
        self._elapsed += nanoseconds

    def change(self, mode: Mode, *, speed: float | None = None, now: int | None = None) -> None:
        """Go on in another mode, from the present instant or from `now`."""
        self._now, self._elapsed = (self.now() if now is None else now), self.elapsed()
        self._anchor = self._wall()
        self.mode = mode
        self.speed = self.speed if speed is None else speed

    def seconds_until(self, elapsed: int | None) -> float | None:
        """Seconds of real time until the clock reaches `elapsed`; None if it does not by itself."""
        if self.mode != "real" or elapsed is None:
            return None
        return max(0, elapsed - self.elapsed()) / SECOND / self.speed
