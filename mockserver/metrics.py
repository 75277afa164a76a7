"""What those who run a double want to know of it, as numbers: counted here, shown in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import add

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNMATCHED = "none"  # in the place of an operation, of requests that are none of the contract's

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts over the whole time of a server, whatever its tenants forget.

    They are kept by operation, status and kind of fault, of which there are few, and by nothing that a client makes up.
    """

    def __init__(self) -> None:
        # By operation and status: how many took as long as each bucket, and more than all; then the sum of seconds.
        self._times: defaultdict[tuple[str, int], list[float]] = defaultdict(lambda: [0] * (len(BUCKETS) + 2))
        self.violations: Counter[str] = Counter()  # by operation
        self.faults: Counter[str] = Counter()  # by kind
        self.unreadable: Counter[int] = Counter()  # what was no request that can be read, by the answer's status

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


def as_text(metrics: Metrics, held: Mapping[str, int], *, version: str, draining: bool, cpu_seconds: float) -> str:
    """All of it as text. `held` is what the store counts."""
    lines: list[str] = []

    def family(name: str, kind: str, said: str, samples: Iterable[tuple[str, Labels, float]]) -> None:
        lines.extend((f"# HELP mockserver_{name} {said}", f"# TYPE mockserver_{name} {kind}"))
        lines.extend(f"mockserver_{name}{suffix}{_shown(labels)} {value}" for suffix, labels, value in samples)

    def plain(name: str, kind: str, said: str, value: float) -> None:
        family(name, kind, said, [("", (), value)])

    requests = [
        ("", (("operation", operation), ("status", str(status) if status else "none")), count)
        for (operation, status), count in metrics.requests().items()
    ]
    family("info", "gauge", "The version that runs.", [("", (("version", version),), 1)])
    family("requests_total", "counter", "Requests answered; status none: the connection was broken off.", requests)
    family("request_seconds", "histogram", "From a request's head to its answer.", _buckets(metrics))
    for name, label, said, counts in (
        ("violations_total", "operation", "What requests had that the contract does not allow.", metrics.violations),
        ("faults_total", "kind", "Faults of scenarios that were met.", metrics.faults),
    ):
        family(name, "counter", said, [("", ((label, key),), count) for key, count in counts.items()])
    refused = [("", (("status", str(status)),), count) for status, count in metrics.unreadable.items()]
    family("unreadable_total", "counter", "What came and was no HTTP (400), or had too large a head (431).", refused)
    plain("tenants", "gauge", "Tenants that are remembered.", held["tenants"])
    plain("predictions", "gauge", "Predictions that are remembered.", held["predictions"])
    plain("held_bytes", "gauge", "What tenants hold in memory, about.", held["bytes"])
    plain("evicted_tenants_total", "counter", "Tenants forgotten to bound memory.", held["evicted_tenants"])
    plain("evicted_predictions_total", "counter", "Predictions forgotten likewise.", held["evicted_predictions"])
    plain("draining", "gauge", "Whether it is about to stop, and takes no new tenants.", int(draining))
    plain("cpu_seconds_total", "counter", "Processor time used: it has one core to use.", cpu_seconds)
    return "\n".join(lines) + "\n"


def _buckets(metrics: Metrics) -> Iterator[tuple[str, Labels, float]]:
    for operation, (*counts, seconds) in metrics.histogram().items():
        label = ("operation", operation)
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
            yield "_bucket", (label, ("le", bound)), count
        yield "_sum", (label,), seconds
        yield "_count", (label,), counts[-1]


def _shown(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
