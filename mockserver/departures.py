"""What is wrong with something that a gateway answered."""

from __future__ import annotations

from typing import Literal

import msgspec


class Departure(msgspec.Struct, frozen=True, gc=False):
    """One thing in a gateway's answer that the contract does not allow.

    `pointer` is a JSON pointer into the body, `Name:` of a header, or empty for the answer as a whole. `contract` is a
    JSON pointer into the contract: what says otherwise.
    """

    rule: str
    severity: Literal["error", "advice"]
    operation: str
    pointer: str
    message: str
    contract: str
