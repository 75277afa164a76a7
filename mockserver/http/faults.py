"""Faults: responses that stand in for the operation's own, and responses broken on their way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http.client import responses
from time import time
from typing import Any

import msgspec

from mockserver.clock import SECOND, Clock
from mockserver.contract.api_error import ApiError, Dialect
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.http.channel import NO_RESPONSE, Channel, Response
from mockserver.http.errors import error_response
from mockserver.http.handlers.context import Handled
from mockserver.http.request import ReceivedRequest
from mockserver.scenarios.scenario import Fault

NOTHING = Handled(Response(NO_RESPONSE))
_HTML_PAGE = (
    "<html>\r\n<head><title>{0} {1}</title></head>\r\n<body>\r\n"
    "<center><h1>{0} {1}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


async def wait_before(fault: Fault, channel: Channel) -> bool:
    """Wait as long as a fault delays the operation; return whether the client hung up meanwhile."""
    if fault.delay is None or fault.after is not None:
        return False
    return await channel.wait_for_disconnect(fault.delay)


def failure(
    contract: Contract,
    operation: Operation,
    methods: Iterable[str],
    fault: Fault,
    dialect: Dialect,
    clock: Clock,
) -> Handled:
    """The response of a fault that stands in for the operation's own.

    `methods` are those of the path, for the Allow of a 405; `clock` is the tenant's.
    """
    if fault.status is None:
        return NOTHING
    now = clock.now() / SECOND if clock.mode == "frozen" else time()
    delay = _retry_after_header(fault, now)
    headers = delay if fault.header else ()
    if fault.status == 405:
        headers = (*headers, (b"allow", ", ".join(methods).encode()))

    reason = responses.get(fault.status, "Error")
    if fault.page == "html":
        page = _HTML_PAGE.format(fault.status, reason)
        return Handled(Response(fault.status, page.encode(), "text/html", headers))
    if fault.page == "text":
        line = f"response {fault.status} (backend {reason.replace(' ', '')})"
        return Handled(Response(fault.status, line.encode(), "text/plain", headers))
    if fault.page == "empty":
        return Handled(Response(fault.status, headers=headers))

    error = ApiError(fault.status, fault.detail, title=fault.title)
    handled = error_response(contract, operation, error, dialect)
    value, body = handled.value, handled.response.body
    if delay and "retry_after" in value:
        body = msgspec.json.encode(_with_matching_retry_after(value, fault))
    return Handled(Response(fault.status, body, handled.response.content_type, headers))


def _retry_after_header(fault: Fault, now: float) -> tuple[tuple[bytes, bytes], ...]:
    """The Retry-After of a fault, if it has one; `now` is in seconds since the epoch."""
    if fault.retry_after_date is not None:
        text = formatdate(math.ceil(now + fault.retry_after_date), usegmt=True)
    elif isinstance(fault.retry_after, str):
        text = fault.retry_after
    elif fault.retry_after is not None:
        text = f"{fault.retry_after:.3f}".rstrip("0").rstrip(".")
    else:
        return ()
    return ((b"retry-after", text.encode()),)


def _with_matching_retry_after(value: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """The body of an error, with the same Retry-After as the header."""
    seconds = fault.retry_after if fault.retry_after_date is None else fault.retry_after_date
    if isinstance(seconds, str):
        seconds = int(seconds) if seconds.isdecimal() else None

    detail = value["detail"]
    if fault.detail is None:
        delay = "a while" if seconds is None else f"~{math.ceil(seconds)}s"
        detail = re.sub(r"~\d+s", delay, detail)
    matching = {**value, "detail": detail}
    del matching["retry_after"]
    return matching if seconds is None else {**matching, "retry_after": seconds}


def spoiled(handled: Handled, fault: Fault) -> Handled:
    """What an operation returned, with a body that a fault makes malformed or empty."""
    if fault.body is None:
        return handled
    body = handled.response.body
    body = b"" if fault.body == "empty" else body[: len(body) * 2 // 3]
    return msgspec.structs.replace(
        handled, response=msgspec.structs.replace(handled.response, body=body)
    )


def lost(handled: Handled, instead: Handled) -> Handled:
    """A response in place of the one that was lost after its operation had taken place."""
    return msgspec.structs.replace(
        instead,
        prediction_id=handled.prediction_id,
        committed=handled.committed,
        created=handled.created,
    )


async def send_response(request: ReceivedRequest, response: Response, fault: Fault | None) -> None:
    """Send a response, whole or as a fault breaks it; nothing, if the client has hung up."""
    channel = request.channel
    body = b"" if request.method == "HEAD" else response.body
    disconnects = fault is not None and fault.disconnect is not None
    has_left = response.status == NO_RESPONSE and not disconnects
    if response.events is not None:
        await channel.send_events(response)
    elif has_left or (fault is not None and await _wait_after(fault, channel)):
        await channel.abandon()
    elif fault is not None:
        await channel.send_broken(response, fault, body)
    elif request.body.refusal is not None:
        await channel.send_early(response)
    else:
        await channel.send_response(response, body)


async def _wait_after(fault: Fault, channel: Channel) -> bool:
    """Wait as long as a fault delays the response; return whether the client hung up meanwhile."""
    if fault.delay is None or fault.after is None:
        return False
    return await channel.wait_for_disconnect(fault.delay)
