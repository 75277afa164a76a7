"""Limits on how many requests are taken: a token bucket. Pure."""

from __future__ import annotations

import math

import msgspec

from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Limit


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What is left of a limit, as it stood at an instant, in nanoseconds since the epoch.

    `credit` is the time that it takes to come by what is left, in nanoseconds: a whole number, so
    that whoever waits to the nanosecond is let through.
    """

    credit: int
    at: int


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a limit says of a request: whether it is taken, how many are left, and the seconds until one more is."""

    taken: bool
    remaining: int
    reset: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The quota as upstream tells of it in every answer."""
        return (
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        )


def take(limit: Limit, bucket: Bucket | None, now: int) -> tuple[Bucket, Quota]:
    """Take one request out of a bucket, a new one if there is none yet."""
    each = math.ceil(60 * SECOND / limit.per_minute)  # nanoseconds for one more
    if bucket is None:
        bucket = Bucket(
            each * (limit.burst if limit.left is None else min(limit.left, limit.burst)), now
        )
    credit = min(limit.burst * each, bucket.credit + max(0, now - bucket.at))
    taken = credit >= each
    credit -= each * taken
    remaining = credit // each
    missing = (remaining + 1) * each - credit
    return Bucket(credit, now), Quota(taken, remaining, max(1, -(-missing // SECOND)))
