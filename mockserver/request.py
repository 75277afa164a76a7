"""A request as it came: head, body, token, and the address that the client used."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from mockserver.clock import wall_time
from mockserver.violations import Violation
from mockserver.wire import Receive, Scope

DRAINED = 8  # a body of up to this many times the limit is read to its end, so that its refusal arrives

_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")


class Request(msgspec.Struct):
    """What a client sent. `value` is the decoded body; `violations` grows as it is checked."""

    method: str
    path: str
    query: bytes
    raw_headers: list[tuple[bytes, bytes]]
    headers: dict[str, str]
    path_params: dict[str, str]
    query_params: dict[str, str]
    origin: str
    receive: Receive
    received_at: int
    token: str | None = None
    body: bytes = b""
    body_size: int = 0
    value: Any = None
    violations: list[Violation] = []


def read_head(scope: Scope, receive: Receive, public_url: str | None) -> Request:
    """What the head of a request says. `public_url` is the origin to hand out, if not the one the client used."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"]
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=query,
        raw_headers=scope["headers"],
        headers=headers,
        path_params=scope.get("path_params", {}),
        query_params=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        origin=public_url or _origin(scope["scheme"], headers.get("host", ""), scope.get("server")),
        receive=receive,
        received_at=wall_time(),
        token=bearer_token(headers.get("authorization", "")),
    )


@lru_cache(1024)
def _origin(scheme: str, host: str, server: tuple[str, int] | None) -> str:
    """The address that the client used, as far as its Host header is one."""
    if not _HOST.fullmatch(host):
        name, port = server or ("127.0.0.1", 80)
        host = f"{name}:{port}"
    return f"{scheme}://{host}"


def bearer_token(authorization: str) -> str | None:
    """The token of an Authorization header; None if it has none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def read_body(request: Request, limit: int) -> bool:
    """Read the body up to the limit, in bytes; what is over it is counted, not kept. False if the client hung up."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > limit and ("expect" in request.headers or announced > limit * DRAINED):
        request.body_size = announced
        return True
    chunks = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return False
        chunk = message.get("body", b"")
        request.body_size += len(chunk)
        if request.body_size <= limit:
            chunks.append(chunk)
        if not message.get("more_body") or request.body_size > limit * DRAINED:
            break
    request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return True
