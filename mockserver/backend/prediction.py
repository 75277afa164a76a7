"""Predictions as values: their state is a pure function of a timeline and of time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from zlib import crc32

import msgspec

from mockserver.backend.memory import PREDICTION
from mockserver.scenarios.scenario import Scenario
from mockserver.scenarios.timeline import TERMINAL, Stage, Timeline

SHARDS = 1000  # as many as three digits name
_ENDED_UNSTARTED = frozenset({"starting", "failed", "canceled", "aborted"})
ID = re.compile(r"(?<![0-9a-z])[0-9a-hjkmnp-tv-z]{26}(?![0-9a-z])")
# A letter for each byte, every letter equally often.
_CROCKFORD = b"0123456789abcdefghjkmnpqrstvwxyz" * 8


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """A job, as it was created, and what has been done to it since.

    `input` is JSON, as it was sent unless the scenario fills defaults in, `given_size` the width
    and height in pixels of the picture in it, if that is known. `created_at` is in
    nanoseconds since the epoch, `created_elapsed` the reading of the tenant's clock at creation.
    `time_offset` is how far its own time is ahead of that clock, and `canceled_at` the own time of
    a cancel, both in nanoseconds. `retention` is how long its data are kept once it has ended, in
    nanoseconds. `scenario` is the one chosen by the creating request itself, if any. `deadline` is
    the own time at which it is given up, if it is.
    """

    id: str
    operation_id: str
    input: bytes
    given_size: tuple[int, int] | None
    created_at: int
    created_elapsed: int
    timeline: Timeline
    retention: int
    scenario: Scenario | None = None
    time_offset: int = 0
    canceled_at: int | None = None
    deadline: int | None = None

    def age(self, elapsed: int) -> int:
        """Own time in nanoseconds, when the tenant's clock reads `elapsed`."""
        return elapsed - self.created_elapsed + self.time_offset


def prediction_footprint(prediction: Prediction) -> int:
    """Bytes that a prediction holds."""
    error = prediction.timeline[-1].error
    return PREDICTION + len(prediction.input) + (len(error) if error else 0)


def effective_timeline(prediction: Prediction) -> Timeline:
    """The timeline, cut by a cancel."""
    if prediction.canceled_at is None:
        return prediction.timeline
    lived = [stage for stage in prediction.timeline if stage.at <= prediction.canceled_at]
    return (*lived, Stage(prediction.canceled_at, "canceled"))


def stage_at(prediction: Prediction, age: int) -> Stage:
    """The stage that a prediction is in at an own time of `age` nanoseconds."""
    if prediction.canceled_at is not None and age >= prediction.canceled_at:
        return Stage(prediction.canceled_at, "canceled")
    current = prediction.timeline[-1]
    if current.at <= age:
        return current
    for stage in prediction.timeline:
        if stage.at > age:
            break
        current = stage
    return current


def next_stage(prediction: Prediction, age: int) -> Stage | None:
    """The first stage still to come after an own time of `age` nanoseconds."""
    return next((stage for stage in effective_timeline(prediction) if stage.at > age), None)


def advance_to_next(prediction: Prediction, age: int) -> Prediction:
    """The prediction as a read under autojump moves it; itself if no change is to come.

    That is to its next change, or a part of the way to it where the stage lasts for several polls.
    """
    coming = next_stage(prediction, age)
    if coming is None:
        return prediction
    current = stage_at(prediction, age)
    lasts = coming.at - current.at
    polled = (age - current.at) * current.polls // lasts
    return advance_to(prediction, age, current.at + -(-(polled + 1) * lasts // current.polls))


def advance_to(prediction: Prediction, age: int, later: int) -> Prediction:
    """The prediction with its own time moved from `age` to `later`, in nanoseconds."""
    return msgspec.structs.replace(prediction, time_offset=prediction.time_offset + later - age)


def cancel(prediction: Prediction, age: int) -> Prediction:
    """The prediction canceled at an own time of `age` nanoseconds; itself if it has ended."""
    if stage_at(prediction, age).status in TERMINAL:
        return prediction
    return msgspec.structs.replace(prediction, canceled_at=age)


def entered(prediction: Prediction, after: int, until: int) -> Iterator[Stage]:
    """The stages entered after an own time of `after`, by `until`, in nanoseconds."""
    return (stage for stage in effective_timeline(prediction) if after < stage.at <= until)


def data_removed(prediction: Prediction, age: int, now: int) -> bool:
    """Whether input, output and logs have expired, by own time or by the tenant's time `now`."""
    stage = stage_at(prediction, age)
    if stage.status not in TERMINAL:
        return False
    expires = stage.at + prediction.retention
    return age >= expires or now - prediction.created_at >= expires


def shard_of(token: str) -> str:
    """The shard of a tenant, three digits.

    Load balancers compute it from the token, or read it in an id.
    """
    return f"{crc32(token.encode('latin-1')) % SHARDS:03}"


def prediction_id(shard: str, key: bytes, number: int) -> str:
    """The `number`th id under `key`: the shard, and 23 more characters of Crockford's base 32."""
    random = blake2b(number.to_bytes(8, "big"), digest_size=23, key=key).digest()
    return shard + random.translate(_CROCKFORD).decode()


def worked(timeline: Timeline, stage: Stage) -> tuple[int | None, int | None]:
    """Own times, in nanoseconds, at which work began and ended, if that is known at a stage."""
    working = (
        entered.at
        for entered in timeline
        if entered.at <= stage.at and entered.status not in _ENDED_UNSTARTED
    )
    return next(working, None), stage.at if stage.status in TERMINAL else None
