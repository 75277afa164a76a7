"""The picture of a prediction, whole or in part."""

from __future__ import annotations

import asyncio
import re

from mockserver.backend.pictures import Picture
from mockserver.contract.api_error import ApiError
from mockserver.http.channel import Response
from mockserver.http.handlers.context import Context, Handled


async def picture(context: Context) -> Handled:
    """Send a picture, whole or in part."""
    backend, path = context.backend, context.request.path_params
    prediction = backend.deliverable(path["prediction_id"], path["output_format"])
    picture = await asyncio.to_thread(backend.pictures.draw, prediction)

    data, media_type = picture.data, picture.media_type
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"etag", picture.etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"public, max-age=3600"),
    )
    if _is_cached(context, picture):
        response = Response(304, headers=headers)
    elif part := _requested_part(context, picture):
        first, last = part
        content_range = f"bytes {first}-{last}/{len(data)}".encode()
        headers = (*headers, (b"content-range", content_range))
        response = Response(206, data[first : last + 1], media_type, headers)
    else:
        response = Response(200, data, media_type, headers, kept=True)
    return Handled(response, prediction_id=prediction.id)


def _is_cached(context: Context, picture: Picture) -> bool:
    """Whether the client says that it has the picture (If-None-Match)."""
    etags = context.request.header(b"if-none-match")
    if etags is None:
        return False
    return etags == "*" or picture.etag in [etag.strip() for etag in etags.split(",")]


def _requested_part(context: Context, picture: Picture) -> tuple[int, int] | None:
    """First and last byte that a Range header asks for (RFC 9110, 14.2); None for the whole.

    Raises ApiError (416) for a part that lies outside the picture.
    """
    request, size = context.request, len(picture.data)
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.header(b"range") or "")
    if match is None or match.groups() == ("", "") or context.operation.method == "HEAD":
        return None
    if (request.header(b"if-range") or picture.etag) != picture.etag:
        return None

    start, end = match.groups()
    if not start:  # the last bytes
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end or size), size - 1)
        if end and int(end) < first:
            return None
    if first > last:
        raise ApiError(416, headers={"Content-Range": f"bytes */{size}"})
    return first, last
