"""What a scenario changes in an answer on its way out: headers, and compression."""

from __future__ import annotations

import gzip
import re

import msgspec

from mockserver.contract.operation import Operation
from mockserver.http.behavior import Behavior
from mockserver.http.channel import Response
from mockserver.http.handlers.context import JSON
from mockserver.http.request import Request


def with_other_headers(
    operation: Operation | None, behavior: Behavior, response: Response
) -> Response:
    """A response with the headers that its scenario adds, or has otherwise."""
    scenario, kind = behavior.scenario, response.content_type
    more = tuple((name.lower().encode(), text.encode()) for name, text in scenario.headers.items())
    if behavior.quota is not None:
        more = (
            *(header for header in more if not header[0].startswith(b"ratelimit-")),
            *behavior.quota.headers,
        )
    if scenario.charset and kind == JSON and operation is not None and operation.role == "create":
        kind = f"{kind}; charset={scenario.charset}"
    return msgspec.structs.replace(response, headers=(*response.headers, *more), content_type=kind)


def compressed(operation: Operation | None, request: Request, response: Response) -> Response:
    """A response as it travels where its JSON is compressed for those who accept that, but for answers to creates."""
    accepted = re.split(r"[\s,]+", request.header(b"accept-encoding") or "")
    creating = operation is not None and operation.role == "create"
    if (
        creating
        or "gzip" not in accepted
        or "json" not in response.content_type
        or not response.body
    ):
        return response
    headers = (*response.headers, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))
    return msgspec.structs.replace(
        response, body=gzip.compress(response.body, 1, mtime=0), headers=headers
    )
