"""Text in any script: how it is broken into lines and drawn. Pillow is imported on first use.

The first font is Pillow's own, for English; the second FiraGO, for Latin, Greek, Cyrillic, Arabic,
Hebrew, Thai and more; the third, if the extra `cjk` is installed, is for Chinese, Japanese and
Korean. Characters that none of them has are boxes.
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

_NEVER_A_GLYPH = "\U0010fffd"  # private use: fonts draw it as a missing character
_PROBE = 16  # pixels; the size at which fonts are tested for glyphs


class Run(NamedTuple):
    """Characters drawn in one font, given by its number; None if no font has them."""

    font: int | None
    text: str


@lru_cache(1024)
def showable(text: str) -> str:
    """A text with spaces for separators, and without other invisible characters."""
    return "".join(map(_visible, unicodedata.normalize("NFC", text)))


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zs", "Zl", "Zp"):
        return " "
    is_variation_selector = "\ufe00" <= character <= "\ufe0f"
    if kind == "Cf" or is_variation_selector:
        return ""
    return "\ufffd" if kind == "Cs" else character


def wrapped(text: str, size: int, width: float, max_lines: int) -> list[str]:
    """A text in lines of at most `width` pixels; an ellipsis ends one with too many lines."""
    lines: list[str] = []
    words = _pieces(text, size, width)
    line = ""
    for word, spaced in words:
        longer = f"{line} {word}" if line and spaced else line + word
        if not line or length(longer, size) <= width:
            line = longer
        elif len(lines) + 1 == max_lines:
            return [*lines, _with_ellipsis(line, size, width)]
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line else lines


def _pieces(text: str, size: int, width: float) -> Iterator[tuple[str, bool]]:
    """Words, or parts of those that are too wide, each with whether a space precedes it."""
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
    """A text by fonts: one for all of it if possible, else the first that has each character."""
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
                box = _box_width(character, size)
                canvas.rectangle(
                    (left + 1, top + size * 0.15, left + box - 2, top + size), outline=ink
                )
                left += box
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
    """How much lower a font's text is drawn, to have the base line of the first font."""
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
    # None is the engine that joins letters, if there is one.
    engine = None if shaping else ImageFont.Layout.BASIC
    if number == 1:
        return ImageFont.truetype(io.BytesIO(_fira()), size, layout_engine=engine)
    from noto_cjk_sans_otc import FONT_PATH

    return ImageFont.truetype(str(FONT_PATH), size, layout_engine=engine)
