"""The verdict on a tenant's journal. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from mockserver.backend.deliveries import Deliveries, Delivery
from mockserver.backend.journal import ANONYMOUS, Exchange, Journal
from mockserver.redaction import redacted, shortened_secret
from mockserver.scenarios.scenario import Fault, Scenario

MAX_LISTED = 1000  # violations and departures of one tenant
REASONS = ("violations", "unmatched", "departures", "unused-faults", "undelivered-webhooks")
_COUNTS = (
    "exchanges",
    "evicted",
    "violating_exchanges",
    "unmatched_exchanges",
    "departing_exchanges",
)
_OF_ALL = ("forgotten_tenants", "answered", "unreadable")
_LISTS = ("violations", "unmatched", "departures", "unused_faults", "undelivered_webhooks")


def verdict_of(
    journal: Journal, deliveries: Deliveries, scenario: Scenario, fault_progress: Mapping[str, int]
) -> dict[str, Any]:
    """What clients did, and a gateway behind a proxy, that the contract does not allow.

    `fault_progress` counts the exchanges of each list of faults in `scenario`. `ok` is about the
    requests alone: faults never met and webhooks never delivered do not count against it. Of the
    violations, the first MAX_LISTED are listed.
    """
    violations = (item for exchange in journal for item in _violations(exchange))
    departures = [item for exchange in journal for item in _departures(exchange)]
    return {
        "ok": not journal.violating and not journal.unmatched and not journal.departing,
        "exchanges": journal.recorded,
        "evicted": journal.evicted,
        "violating_exchanges": journal.violating,
        "unmatched_exchanges": journal.unmatched,
        "departing_exchanges": journal.departing,
        "violations": list(islice(violations, MAX_LISTED)),
        "unmatched": list(_unmatched(journal)),
        "departures": _listed_departures(departures),
        "unused_faults": list(_unused(scenario, fault_progress)),
        "undelivered_webhooks": [_undelivered(delivery) for delivery in deliveries.undelivered()],
    }


def combine(
    verdicts: Mapping[str, Mapping[str, Any]],
    forgotten: int = 0,
    *,
    answered: int = 0,
    unreadable: int = 0,
) -> dict[str, Any]:
    """The verdicts of tenants, by name, as one; each item names its tenant, in part.

    `forgotten` counts tenants that were evicted with something wrong in their journals, which must
    not be lost. `answered` counts all requests, also those of tenants that were reset, and
    `unreadable` what could not be read as a request.
    """
    names = {name: shortened_secret(name) if name != ANONYMOUS else name for name in verdicts}
    return {
        "ok": not (forgotten or unreadable) and all(verdict["ok"] for verdict in verdicts.values()),
        **{count: sum(verdict[count] for verdict in verdicts.values()) for count in _COUNTS},
        **{
            key: [
                {**item, "tenant": names[name]}
                for name, verdict in verdicts.items()
                for item in verdict[key]
            ]
            for key in _LISTS
        },
        "tenants": [
            {"tenant": names[name], "ok": verdict["ok"], "exchanges": verdict["exchanges"]}
            for name, verdict in verdicts.items()
        ],
        "forgotten_tenants": forgotten,
        "answered": answered,
        "unreadable": unreadable,
    }


def add_up(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdicts of several servers, over all their tenants or over the same one, as one."""
    lists = [*_LISTS, "tenants"] if all("tenants" in verdict for verdict in verdicts) else _LISTS
    return {
        "ok": all(verdict["ok"] for verdict in verdicts),
        **{count: sum(verdict[count] for verdict in verdicts) for count in _COUNTS},
        **{key: [item for verdict in verdicts for item in verdict[key]] for key in lists},
        **{count: sum(verdict.get(count, 0) for verdict in verdicts) for count in _OF_ALL},
    }


def failures(verdict: Mapping[str, Any], reasons: Collection[str]) -> list[str]:
    """A line for each thing in a verdict that fails a run, for these reasons."""
    lines = []
    for reason in reasons:
        items = verdict[reason.replace("-", "_")]
        items = [item for item in items if item.get("severity") != "warning"]
        lines += [_of_tenant(item) + _DESCRIBE[reason](item) for item in items]
        if reason in ("violations", "departures") and len(items) >= MAX_LISTED:
            lines.append(f"there may be more {reason}: {MAX_LISTED:,} of each tenant are listed")
    return lines + list(_unlisted(verdict, reasons))


