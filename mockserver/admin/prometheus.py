"""The metrics of a double in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mockserver.backend.metrics import BUCKETS, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


def as_text(
    metrics: Metrics, held: Mapping[str, int], *, version: str, draining: bool, cpu_seconds: float
) -> str:
    """All of it as text. `held` is what the store counts."""
    lines: list[str] = []

    def family(
        name: str, kind: str, said: str, samples: Iterable[tuple[str, Labels, float]]
    ) -> None:
        lines.extend((f"# HELP mockserver_{name} {said}", f"# TYPE mockserver_{name} {kind}"))
        lines.extend(
            f"mockserver_{name}{suffix}{_shown(labels)} {value}"
            for suffix, labels, value in samples
        )

    def plain(name: str, kind: str, said: str, value: float) -> None:
        family(name, kind, said, [("", (), value)])

    requests = [
        ("", (("operation", operation), ("status", str(status) if status else "none")), count)
        for (operation, status), count in metrics.requests().items()
    ]
    family("info", "gauge", "The version that runs.", [("", (("version", version),), 1)])
    family(
        "requests_total",
        "counter",
        "Requests answered; status none: the connection was broken off.",
        requests,
    )
    family(
        "request_seconds", "histogram", "From a request's head to its answer.", _buckets(metrics)
    )
    for name, label, said, counts in (
        (
            "violations_total",
            "operation",
            "What requests had that the contract does not allow.",
            metrics.violations,
        ),
        ("faults_total", "kind", "Faults of scenarios that were met.", metrics.faults),
    ):
        family(
            name, "counter", said, [("", ((label, key),), count) for key, count in counts.items()]
        )
    refused = [
        ("", (("status", str(status)),), count) for status, count in metrics.unreadable.items()
    ]
    family(
        "unreadable_total",
        "counter",
        "What came and was no HTTP (400), or had too large a head (431).",
        refused,
    )
    plain("tenants", "gauge", "Tenants that are remembered.", held["tenants"])
    plain("predictions", "gauge", "Predictions that are remembered.", held["predictions"])
    plain("held_bytes", "gauge", "What tenants hold in memory, about.", held["bytes"])
    plain(
        "evicted_tenants_total",
        "counter",
        "Tenants forgotten to bound memory.",
        held["evicted_tenants"],
    )
    plain(
        "evicted_predictions_total",
        "counter",
        "Predictions forgotten likewise.",
        held["evicted_predictions"],
    )
    plain(
        "draining", "gauge", "Whether it is about to stop, and takes no new tenants.", int(draining)
    )
    plain(
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


def _shown(labels: Labels) -> str:
    return (
        "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"
        if labels
        else ""
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
