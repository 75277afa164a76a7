"""The lines of `serve --log`, one for each request."""

from __future__ import annotations

import msgspec

from mockserver.backend.journal import ANONYMOUS, Exchange
from mockserver.json_text import shorten
from mockserver.redaction import redacted, shortened_secret


def log_line(tenant: str, exchange: Exchange) -> str:
    """An exchange as one line: status, method, path, tenant, fault and violations.

    `tenant` is the tenant's name. Secrets are redacted, and control characters escaped.
    """
    name = tenant if tenant == ANONYMOUS else shortened_secret(tenant)
    parts = [
        str(exchange.status or "---"),
        f"{exchange.method:<6}",
        _one_line(exchange.path),
        exchange.prediction_status or "",
        f"[{name}]",
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
        f"violation: {violation.pointer or '/'} {_one_line(violation.description)}"
        for violation in exchange.violations
    ]
    return redacted("  ".join(filter(None, parts)), exchange.token)


def _one_line(text: str) -> str:
    return shorten(text).replace('\\"', '"').strip('"')
