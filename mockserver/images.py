"""The picture: reading the ones that come in, drawing the ones that go out. Pillow is imported on first use."""

from __future__ import annotations

import base64
import binascii
import colorsys
import io
import math
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from zlib import crc32

from mockserver.lettering import showable, wrapped, write

if TYPE_CHECKING:
    from PIL import Image

DRAWABLE: Mapping[str, str] = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}

MAX_PIXELS = 178_956_970  # as Pillow has it: what is larger is taken for a decompression bomb
MAX_COLUMNS = 200  # characters in a line of the narrowest letters
LEADING = 1.35  # from line to line, in heights of letters
MAX_SEGMENTS = 1000  # of a JPEG, before its frame

_JPEG_MARKER = re.compile(rb"\xff++([^\xff\x00])", re.DOTALL)
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


class UnsupportedImage(ValueError):
    """A picture that cannot be taken. The message says why, and what would be right."""


def read_data_uri(uri: str) -> bytes:
    """The bytes of a `data:image/…;base64,…` URI. Raises UnsupportedImage."""
    head, comma, data = uri.partition(",")
    if not re.fullmatch(r"data:image/[\w.+-]+;base64", head) or not comma:
        raise UnsupportedImage("not of the form data:image/<type>;base64,<data>")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise UnsupportedImage(f"the base64 of the data URI is broken: {reason}") from reason


def measure(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header alone. Raises UnsupportedImage."""
    # Not by Pillow, which reads all that may stand before the picture: half a million empty chunks take it seconds.
    for read in (_png_size, _jpeg_size, _gif_size, _webp_size):
        size = read(data)
        if size is not None and 0 < size[0] * size[1] <= MAX_PIXELS:
            return size
    raise UnsupportedImage("the data are not a jpeg, png, gif or webp picture")


def _png_size(data: bytes) -> tuple[int, int] | None:
    head = data[12:29]
    if data[:8] != b"\x89PNG\r\n\x1a\n" or head[:4] != b"IHDR" or data[29:33] != crc32(head).to_bytes(4, "big"):
        return None
    return int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")


def _gif_size(data: bytes) -> tuple[int, int] | None:
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 13:
        return None
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """The size in a WebP container, which has three kinds of frames (RFC 9649)."""
    kind, frame = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(frame) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(frame[4:7], "little") + 1, int.from_bytes(frame[7:10], "little") + 1
    if kind == b"VP8L" and frame[0] == 0x2F:
        bits = int.from_bytes(frame[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and frame[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in the frame header of a JPEG, which stands behind segments of any kind (ITU T.81, annex B)."""
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    for _ in range(MAX_SEGMENTS):
        marker = _JPEG_MARKER.match(data, place)
        if marker is None:
            return None
        place, kind = marker.end(), marker[1][0]
        if kind in _JPEG_FRAMES and len(data) >= place + 7:
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 3 : place + 5], "big"
            )
        place += int.from_bytes(data[place : place + 2], "big")
    return None


@lru_cache(1024)
def parse_ratio(text: str) -> float | None:
    """`16:9` as a number; None if it is no ratio."""
    match = re.fullmatch(r"([1-9]\d{0,5}):([1-9]\d{0,5})", text)
    return int(match.group(1)) / int(match.group(2)) if match else None


@lru_cache(1024)
def nearest_size(sizes: tuple[tuple[int, int], ...], ratio: float) -> tuple[int, int]:
    """The size whose width to height is nearest to a ratio, as the eye has it; the first of equals."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def draw(*, prompt: str, caption: Sequence[str], size: tuple[int, int], media_type: str, seed: int) -> bytes:
    """A picture with a prompt and a caption readable in it; the same bytes for the same arguments."""
    picture = _landscape(size, random.Random(seed))  # noqa: S311
    _write(picture, prompt, caption)
    out = io.BytesIO()
    kind = media_type.removeprefix("image/").upper()
    settings: dict[str, int] = {"JPEG": {"quality": 85}, "PNG": {"compress_level": 3}}.get(kind, {})
    picture.save(out, kind, **settings)
    return out.getvalue()


def _landscape(size: tuple[int, int], dice: random.Random) -> Image.Image:
    """A sky in two colours over layers of hills."""
    from PIL import Image, ImageDraw

    width, height = size
    hue = dice.random()
    sky = Image.new("RGB", (1, 2))
    sky.putpixel((0, 0), _colour(hue, 0.6, 0.42))
    sky.putpixel((0, 1), _colour(hue + 0.15, 0.45, 0.95))
    picture = sky.resize(size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(picture, "RGBA")
    for layer in range(4):
        base = height * (0.55 + 0.12 * layer)
        ridge = [(x * width / 6, base + dice.uniform(-0.08, 0.08) * height) for x in range(7)]
        canvas.polygon([(0, height), *ridge, (width, height)], fill=(20, 25, 45, 60 + 40 * layer))
    return picture


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write(picture: Image.Image, prompt: str, caption: Sequence[str]) -> None:
    """A dark panel at the foot of the picture, the prompt in it, and the caption beneath, smaller."""
    from PIL import ImageDraw

    width, height = picture.size
    unit = max(10, min(picture.size) // 22)  # pixels; the height of the prompt's letters, and every margin
    most = max(1, int(height * 0.5 / (unit * LEADING)))
    shown = prompt[: MAX_COLUMNS * (most + 1)]  # a prompt can be very long; this much is all that can be seen
    lines = wrapped(showable(shown), unit, width - 4 * unit, most)
    rows = [(line, unit, 255) for line in lines] + [(showable(line), unit // 2, 180) for line in caption]
    left, foot = 2 * unit, height - 2 * unit
    top = foot - sum(letters * LEADING for _, letters, _ in rows) - (unit / 2 if lines else 0)
    canvas = ImageDraw.Draw(picture, "RGBA")
    canvas.rounded_rectangle((unit, top - unit, width - unit, height - unit), radius=unit, fill=(0, 0, 0, 150))
    for number, (line, letters, light) in enumerate(rows):
        if lines and number == len(lines):
            top += unit / 2
        write(canvas, (left, top), line, letters, (255, 255, 255, light))
        top += letters * LEADING
