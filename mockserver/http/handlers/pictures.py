"""The picture of a prediction, whole or in part."""

from __future__ import annotations

import asyncio
import re

from mockserver.backend.pictures import Picture
from mockserver.contract.api_error import ApiError
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Context


async def picture(context: Context) -> Response:
    """A picture, whole or in part."""
    prediction = context.backend.deliverable(
        context.request.path_params["prediction_id"], context.request.path_params["output_format"]
    )
    picture = await asyncio.to_thread(context.backend.pictures.draw, prediction)
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"etag", picture.etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"public, max-age=3600"),
    )
    wanted = context.request.header(b"if-none-match")
    if wanted is not None and (
        wanted == "*" or picture.etag in [tag.strip() for tag in wanted.split(",")]
    ):
        return Response(304, headers=headers, prediction_id=prediction.id)
    part = _part(context, picture)
    if part is None:
        return Response(
            200, picture.data, picture.media_type, headers, prediction_id=prediction.id, kept=True
        )
    first, last = part
    where = f"bytes {first}-{last}/{len(picture.data)}".encode()
    data = picture.data[first : last + 1]
    headers = (*headers, (b"content-range", where))
    return Response(206, data, picture.media_type, headers, prediction_id=prediction.id)


def _part(context: Context, picture: Picture) -> tuple[int, int] | None:
    """First and last byte asked for by a Range header (RFC 9110, 14.2); None for the whole."""
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", context.request.header(b"range") or "")
    if_range = context.request.header(b"if-range") or picture.etag
    if (
        asked is None
        or asked.groups() == ("", "")
        or if_range != picture.etag
        or context.operation.method == "HEAD"
    ):
        return None
    size = len(picture.data)
    start, end = asked.groups()
    first, last = (
        (int(start), min(int(end or size), size - 1))
        if start
        else (max(0, size - int(end)), size - 1)
    )
    if end and start and int(end) < first:
        return None
    if first > last:
        raise ApiError(416, headers={"Content-Range": f"bytes */{size}"})
    return first, last
