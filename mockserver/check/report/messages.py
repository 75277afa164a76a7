"""Requests and responses as they stand in a report: headers and bodies, with secrets in part."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from mockserver.backend.journal import Exchange
from mockserver.redaction import redacted

MAX_BODY = 2_000  # characters of a body that are shown
EXAMPLE_ORIGIN = "http://127.0.0.1:3589"  # where `mockserver serve` listens
TOKEN = "$REPLICATE_API_TOKEN"  # noqa: S105 - what stands for it in a command
OF_THE_CONNECTION = frozenset(
    {"host", "connection", "content-length", "accept-encoding", "transfer-encoding"}
)


class Message(msgspec.Struct, frozen=True):
    """A request or a response: its first line, headers and body, which may have been `cut`."""

    start: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    cut: bool = False

    @property
    def text(self) -> str:
        """The whole message, as HTTP has it."""
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return "\n".join([*lines, "", self.body] if self.body else lines)


def messages_of(exchange: Exchange, token: str) -> tuple[Message, Message]:
    """The request and the response of an exchange."""
    shown: dict[str, Any] = redacted(exchange.as_json(), token)
    asked, answered = shown["request"], shown["response"]
    query = redacted(exchange.query.decode("latin-1"), token)
    target = redacted(exchange.path, token) + (f"?{query}" if query else "")
    request = Message(f"{asked['method']} {target}", _headers(asked["headers"]), *_body(asked))
    if not answered["status"]:
        return request, Message("no response")
    start = " ".join(filter(None, (str(answered["status"]), answered["prediction_status"])))
    return request, Message(start, _headers(answered["headers"]), *_body(answered))


def curl_of(request: Message) -> str:
    """The command that sends a request to a double on its usual port."""
    method, _, target = request.start.partition(" ")
    words = [
        "curl",
        "-i",
        *([] if method == "GET" else ["-X", method]),
        f"{EXAMPLE_ORIGIN}{target}",
    ]
    shown = [shlex.quote(word) for word in words]
    for name, value in request.headers:
        if name == "authorization":
            shown += ["-H", f'"Authorization: Bearer {TOKEN}"']
        elif name not in OF_THE_CONNECTION:
            shown += ["-H", shlex.quote(f"{name}: {value}")]
    if request.body:  # not -d, which would read a file where a body begins with @
        shown += (
            ["--data-binary", "@body.json"]
            if request.cut
            else ["--data-raw", shlex.quote(request.body)]
        )
    return " ".join(shown)


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), str(value)) for name, value in headers.items() if value)


def _body(message: Mapping[str, Any]) -> tuple[str, bool]:
    """A body as text, and whether it was cut."""
    body, size = message["body"], message["body_size"]
    if body is None or not size:
        return "", False
    text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
    mark = f"… ({size} bytes)"  # as the journal has it, where that has cut it
    return (text, text.endswith(mark)) if len(text) <= MAX_BODY else (text[:MAX_BODY] + mark, True)
