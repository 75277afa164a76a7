"""What a rule says of itself, whoever is held to it: clients, webhook receivers or gateways."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class RuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is demanded, with its stable code, what it rests on, and an example of who breaks it.

    `fix` is what usually mends it.
    """

    code: str
    title: str
    severity: Severity
    rests_on: str
    demand: str
    example: str
    fix: str = ""
