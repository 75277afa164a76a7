"""A line of text for each request, for those who watch a double at work."""

from __future__ import annotations

import msgspec

from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.json_text import shorten
from mockserver.redaction import redacted, shortened_secret


def log_line(tenant: str, exchange: Exchange) -> str:
    """An exchange as one line: status, method, path, tenant; the fault that it met, and what it violated.

    `tenant` is the tenant's name. Secrets are shown in part, and control characters escaped.
    """
    status = str(exchange.status or "---")
    who = tenant if tenant == ANONYMOUS else shortened_secret(tenant)
    parts = [
        status,
        f"{exchange.method:<6}",
        _one_line(exchange.path),
        exchange.prediction_status or "",
        f"[{who}]",
    ]
    if exchange.fault is not None:
        fault = msgspec.to_builtins(exchange.fault)
        parts.append(
            "fault: "
            + ", ".join(f"{name} {part}" for name, part in fault.items() if name != "times")
        )
    if exchange.unmatched:
        parts.append("violation: not in the contract")
    parts += [
        f"violation: {each.pointer or '/'} {_one_line(each.description)}"
        for each in exchange.violations
    ]
    return redacted("  ".join(filter(None, parts)), exchange.token)


def _one_line(text: str) -> str:
    return shorten(text).replace('\\"', '"').strip('"')
