"""The description of a rule for clients, webhook receivers or gateways."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class RuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A rule: its stable code, what it demands and why, and an example that breaks it.

    `fix` is the usual fix; empty if there is none to recommend.
    """

    code: str
    title: str
    severity: Severity
    rests_on: str
    demand: str
    example: str
    fix: str = ""
