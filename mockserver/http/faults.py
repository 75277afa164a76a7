"""Answers as a fault makes or breaks them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from mockserver.http.channel import NO_RESPONSE, Response
from mockserver.http.request import Request
from mockserver.scenarios.scenario import Fault

HTML_PAGE = (
    "<html>\r\n<head><title>{0} {1}</title></head>\r\n<body>\r\n"
    "<center><h1>{0} {1}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def with_matching_retry_after(value: Mapping[str, Any], fault: Fault) -> dict[str, Any]:
    """The body of an error that says the same of its Retry-After as the header."""
    asked = fault.retry_after_date if fault.retry_after_date is not None else fault.retry_after
    if isinstance(asked, str):
        asked = int(asked) if asked.isdecimal() else None
    said = "a while" if asked is None else f"~{math.ceil(asked)}s"
    detail = (
        value["detail"] if fault.detail is not None else re.sub(r"~\d+s", said, value["detail"])
    )
    rest = {name: part for name, part in value.items() if name != "retry_after"}
    return {**rest, "detail": detail, **({} if asked is None else {"retry_after": asked})}


def retry_after_header(fault: Fault, now: float) -> tuple[tuple[bytes, bytes], ...]:
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


async def send_response(request: Request, response: Response, fault: Fault | None) -> None:
    """Send a response, whole or as a fault breaks it."""
    body = b"" if request.method == "HEAD" else response.body
    if response.events is not None:
        await request.channel.send_events(response)
    elif request.refusal is not None and fault is None:
        await request.channel.send_early(response)
    elif fault is None and response.status != NO_RESPONSE:
        await request.channel.send_response(response, body)
    else:
        await _send_faulty(request, response, body, fault)


async def _send_faulty(
    request: Request, response: Response, body: bytes, fault: Fault | None
) -> None:
    """Send a response as a fault breaks it; nothing, if the client has hung up."""
    channel = request.channel
    if fault is None or (response.status == NO_RESPONSE and fault.disconnect is None):
        await channel.abandon()
        return
    if (
        fault.delay is not None
        and fault.after is not None
        and await channel.wait_for_disconnect(fault.delay)
    ):
        await channel.abandon()
        return
    await channel.send_broken(response, fault, body)
