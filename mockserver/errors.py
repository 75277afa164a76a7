"""What the user of the double has to mend.

MockServerError             one clear line, which says what, where and how
├── ContractError           the contract file cannot drive a server
└── ScenarioError           a scenario is unknown, malformed or contradicts the contract
"""

from __future__ import annotations


class MockServerError(Exception):
    """Something that the user of the double has to mend. The message says what, where and how."""


class ContractError(MockServerError):
    """The contract cannot drive a server."""


class ScenarioError(MockServerError):
    """A scenario is unknown, malformed, or contradicts itself or the contract."""
