"""One exchange with a gateway as it is judged, within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mockserver.contract.operation import Operation
from mockserver.json_text import read_json, shorten
from mockserver.redaction import redacted

MAX_JUDGED = 4 * 1024 * 1024  # bytes of a body that are judged
MAX_SHOWN_BODY = 2000  # characters of a body in a report
MAX_SHOWN_HEADERS = 40
READABLE_ENCODINGS = ("identity", "gzip", "deflate")

_SHOWN_OF_REQUEST = frozenset({"content-type", "prefer", "cancel-after", "authorization"})


class GatewayExchange(msgspec.Struct, kw_only=True):
    """An exchange with a gateway.

    `sent` is the decoded body of the request, if it is JSON. `headers` are those of the response,
    with names in lower case. `body` has at most MAX_JUDGED bytes, decoded from its
    Content-Encoding; it is complete if `whole`. `unreadable` is why it cannot be decoded, if so.
    With `must_refuse` the contract forbids the request. `at` is when the request was sent, in
    nanoseconds since the epoch, `seconds` the duration.
    """

    operation: Operation
    method: str
    path: str
    token: str
    sent_headers: Mapping[str, str] = {}
    sent_body: bytes = b""
    sent: Any = None
    must_refuse: bool = False
    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    size: int = 0
    whole: bool = True
    unreadable: str = ""
    at: int = 0
    seconds: float = 0.0

    def header(self, name: str) -> str:
        """The last response header with that lower-case name; empty if there is none."""
        return next((value for key, value in reversed(self.headers) if key == name), "")

    @property
    def media_type(self) -> str:
        """The media type of the response, in lower case and without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    def value(self) -> Any:
        """The decoded JSON of the response. Raises ValueError, which says what it is instead."""
        return read_json(self.body)

    def prediction(self) -> dict[str, Any] | None:
        """The prediction in the response, if there is one."""
        if not 200 <= self.status < 300 or not self.whole:
            return None
        try:
            value = self.value()
        except ValueError:
            return None
        return value if isinstance(value, dict) and "status" in value else None

    def as_json(self) -> dict[str, Any]:
        """The exchange as JSON values, with the token shortened and the response cut to a bound."""
        value = {
            "request": {
                "method": self.method,
                "path": self.path,
                "headers": {
                    name: value
                    for name, value in self.sent_headers.items()
                    if name in _SHOWN_OF_REQUEST
                },
                "body": _text(self.sent_body),
            },
            "response": {
                "status": self.status,
                "headers": {
                    name: value[:500]
                    for name, value in self.headers[:MAX_SHOWN_HEADERS]
                    if name != "set-cookie"
                },
                "body": _text(self.body) if _is_text(self.media_type) else "",
                "body_size": self.size,
            },
            "seconds": round(self.seconds, 3),
        }
        return redacted(value, self.token)


def _is_text(media_type: str) -> bool:
    return "json" in media_type or media_type.startswith("text/") or not media_type


def _text(body: bytes) -> str:
    text = body[: 4 * MAX_SHOWN_BODY].decode("utf-8", "replace")
    return text if len(text) <= MAX_SHOWN_BODY else text[:MAX_SHOWN_BODY] + "…"


class BodyReader:
    """Decodes the start of a body that arrives in pieces, according to its Content-Encoding.

    At most `limit` bytes are decoded, whatever the compression. `size` counts the bytes that
    arrived. `body` is complete if `whole`. `unreadable` is why it cannot be decoded, if so.
    """

    def __init__(self, encoding: str, limit: int = MAX_JUDGED) -> None:
        self._limit = limit
        self._decoder = None
        self._kept = bytearray()
        self.size = 0
        self.whole = encoding in ("", *READABLE_ENCODINGS)
        self.unreadable = (
            "" if self.whole else f"encoded as {shorten(encoding)}, which nobody asked for"
        )
        if encoding in ("gzip", "deflate"):
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # which detects either

    @property
    def body(self) -> bytes:
        """The decoded bytes."""
        return bytes(self._kept)

    def feed(self, chunk: bytes) -> None:
        """Add a piece."""
        self.size += len(chunk)
        if not self.whole:
            return
        room = self._limit - len(self._kept)
        if self._decoder is None:
            self._kept += chunk[:room]
            self.whole = len(chunk) <= room
            return
        try:
            self._kept += self._decoder.decompress(chunk, room + 1)
        except zlib.error:
            self.whole = False
            self.unreadable = "not encoded as its Content-Encoding says"
        if len(self._kept) > self._limit:
            del self._kept[self._limit :]
            self.whole = False
