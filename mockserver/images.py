"""The picture: reading the ones that come in, drawing the ones that go out. Pillow is imported on first use."""

from __future__ import annotations

import base64
import binascii
import io
import math
import random
import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

READABLE = ("JPEG", "PNG", "GIF", "WEBP")
DRAWABLE: Mapping[str, str] = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}


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
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=READABLE) as image:
                return image.size
        except Exception as reason:
            raise UnsupportedImage("the data are not a jpeg, png, gif or webp picture") from reason


def parse_ratio(text: str) -> float | None:
    """`16:9` as a number; None if it is no ratio."""
    match = re.fullmatch(r"([1-9]\d{0,5}):([1-9]\d{0,5})", text)
    return int(match.group(1)) / int(match.group(2)) if match else None


def nearest_size(sizes: Sequence[tuple[int, int]], ratio: float) -> tuple[int, int]:
    """The size whose width to height is nearest to a ratio, as the eye has it; the first of equals."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def draw(*, prompt: str, caption: Sequence[str], size: tuple[int, int], media_type: str, seed: int) -> bytes:
    """A picture with a prompt and a caption readable in it; the same bytes for the same arguments."""
    from PIL import ImageDraw

    dice = random.Random(seed)  # noqa: S311
    hue = dice.randrange(256)
    picture = _background(size, hue, dice)
    panel = ImageDraw.Draw(picture, "RGBA")
    _write(panel, size, prompt, caption)
    out = io.BytesIO()
    kind = media_type.removeprefix("image/").upper()
    options = {"JPEG": {"quality": 85}, "PNG": {"compress_level": 3}}.get(kind, {})
    picture.save(out, kind, **options)
    return out.getvalue()


def _background(size: tuple[int, int], hue: int, dice: random.Random) -> Image.Image:
    from PIL import Image, ImageDraw

    top = Image.new("HSV", (1, 1), (hue, 150, 110)).convert("RGB").getpixel((0, 0))
    low = Image.new("HSV", (1, 1), ((hue + 40) % 256, 120, 240)).convert("RGB").getpixel((0, 0))
    picture = Image.new("RGB", (1, 2))
    picture.putpixel((0, 0), top)
    picture.putpixel((0, 1), low)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(picture, "RGBA")
    width, height = size
    for layer in range(4):
        base = height * (0.55 + 0.12 * layer)
        points = [(x * width / 6, base + dice.uniform(-0.08, 0.08) * height) for x in range(7)]
        shade = (20, 25, 45, 60 + 40 * layer)
        canvas.polygon([(0, height), *points, (width, height)], fill=shade)
    return picture


def _write(panel: ImageDraw.ImageDraw, size: tuple[int, int], prompt: str, caption: Sequence[str]) -> None:
    width, height = size
    unit = max(10, min(size) // 22)
    font, small = _font(unit), _font(max(8, unit // 2))
    columns = max(8, int(width * 0.8 / (unit * 0.55)))
    room = max(1, int(height * 0.5 / (unit * 1.3)))
    text = "".join(c if c.isprintable() else " " for c in prompt[: columns * (room + 1)])
    lines = textwrap.wrap(_showable(text), columns, max_lines=room, placeholder=" …")
    margin = unit
    block = int(len(lines) * unit * 1.3 + len(caption) * unit * 0.75 + 2 * margin)
    top = height - block - margin
    panel.rounded_rectangle((margin, top, width - margin, height - margin), radius=unit, fill=(0, 0, 0, 150))
    y = float(top + margin)
    for line in lines:
        panel.text((2 * margin, y), line, font=font, fill=(255, 255, 255, 255))
        y += unit * 1.3
    for line in caption:
        panel.text((2 * margin, y), line, font=small, fill=(255, 255, 255, 190))
        y += unit * 0.75


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _showable(text: str) -> str:
    return "".join(c if ord(c) < 0x250 else f"\\u{ord(c):04x}" for c in text)
