"""A delivered picture, looked at: its format and its ratio."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from mockserver.backend.journal import Departure
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.judge import departure
from mockserver.contract.operation import Operation
from mockserver.images.draw import DRAWABLE, nearest_size, parse_ratio
from mockserver.json_text import shorten

RATIO_TOLERANCE = 0.02
MAX_PIXELS = 50_000_000  # of a picture that is decoded

_MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


def judge_picture(
    seen: GatewayExchange, creating: Operation, given: Mapping[str, Any], *, decode: bool = False
) -> Iterator[Departure]:
    """What of a picture is not as it was asked for by an input of an operation that creates predictions.

    `seen` is the exchange that fetched it, of which the first bytes are enough unless it is to be
    decoded.
    """
    if seen.status != 200:
        yield departure(seen, "MC707", "", f"the picture is answered {seen.status}")
        return
    look = look_at(seen.body, decode=decode and seen.whole)
    if look is None:
        yield departure(
            seen,
            "MC707",
            "",
            f"its {seen.size} bytes are not a whole jpeg, png, gif or webp picture",
        )
        return
    media_type, (width, height) = look
    if seen.media_type in _MEDIA_TYPES.values() and seen.media_type != media_type:
        said = f"{seen.media_type} is declared, and the picture is {media_type}"
        yield departure(seen, "MC703", "Content-Type:", said)
    word = given.get(creating.picture["format"], creating.defaults.get(creating.picture["format"]))
    wanted = DRAWABLE.get(word) if isinstance(word, str) else None
    if wanted is not None and wanted != media_type:
        yield departure(
            seen, "MC707", "", f"the picture is {media_type}; {shorten(word)} was asked for"
        )
    asked = given.get(creating.picture["ratio"])
    ratio = parse_ratio(asked) if isinstance(asked, str) else None
    if ratio is None:
        return
    nearest = nearest_size(creating.picture["sizes"], ratio)
    if not any(
        abs(width / height / each - 1) <= RATIO_TOLERANCE
        for each in (ratio, nearest[0] / nearest[1])
    ):
        yield departure(
            seen, "MC707", "", f"the picture has {width} x {height} pixels; {asked} was asked for"
        )


def look_at(data: bytes, *, decode: bool) -> tuple[str, tuple[int, int]] | None:
    """Media type, and width and height in pixels, by the picture's own header; None if it is no picture.

    With `decode` its pixels are read too, unless there are too many.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=tuple(_MEDIA_TYPES)) as image:
                width, height = image.size
                if decode and width * height <= MAX_PIXELS:
                    image.load()
                return (
                    (_MEDIA_TYPES[image.format or ""], (width, height))
                    if width and height
                    else None
                )
        except Exception:
            return None
