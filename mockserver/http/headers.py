"""What a scenario changes in a response on its way out: headers, and compression."""

from __future__ import annotations

import gzip
import re

import msgspec

from mockserver.contract.operation import Operation
from mockserver.http.behavior import Behavior
from mockserver.http.channel import JSON, Response
from mockserver.http.handlers.context import Handled
from mockserver.http.request import ReceivedRequest


def with_scenario_headers(
    operation: Operation | None, behavior: Behavior, handled: Handled
) -> Handled:
    """A response with the headers that its scenario adds or changes."""
    scenario, response = behavior.scenario, handled.response
    content_type = response.content_type
    more = tuple((name.lower().encode(), text.encode()) for name, text in scenario.headers.items())
    if behavior.quota is not None:
        others = (header for header in more if not header[0].startswith(b"ratelimit-"))
        more = (*others, *behavior.quota.headers)
    creating = operation is not None and operation.role == "create"
    if scenario.charset and creating and content_type == JSON:
        content_type = f"{JSON}; charset={scenario.charset}"
    response = msgspec.structs.replace(
        response,
        headers=(*response.headers, *more),
        content_type=content_type,
        chunked=scenario.chunked and "json" in content_type,
        title_case=scenario.header_names == "title",
    )
    return msgspec.structs.replace(handled, response=response)


def compressed(
    operation: Operation | None, request: ReceivedRequest, response: Response
) -> Response:
    """A response with its JSON compressed, for clients that accept it; never that to a create."""
    accepted = re.split(r"[\s,]+", request.header(b"accept-encoding") or "")
    creating = operation is not None and operation.role == "create"
    has_json = bool(response.body) and "json" in response.content_type
    if creating or not has_json or "gzip" not in accepted:
        return response
    headers = (*response.headers, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    body = gzip.compress(response.body, 1, mtime=0)
    return msgspec.structs.replace(response, body=body, headers=headers)
