"""Requests and responses in a report: headers and bodies, with secrets shortened."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from mockserver.backend.journal import Exchange
from mockserver.redaction import redacted

MAX_BODY = 2_000  # characters of a body that are shown
EXAMPLE_ORIGIN = "http://127.0.0.1:3589"  # where `mockserver serve` listens
TOKEN = "$REPLICATE_API_TOKEN"  # noqa: S105 - the placeholder in a command
OF_THE_CONNECTION = frozenset(
    {"host", "connection", "content-length", "accept-encoding", "transfer-encoding"}
)


class Message(msgspec.Struct, frozen=True):
    """A request or a response: first line, headers and body, which may have been `cut`."""

    start: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    cut: bool = False

    @property
    def text(self) -> str:
        """The whole message in the format of HTTP."""
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return "\n".join([*lines, "", self.body] if self.body else lines)


def messages_of(exchange: Exchange, token: str) -> tuple[Message, Message]:
    """The request and the response of an exchange."""
    recorded: dict[str, Any] = redacted(exchange.as_json(), token)
    sent, received = recorded["request"], recorded["response"]
    query = redacted(exchange.request.query.decode("latin-1"), token)
    target = redacted(exchange.path, token) + (f"?{query}" if query else "")
    request = Message(f"{sent['method']} {target}", _headers(sent["headers"]), *_body(sent))
    if not received["status"]:
        return request, Message("no response")

    start = " ".join(filter(None, (str(received["status"]), received["prediction_status"])))
    return request, Message(start, _headers(received["headers"]), *_body(received))


def curl_of(request: Message) -> str:
    """The command that sends a request to a double on the default port."""
    method, _, target = request.start.partition(" ")
    words = [
        "curl",
        "-i",
        *([] if method == "GET" else ["-X", method]),
        f"{EXAMPLE_ORIGIN}{target}",
    ]
    command = [shlex.quote(word) for word in words]
    for name, value in request.headers:
        if name == "authorization":
            command += ["-H", f'"Authorization: Bearer {TOKEN}"']
        elif name not in OF_THE_CONNECTION:
            command += ["-H", shlex.quote(f"{name}: {value}")]
    if request.body:  # -d would read a file if the body starts with @
        command += (
            ["--data-binary", "@body.json"]
            if request.cut
            else ["--data-raw", shlex.quote(request.body)]
        )
    return " ".join(command)


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), str(value)) for name, value in headers.items() if value)


def _body(message: Mapping[str, Any]) -> tuple[str, bool]:
    """A body as text, and whether it was cut."""
    body, size = message["body"], message["body_size"]
    if body is None or not size:
        return "", False
    text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
    mark = f"… ({size} bytes)"  # the journal's own mark for a cut body
    return (text, text.endswith(mark)) if len(text) <= MAX_BODY else (text[:MAX_BODY] + mark, True)
