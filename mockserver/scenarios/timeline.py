"""The statuses of a prediction in its own time, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mockserver.clock import SECOND

TERMINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})


class Stage(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """A status that a prediction enters `at` nanoseconds of its own time.

    `error` is the prediction's, if the scenario sets one. Under autojump it takes `polls` reads to
    reach the next stage.
    """

    at: int
    status: str
    error: str | msgspec.UnsetType | None = msgspec.UNSET
    polls: int = 1


Timeline = tuple[Stage, ...]


def with_deadline(stages: Timeline, at: int) -> Timeline:
    """A timeline cut at a deadline, in nanoseconds, unless it has ended by then."""
    before = tuple(stage for stage in stages if stage.at < at)
    if not before or before[-1].status in TERMINAL:
        return before or stages
    return (*before, Stage(at, "aborted" if before[-1].status == "starting" else "canceled"))


def build_timeline(
    lifecycle: Iterable[tuple[str, float | None, str | msgspec.UnsetType | None, int]],
) -> Timeline:
    """A timeline of (status, duration in seconds, error, polls); the last one never ends."""
    stages, at = [], 0
    for status, seconds, error, polls in lifecycle:
        stages.append(Stage(at, status, error, polls))
        at += round((seconds or 0) * SECOND)
    return tuple(stages)
