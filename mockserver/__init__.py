"""A local test double of the Replicate-style FLUX gateway, and its admin API from Python.

from mockserver import MockServer

with MockServer() as server:
    tenant = server.tenant()
    ...  # give a client tenant.base_url and tenant.token
    assert tenant.verdict()["ok"]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mockserver.check.client import check_client
    from mockserver.client import AdminError, AsyncTenant, Tenant
    from mockserver.errors import MockServerError
    from mockserver.scenarios.scenario import Body, Fault, Scenario, Step
    from mockserver.server.mock_server import MockServer

__all__ = [
    "AdminError",
    "AsyncTenant",
    "Body",
    "Fault",
    "MockServer",
    "MockServerError",
    "Scenario",
    "Step",
    "Tenant",
    "check_client",
]

_HOMES = {
    "Body": "mockserver.scenarios.scenario",
    "Fault": "mockserver.scenarios.scenario",
    "MockServer": "mockserver.server",
    "MockServerError": "mockserver.errors",
    "Scenario": "mockserver.scenarios.scenario",
    "AdminError": "mockserver.client",
    "AsyncTenant": "mockserver.client",
    "Step": "mockserver.scenarios.scenario",
    "Tenant": "mockserver.client",
    "check_client": "mockserver.check.client",
}


def __getattr__(name: str) -> Any:
    # Imported on use: pytest loads this package, by its plugin, in suites that never touch it.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
