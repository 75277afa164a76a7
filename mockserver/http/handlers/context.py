"""What a handler is given, and how it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.tenant import TenantState
from mockserver.contract.operation import Operation
from mockserver.http.channel import Response
from mockserver.http.request import Request
from mockserver.scenarios.scenario import Scenario, Urls

JSON = "application/json"


class Context(msgspec.Struct, frozen=True):
    """A request that the contract allows, ready to be handled.

    `chosen` is the scenario if the request itself asked for it; `response_delivered` tells whether
    the response is to arrive whole.
    """

    backend: Backend
    tenant: TenantState
    operation: Operation
    scenario: Scenario
    chosen: Scenario | None
    request: Request
    response_delivered: bool = True

    @property
    def urls(self) -> Urls:
        """Where the URLs in predictions are to point."""
        return self.scenario.urls or self.backend.options.urls


Handler = Callable[[Context], Awaitable[Response]]


def json_response(context: Context, value: object, *, committed: bool = False) -> Response:
    """An answer of success with a JSON body."""
    return Response(
        context.operation.success,
        msgspec.json.encode(value),
        JSON,
        value=value,
        committed=committed,
    )