def _unlisted(verdict: Mapping[str, Any], reasons: Collection[str]) -> Iterator[str]:
    """A line for each kind of thing that fails a run, but is only counted."""
    counts = {
        "violations": "violating_exchanges",
        "unmatched": "unmatched_exchanges",
        "departures": "departing_exchanges",
    }
    for reason in reasons:
        count = verdict.get(counts.get(reason, ""), 0)
        if count and all(item.get("severity") == "warning" for item in verdict[reason]):
            yield f"{count} exchanges with {reason} are no longer in the journal"
    forgotten = verdict.get("forgotten_tenants")
    if counts.keys() & set(reasons) and forgotten:
        yield f"{forgotten} tenants with something wrong had to be forgotten, to bound memory"
    if "violations" in reasons and verdict.get("unreadable"):
        yield f"refused as no HTTP, or for a head that is too large: {verdict['unreadable']}"


def _of_tenant(item: Mapping[str, Any]) -> str:
    return f"{item['tenant']}: " if "tenant" in item else ""


def _place(item: Mapping[str, Any]) -> str:
    return item["pointer"].rstrip(":") or "/"


def _undelivered(delivery: Delivery) -> dict[str, Any]:
    return {
        "event": delivery.event,
        "prediction": delivery.prediction_id,
        "url": delivery.url,
        "attempts": delivery.attempt,
        "reason": delivery.error or f"answered {delivery.status}",
    }


def _violations(exchange: Exchange) -> Iterator[dict[str, Any]]:
    for violation in exchange.violations:
        item = {
            "exchange": exchange.number,
            "operation": exchange.operation_id,
            "method": exchange.method,
            "path": exchange.path,
            "status": exchange.status,
            **msgspec.to_builtins(violation),
        }
        yield redacted(item, exchange.token)


def _departures(exchange: Exchange) -> Iterator[dict[str, Any]]:
    for departure in exchange.departures:
        item = {
            "exchange": exchange.number,
            "method": exchange.method,
            "path": exchange.path,
            "status": exchange.status,
            **msgspec.to_builtins(departure),
        }
        yield redacted(item, exchange.token)


def _listed_departures(departures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are listed: errors rather than warnings, in the order of their exchanges."""
    errors = [item for item in departures if item["severity"] == "error"][:MAX_LISTED]
    warnings = [item for item in departures if item["severity"] != "error"]
    warnings = warnings[: MAX_LISTED - len(errors)]
    return sorted(errors + warnings, key=lambda item: item["exchange"])


def _unmatched(journal: Journal) -> Iterator[dict[str, Any]]:
    for exchange in journal:
        if exchange.unmatched:
            item = {
                "exchange": exchange.number,
                "method": exchange.method,
                "path": exchange.path,
                "status": exchange.status,
                "nearest": exchange.nearest or None,
            }
            yield redacted(item, exchange.token)


def _unused(scenario: Scenario, fault_progress: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for key, faults in scenario.faults.items():
        left = fault_progress.get(key, 0)
        for number, fault in enumerate(faults):
            if fault is not None and left < _open_rules(fault):
                yield {"operation": key, "number": number, "fault": msgspec.to_builtins(fault)}
            left = max(0, left - _open_rules(fault))


def _open_rules(fault: Fault | None) -> int:
    if fault is None or fault.times == "always":
        return 1
    return fault.times


_DESCRIBE = {
    "violations": lambda item: (
        f"{item['method']} {item['path']} (exchange {item['exchange']}) at {_place(item)}: "
        f"{item['description']}; sent {item['sent']}, allowed: {item['allowed']}"
    ),
    "unmatched": lambda item: (
        f"{item['method']} {item['path']} (exchange {item['exchange']}) was answered "
        f"{item['status']}: the contract has no such operation"
        + (f"; the nearest is {item['nearest']}" if item["nearest"] else ", nor means to have it")
    ),
    "departures": lambda item: (
        f"{item['rule']} {item['method']} {item['path']} "
        f"(exchange {item['exchange']}, answered {item['status']}) at {_place(item)}: "
        f"{item['message']}"
    ),
    "undelivered-webhooks": lambda item: (
        f"{item['event']} of {item['prediction']} to {item['url']}, "
        f"{item['attempts']} times: {item['reason']}"
    ),
    "unused-faults": lambda item: (
        f"{item['operation']}: fault {item['number']} {item['fault']} was never met"
    ),
}
