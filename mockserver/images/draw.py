"""The picture of a prediction: a landscape with its prompt in it."""

from __future__ import annotations

import colorsys
import io
import math
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from mockserver.images.text import showable, wrapped, write

if TYPE_CHECKING:
    from PIL import Image


DRAWABLE: Mapping[str, str] = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}
MAX_PIXELS = 178_956_970  # Pillow's limit: larger pictures count as decompression bombs
MAX_COLUMNS = 200  # characters in a line, of the narrowest ones
LEADING = 1.35  # distance of lines, in heights of letters


@lru_cache(1024)
def parse_ratio(text: str) -> float | None:
    """A ratio such as `16:9` as a number; None for other texts."""
    match = re.fullmatch(r"([1-9]\d{0,5}):([1-9]\d{0,5})", text)
    return int(match.group(1)) / int(match.group(2)) if match else None


@lru_cache(1024)
def nearest_size(sizes: tuple[tuple[int, int], ...], ratio: float) -> tuple[int, int]:
    """The size whose aspect ratio is nearest to `ratio` by proportion; the first of equals."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def draw(
    *, prompt: str, caption: Sequence[str], size: tuple[int, int], media_type: str, seed: int
) -> bytes:
    """A picture that shows a prompt and a caption.

    The same arguments give the same bytes. `size` is in pixels, `media_type` one of DRAWABLE.
    """
    picture = _landscape(size, random.Random(seed))  # noqa: S311
    _write(picture, prompt, caption)
    out = io.BytesIO()
    kind = media_type.removeprefix("image/").upper()
    settings: dict[str, int] = {"JPEG": {"quality": 85}, "PNG": {"compress_level": 3}}.get(kind, {})
    picture.save(out, kind, **settings)
    return out.getvalue()


def _landscape(size: tuple[int, int], dice: random.Random) -> Image.Image:
    """A sky in two colors over layers of hills."""
    from PIL import Image, ImageDraw

    width, height = size
    hue = dice.random()
    sky = Image.new("RGB", (1, 2))
    sky.putpixel((0, 0), _color(hue, 0.6, 0.42))
    sky.putpixel((0, 1), _color(hue + 0.15, 0.45, 0.95))
    picture = sky.resize(size, Image.Resampling.BILINEAR)

    canvas = ImageDraw.Draw(picture, "RGBA")
    for layer in range(4):
        base = height * (0.55 + 0.12 * layer)
        ridge = [(x * width / 6, base + dice.uniform(-0.08, 0.08) * height) for x in range(7)]
        canvas.polygon([(0, height), *ridge, (width, height)], fill=(20, 25, 45, 60 + 40 * layer))
    return picture


def _color(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _write(picture: Image.Image, prompt: str, caption: Sequence[str]) -> None:
    """Draw the prompt, and below it the caption, on a dark panel at the foot of the picture."""
    from PIL import ImageDraw

    width, height = picture.size
    # The height of the prompt's letters, and of every margin, in pixels.
    unit = max(10, min(picture.size) // 22)
    max_lines = max(1, int(height * 0.5 / (unit * LEADING)))

    visible = prompt[: MAX_COLUMNS * (max_lines + 1)]  # a prompt can be very long
    lines = wrapped(showable(visible), unit, width - 4 * unit, max_lines)
    rows = [(line, unit, 255) for line in lines]
    rows += [(showable(line), unit // 2, 180) for line in caption]

    left, foot = 2 * unit, height - 2 * unit
    top = foot - sum(letters * LEADING for _, letters, _ in rows) - (unit / 2 if lines else 0)
    canvas = ImageDraw.Draw(picture, "RGBA")
    canvas.rounded_rectangle(
        (unit, top - unit, width - unit, height - unit), radius=unit, fill=(0, 0, 0, 150)
    )

    for number, (line, letters, light) in enumerate(rows):
        if lines and number == len(lines):
            top += unit / 2
        write(canvas, (left, top), line, letters, (255, 255, 255, light))
        top += letters * LEADING
