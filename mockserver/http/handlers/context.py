"""What a handler is given, and what it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.tenant import TenantState
from mockserver.contract.operation import Operation
from mockserver.http.channel import JSON, Response
from mockserver.http.request import ReceivedRequest
from mockserver.scenarios.scenario import Scenario, Urls


class Context(msgspec.Struct, frozen=True):
    """A request that the contract allows; `chosen` is the scenario if it asked for one itself."""

    backend: Backend
    tenant: TenantState
    operation: Operation
    scenario: Scenario
    chosen: Scenario | None
    request: ReceivedRequest

    @property
    def urls(self) -> Urls:
        """Where the URLs in predictions are to lead."""
        return self.scenario.urls or self.backend.options.urls


class Handled(msgspec.Struct, frozen=True):
    """A response, and what journal and coverage record of how it was made.

    `value` is the decoded body, if the contract can check it. `prediction_id` is the id of the
    prediction concerned, `prediction_status` its status in the response. `committed` tells whether
    something was created or changed. `created` tells, of a prediction that was created, the id of
    its model's operation, and the names in its input. `listed` are the ids and statuses of
    predictions in a list.
    """

    response: Response
    value: Any = None
    prediction_id: str | None = None
    prediction_status: str | None = None
    committed: bool = False
    created: tuple[str, frozenset[str]] | None = None
    listed: Sequence[tuple[str, str]] = ()


Handler = Callable[[Context], Awaitable[Handled]]


def json_response(context: Context, value: object, *, committed: bool = False) -> Handled:
    """The operation's success, with a JSON body."""
    response = Response(context.operation.success, msgspec.json.encode(value), JSON)
    return Handled(response, value, committed=committed)
