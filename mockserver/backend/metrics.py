"""What those who run a double want to know of it, counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from operator import add

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0)  # seconds
UNMATCHED = "none"  # in the place of an operation, of requests that are none of the contract's


class Metrics:
    """Counts over the whole time of a server, whatever its tenants forget.

    They are kept by operation, status and kind of fault, of which there are few, and by nothing
    that a client makes up.
    """

    def __init__(self) -> None:
        # By operation and status: how many took as long as each bucket, and more than all; then the
        # sum of seconds.
        self._times: defaultdict[tuple[str, int], list[float]] = defaultdict(
            lambda: [0] * (len(BUCKETS) + 2)
        )
        self.violations: Counter[str] = Counter()  # by operation
        self.faults: Counter[str] = Counter()  # by kind
        self.unreadable: Counter[int] = (
            Counter()
        )  # what was no request that can be read, by the answer's status

    def record(self, operation: str, status: int, seconds: float) -> None:
        """A request has been answered, after some seconds. This is in the way of every request."""
        times = self._times[operation, status]
        times[bisect_left(BUCKETS, seconds)] += 1
        times[-1] += seconds

    def requests(self) -> dict[tuple[str, int], float]:
        """How many there were, by operation and status."""
        return {key: sum(times[:-1]) for key, times in self._times.items()}

    def answered(self) -> int:
        """How many there were."""
        return int(sum(self.requests().values()))

    def histogram(self) -> dict[str, list[float]]:
        """Of each operation: how many requests took as long as each bucket or less, and in all; the sum of seconds."""
        added: dict[str, list[float]] = {}
        for (operation, _), times in self._times.items():
            so_far = added.get(operation, [0] * len(times))
            added[operation] = [*map(add, so_far, (*accumulate(times[:-1]), times[-1]))]
        return added
