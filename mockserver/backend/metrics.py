"""Counts for those who operate a double."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from operator import add

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0)  # seconds
UNMATCHED = "none"  # stands for the operation of requests that the contract does not have


class Metrics:
    """Counts over the whole time of a server, whatever its tenants forget.

    Their keys are operations, statuses and kinds of faults, of which there are few; never anything
    that a client makes up.
    """

    def __init__(self) -> None:
        # By operation and status: how many requests fell into each bucket, and beyond the last;
        # then the sum of seconds.
        self._times: defaultdict[tuple[str, int], list[float]] = defaultdict(
            lambda: [0] * (len(BUCKETS) + 2)
        )
        self.violations: Counter[str] = Counter()  # by operation
        self.faults: Counter[str] = Counter()  # by kind
        # What could not be read as a request, by the status of the response.
        self.unreadable: Counter[int] = Counter()

    def record(self, operation: str, status: int, seconds: float) -> None:
        """Count a response that took some seconds. This is on the way of every request."""
        times = self._times[operation, status]
        times[bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds

    def requests(self) -> dict[tuple[str, int], float]:
        """How many requests there were, by operation and status."""
        return {key: sum(times[:-1]) for key, times in self._times.items()}

    def answered(self) -> int:
        """How many requests there were."""
        return int(sum(self.requests().values()))

    def histogram(self) -> dict[str, list[float]]:
        """For each operation, how many requests took at most as long as each bucket.

        Then the number of all of them, and the sum of their seconds.
        """
        added: dict[str, list[float]] = {}
        for (operation, _), times in self._times.items():
            sums = added.get(operation, [0] * len(times))
            added[operation] = [*map(add, sums, (*accumulate(times[:-1]), times[-1]))]
        return added
