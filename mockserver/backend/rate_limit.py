"""Limits on how many requests are accepted: a token bucket. Pure."""

from __future__ import annotations

import math

import msgspec

from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Limit


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What is left of a limit, as it stood at an instant, in nanoseconds since the epoch.

    `credit` is the time that it takes to earn what is left, in nanoseconds: a whole number, so that
    a client which waits to the nanosecond is accepted.
    """

    credit: int
    at: int


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a limit says of a request: whether it is accepted, and how many more will be.

    `reset` is the number of seconds until one more is left.
    """

    taken: bool
    remaining: int
    reset: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers by which Replicate sends the quota in every response."""
        return (
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        )


def take(limit: Limit, bucket: Bucket | None, now: int) -> tuple[Bucket, Quota]:
    """Take one request out of a bucket, a new one if there is none yet."""
    price = math.ceil(60 * SECOND / limit.per_minute)  # nanoseconds that earn one request
    if bucket is None:
        left = limit.burst if limit.left is None else min(limit.left, limit.burst)
        bucket = Bucket(price * left, now)

    credit = min(limit.burst * price, bucket.credit + max(0, now - bucket.at))
    taken = credit >= price
    credit -= price * taken
    remaining = credit // price
    missing = (remaining + 1) * price - credit
    return Bucket(credit, now), Quota(taken, remaining, max(1, -(-missing // SECOND)))
