"""Errors that the user of the double has to fix.

MockServerError             one clear line: what is wrong, where, and how to fix it
├── ContractError           the contract file cannot drive a server
└── ScenarioError           a scenario is unknown, malformed or contradicts the contract
"""

from __future__ import annotations


class MockServerError(Exception):
    """Something that the user has to fix. The message says what, where and how, in one line."""


class ContractError(MockServerError):
    """The contract cannot drive a server."""


class ScenarioError(MockServerError):
    """A scenario is unknown, malformed, or contradicts itself or the contract."""
