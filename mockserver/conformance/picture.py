"""Judges a delivered picture by its format and ratio."""

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
    exchange: GatewayExchange,
    creating: Operation,
    inputs: Mapping[str, Any],
    *,
    decode: bool = False,
) -> Iterator[Departure]:
    """Where a picture differs from the inputs of the operation that created it.

    `exchange` is its download. The first bytes are enough, except to decode it.
    """
    if exchange.status != 200:
        yield departure(exchange, "MC707", "", f"the picture is answered {exchange.status}")
        return
    look = look_at(exchange.body, decode=decode and exchange.whole)
    if look is None:
        yield departure(
            exchange,
            "MC707",
            "",
            f"its {exchange.size} bytes are not a whole jpeg, png, gif or webp picture",
        )
        return
    media_type, (width, height) = look
    if exchange.media_type in _MEDIA_TYPES.values() and exchange.media_type != media_type:
        message = f"{exchange.media_type} is declared, and the picture is {media_type}"
        yield departure(exchange, "MC703", "Content-Type:", message)
    name = inputs.get(creating.picture["format"], creating.defaults.get(creating.picture["format"]))
    requested = DRAWABLE.get(name) if isinstance(name, str) else None
    if requested is not None and requested != media_type:
        yield departure(
            exchange, "MC707", "", f"the picture is {media_type}; {shorten(name)} was asked for"
        )
    ratio_name = inputs.get(creating.picture["ratio"])
    ratio = parse_ratio(ratio_name) if isinstance(ratio_name, str) else None
    if ratio is None:
        return
    nearest = nearest_size(creating.picture["sizes"], ratio)
    if not any(
        abs(width / height / expected - 1) <= RATIO_TOLERANCE
        for expected in (ratio, nearest[0] / nearest[1])
    ):
        yield departure(
            exchange,
            "MC707",
            "",
            f"the picture has {width} x {height} pixels; {ratio_name} was asked for",
        )


def look_at(data: bytes, *, decode: bool) -> tuple[str, tuple[int, int]] | None:
    """The media type, and (width, height) in pixels; None if it is not a picture.

    With `decode` the pixels are read too, up to MAX_PIXELS.
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
