"""Text in any script, in the fonts that there are: how it is broken into lines, and drawn. Pillow is imported late.

The first font is Pillow's own, which has English; the second FiraGO, which has Latin, Greek,
Cyrillic, Arabic, Hebrew, Thai and more; the last, if its extra is installed, has Chinese, Japanese
and Korean. What none of them has is a box.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

ELLIPSIS = " …"

_NEVER_A_GLYPH = "\U0010fffd"  # private use: shows what a font draws for what it does not have
_PROBE = 16  # pixels; the size at which it is looked whether a font has a glyph


class Run(NamedTuple):
    """Characters that are drawn in one font, by its number; None for those that no font has."""

    font: int | None
    text: str


@lru_cache(1024)
def showable(text: str) -> str:
    """A text without what cannot be seen: spaces for what separates words, nothing for what only joins or turns."""
    return "".join(map(_seen, unicodedata.normalize("NFC", text)))


def _seen(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zs", "Zl", "Zp"):
        return " "
    if (
        kind == "Cf" or "\ufe00" <= character <= "\ufe0f"
    ):  # the latter choose between forms of a letter
        return ""
    return "\ufffd" if kind == "Cs" else character


def wrapped(text: str, size: int, width: float, most: int) -> list[str]:
    """A text in at most so many lines, each at most `width` pixels wide; the rest is an ellipsis."""
    lines: list[str] = []
    words = _pieces(text, size, width)
    line = ""
    for word, spaced in words:
        longer = f"{line} {word}" if line and spaced else line + word
        if not line or length(longer, size) <= width:
            line = longer
        elif len(lines) + 1 == most:
            return [*lines, _with_ellipsis(line, size, width)]
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line else lines


def _pieces(text: str, size: int, width: float) -> Iterator[tuple[str, bool]]:
    """What lines can be made of, and whether a space goes before it: words; their parts, where one is too wide."""
    for word in text.split():
        if length(word, size) <= width:
            yield word, True
            continue
        part, spaced = "", True
        for character in word:
            if part and length(part + character, size) > width:
                yield part, spaced
                part, spaced = "", False
            part += character
        yield part, spaced


def _with_ellipsis(line: str, size: int, width: float) -> str:
    while line and length(line + ELLIPSIS, size) > width:
        line = line[:-1]
    return line + ELLIPSIS


def runs(text: str) -> list[Run]:
    """A text by the fonts that it is drawn in: one for all of it, if one has all; else the first that has each part."""
    for number in range(_count()):
        if all(_has_glyph(number, character) for character in text):
            return [Run(number, text)]
    return [Run(font, "".join(part)) for font, part in groupby(text, _font_of)]


def length(text: str, size: int) -> float:
    """The width of a text in pixels."""
    return sum(_run_length(run, size) for run in runs(text))


def write(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    ink: tuple[int, ...],
) -> None:
    """Draw a line of text."""
    left, top = place
    for run in runs(text):
        if run.font is None:
            for character in run.text:
                wide = _box_width(character, size)
                canvas.rectangle(
                    (left + 1, top + size * 0.15, left + wide - 2, top + size), outline=ink
                )
                left += wide
        else:
            canvas.text(
                (left, top + _drop(run.font, size)), run.text, font=_font(run.font, size), fill=ink
            )
            left += _run_length(run, size)


def _run_length(run: Run, size: int) -> float:
    if run.font is None:
        return sum(_box_width(character, size) for character in run.text)
    return float(_font(run.font, size).getlength(run.text))


def _box_width(character: str, size: int) -> float:
    return size if unicodedata.east_asian_width(character) in "WF" else size * 0.65


def _drop(number: int, size: int) -> float:
    """How much lower a font's text is drawn, for its letters to stand on the line of the first font's."""
    first, other = _font(0, size), _font(number, size)
    return float(_ascent(first) - _ascent(other))


def _ascent(font: Font) -> int:
    return int(font.getmetrics()[0]) if hasattr(font, "getmetrics") else 0


def _font_of(character: str) -> int | None:
    return next((number for number in range(_count()) if _has_glyph(number, character)), None)


@lru_cache(16_384)
def _has_glyph(number: int, character: str) -> bool:
    font = _font(number, _PROBE, shaping=False)
    return character == " " or bytes(font.getmask(character)) != bytes(font.getmask(_NEVER_A_GLYPH))


@cache
def _count() -> int:
    """How many fonts there are."""
    return 2 if find_spec("noto_cjk_sans_otc") is None else 3


@cache
def _fira() -> bytes:
    from pymupdf_fonts import myfont

    return bytes(myfont("figo"))


@cache
def _font(number: int, size: int, *, shaping: bool = True) -> Font:
    from PIL import ImageFont

    size = max(6, size)
    if number == 0:
        return ImageFont.load_default(size)
    engine = (
        None if shaping else ImageFont.Layout.BASIC
    )  # the one that joins letters, where there is one
    if number == 1:
        return ImageFont.truetype(io.BytesIO(_fira()), size, layout_engine=engine)
    from noto_cjk_sans_otc import FONT_PATH

    return ImageFont.truetype(str(FONT_PATH), size, layout_engine=engine)
