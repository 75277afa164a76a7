"""The statuses that a prediction passes, laid out in its own time. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mockserver.clock import SECOND

TERMINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})


class Stage(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """A status that a prediction enters `at` nanoseconds of its own time.

    `error` is the prediction's, if the scenario sets one. Under autojump it takes `polls` reads to
    come to the next stage.
    """

    at: int
    status: str
    error: str | msgspec.UnsetType | None = msgspec.UNSET
    polls: int = 1


Timeline = tuple[Stage, ...]


def with_deadline(stages: Timeline, at: int) -> Timeline:
    """A timeline that is cut at a deadline, in nanoseconds, unless it has ended by then."""
    lived = tuple(stage for stage in stages if stage.at < at)
    if not lived or lived[-1].status in TERMINAL:
        return lived or stages
    return (*lived, Stage(at, "aborted" if lived[-1].status == "starting" else "canceled"))


def build_timeline(
    lifecycle: Iterable[tuple[str, float | None, str | msgspec.UnsetType | None, int]],
) -> Timeline:
    """Lay out (status, seconds it lasts, error, polls) one after another. The last one lasts."""
    stages, at = [], 0
    for status, seconds, error, polls in lifecycle:
        stages.append(Stage(at, status, error, polls))
        at += round((seconds or 0) * SECOND)
    return tuple(stages)
