"""Calls made at once through one client."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mockserver.check.drive.protocol import Pending
from mockserver.check.model import Outcome
from mockserver.clock import SECOND, wall_time


class ConcurrentCalls:
    """Several calls under way, as one that ends with the last of them."""

    def __init__(self, calls: Sequence[Pending]) -> None:
        self._calls = calls
        self._ended: list[Outcome | None] = [None] * len(calls)

    def wait(self, seconds: float) -> Outcome | None:
        """How they ended, or None if one of them has not."""
        end = wall_time() + round(seconds * SECOND)
        for place, call in enumerate(self._calls):
            if self._ended[place] is None:
                self._ended[place] = call.wait(max(0.0, (end - wall_time()) / SECOND))
        return None if None in self._ended else self._outcome()

    def kill(self) -> Outcome:
        """End those that have not ended."""
        for place, call in enumerate(self._calls):
            if self._ended[place] is None:
                self._ended[place] = call.kill()
        return self._outcome()

    def seconds_without_processor(self) -> float:
        """What the slowest of them waited."""
        return max(call.seconds_without_processor() for call in self._calls)

    def _outcome(self) -> Outcome:
        parts = tuple(outcome for outcome in self._ended if outcome is not None)
        worst = min(parts, key=lambda part: ("hung", "raised", "returned").index(part.kind))
        return msgspec.structs.replace(worst, parts=parts)
