"""Concurrent calls of one client."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mockserver.check.drive.protocol import Pending
from mockserver.check.model import Outcome
from mockserver.clock import SECOND, wall_time


class ConcurrentCalls:
    """Several pending calls as one, which ends with the last of them."""

    def __init__(self, calls: Sequence[Pending]) -> None:
        self._calls = calls
        self._outcomes: list[Outcome | None] = [None] * len(calls)

    def wait(self, seconds: float) -> Outcome | None:
        """The joint outcome, or None if a call has not ended within `seconds`."""
        end = wall_time() + round(seconds * SECOND)
        for index, call in enumerate(self._calls):
            if self._outcomes[index] is None:
                self._outcomes[index] = call.wait(max(0.0, (end - wall_time()) / SECOND))
        return None if None in self._outcomes else self._outcome()

    def kill(self) -> Outcome:
        """End the calls that are still running."""
        for index, call in enumerate(self._calls):
            if self._outcomes[index] is None:
                self._outcomes[index] = call.kill()
        return self._outcome()

    def seconds_without_processor(self) -> float:
        """Seconds that the call which waited longest had no processor."""
        return max(call.seconds_without_processor() for call in self._calls)

    def _outcome(self) -> Outcome:
        """The worst outcome, with all of them as its parts."""
        parts = tuple(outcome for outcome in self._outcomes if outcome is not None)
        worst = min(parts, key=lambda part: ("hung", "raised", "returned").index(part.kind))
        return msgspec.structs.replace(worst, parts=parts)
