"""The format and size of a picture, from its first bytes."""

from __future__ import annotations

import base64
import binascii
import re
from zlib import crc32

from mockserver.images.draw import MAX_PIXELS

MAX_SEGMENTS = 1000  # of a JPEG, before its frame
_JPEG_MARKER = re.compile(rb"\xff++([^\xff\x00])", re.DOTALL)
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


class UnsupportedImage(ValueError):
    """A picture that cannot be used. The message says why, and what would be right."""


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
    # Not by Pillow, which reads everything in front of the picture: half a million empty chunks
    # would take it seconds.
    for read in (_png_size, _jpeg_size, _gif_size, _webp_size):
        size = read(data)
        if size is not None and 0 < size[0] * size[1] <= MAX_PIXELS:
            return size
    raise UnsupportedImage("the data are not a jpeg, png, gif or webp picture")


def _png_size(data: bytes) -> tuple[int, int] | None:
    head = data[12:29]
    if (
        data[:8] != b"\x89PNG\r\n\x1a\n"
        or head[:4] != b"IHDR"
        or data[29:33] != crc32(head).to_bytes(4, "big")
    ):
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
        width, height = (int.from_bytes(frame[start : start + 2], "little") for start in (6, 8))
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in the frame header of a JPEG, behind segments of any kind (ITU T.81, annex B)."""
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    for _ in range(MAX_SEGMENTS):
        marker = _JPEG_MARKER.match(data, place)
        if marker is None:
            return None
        place, kind = marker.end(), marker[1][0]
        if kind in _JPEG_FRAMES and len(data) >= place + 7:
            height = int.from_bytes(data[place + 3 : place + 5], "big")
            width = int.from_bytes(data[place + 5 : place + 7], "big")
            return width, height
        place += int.from_bytes(data[place : place + 2], "big")
    return None
