"""The metrics of a double in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mockserver.backend.metrics import BUCKETS, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


def as_text(
    metrics: Metrics, held: Mapping[str, int], *, version: str, draining: bool, cpu_seconds: float
) -> str:
    """All metrics as text. `held` are the counts of the store."""
    lines: list[str] = []

    def family(
        name: str, kind: str, text: str, samples: Iterable[tuple[str, Labels, float]]
    ) -> None:
        lines.extend((f"# HELP mockserver_{name} {text}", f"# TYPE mockserver_{name} {kind}"))
        lines.extend(
            f"mockserver_{name}{suffix}{_braced(labels)} {value}"
            for suffix, labels, value in samples
        )

    def single(name: str, kind: str, text: str, value: float) -> None:
        family(name, kind, text, [("", (), value)])

    def counted(name: str, text: str, label: str, counts: Mapping[Any, float]) -> None:
        samples = [("", ((label, str(key)),), count) for key, count in counts.items()]
        family(name, "counter", text, samples)

    family("info", "gauge", "The version that runs.", [("", (("version", version),), 1)])
    family(
        "requests_total",
        "counter",
        "Requests answered; status none: the connection was broken off.",
        [
            ("", (("operation", operation), ("status", str(status) if status else "none")), count)
            for (operation, status), count in metrics.requests().items()
        ],
    )
    family(
        "request_seconds", "histogram", "From a request's head to its answer.", _buckets(metrics)
    )
    counted(
        "violations_total",
        "What requests had that the contract does not allow.",
        "operation",
        metrics.violations,
    )
    counted("faults_total", "Faults of scenarios that were met.", "kind", metrics.faults)
    counted(
        "unreadable_total",
        "What came and was no HTTP (400), or had too large a head (431).",
        "status",
        metrics.unreadable,
    )

    single("tenants", "gauge", "Tenants that are remembered.", held["tenants"])
    single("predictions", "gauge", "Predictions that are remembered.", held["predictions"])
    single("held_bytes", "gauge", "What tenants hold in memory, about.", held["bytes"])
    single(
        "evicted_tenants_total",
        "counter",
        "Tenants forgotten to bound memory.",
        held["evicted_tenants"],
    )
    single(
        "evicted_predictions_total",
        "counter",
        "Predictions forgotten likewise.",
        held["evicted_predictions"],
    )
    single(
        "draining", "gauge", "Whether it is about to stop, and takes no new tenants.", int(draining)
    )
    single(
        "cpu_seconds_total", "counter", "Processor time used: it has one core to use.", cpu_seconds
    )
    return "\n".join(lines) + "\n"


def _buckets(metrics: Metrics) -> Iterator[tuple[str, Labels, float]]:
    for operation, (*counts, seconds) in metrics.histogram().items():
        label = ("operation", operation)
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
            yield "_bucket", (label, ("le", bound)), count
        yield "_sum", (label,), seconds
        yield "_count", (label,), counts[-1]


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
