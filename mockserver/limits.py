"""Limits on how many requests are taken: a token bucket. Pure."""

from __future__ import annotations

import math

import msgspec

from mockserver.clock import SECOND
from mockserver.scenarios import Limit


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What is left of a limit, as it stood at an instant, in nanoseconds since the epoch."""

    tokens: float
    at: int


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a limit says of a request: whether it is taken, how many are left, and the seconds until one more is."""

    taken: bool
    remaining: int
    reset: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The quota as upstream tells of it in every answer."""
        return ((b"ratelimit-remaining", b"%d" % self.remaining), (b"ratelimit-reset", b"%d" % self.reset))


def take(limit: Limit, bucket: Bucket | None, now: int) -> tuple[Bucket, Quota]:
    """Take one request out of a bucket, a new one if there is none yet."""
    if bucket is None:
        bucket = Bucket(limit.burst if limit.left is None else min(limit.left, limit.burst), now)
    each = 60 / limit.per_minute  # seconds for one more
    tokens = min(limit.burst, bucket.tokens + max(0, now - bucket.at) / SECOND / each)
    taken = tokens >= 1
    tokens -= taken
    remaining = int(tokens)
    reset = math.ceil((remaining + 1 - tokens) * each - 1e-6)  # of what float arithmetic adds
    return Bucket(tokens, now), Quota(taken, remaining, max(1, reset))
