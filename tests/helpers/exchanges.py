"""Exchanges as a journal keeps them, made by hand."""

import json
from typing import Any

import msgspec

from mockserver.backend.journal import (
    Exchange,
    RecordedRequest,
    RecordedResponse,
    pack_headers,
)
from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Fault
from tests.helpers.documents import CONTRACT, ULTRA

CREATE, READ = next(iter(CONTRACT.models.values())), CONTRACT.reader
assert READ is not None
TOKEN, ID, URL = (
    "kit-0123456789abcdef",
    "w44zs9cet5rmc0cqzp49gpkhf8",
    "http://127.0.0.1:1/xezq/w44/output.jpg",
)
RESPONSE = {
    "response_body": "body",
    "response_size": "body_size",
    "response_headers": "headers",
    "content_type": "content_type",
    "took": "took",
}
GET = f"/replicate/v1/predictions/{ID}"


def exchange(
    method: str, path: str, status: int = 200, shown: str | None = None, at: float = 0, **more: Any
) -> Exchange:
    """An exchange `at` a number of seconds, which shows a prediction's status.

    The rest are fields of it, of its request, or, with `response_` before, of its response.
    """
    operation = more.pop(
        "operation", CREATE if path == CREATE.path else READ if path == GET else None
    )
    creating = operation is CREATE
    text, body = "{}", b""
    if shown:
        output = more.pop("output", URL if shown == "succeeded" else None)
        text = json.dumps({"status": shown, "output": output})
    if creating:
        body = json.dumps({"input": more.pop("given", {"prompt": "a cat"})}).encode()
    usual = [(b"Authorization", more.pop("authorization", f"Bearer {TOKEN}").encode())]
    headers = tuple(more.pop("headers", usual))
    request: dict[str, Any] = {
        "received_at": round((1000 + at) * SECOND),
        "token": TOKEN,
        "method": method,
        "path": path,
        "query": b"",
        "head": pack_headers(headers),
        "body": body,
        "body_size": len(body),
    }
    response: dict[str, Any] = {
        "status": status,
        "content_type": "application/json",
        "headers": (),
        "body": text.encode(),
        "body_size": len(text),
    }
    facts: dict[str, Any] = {
        "number": 1,
        "tenant_time": 0,
        "operation_id": operation.operation_id if operation else None,
        "arrived_at": "api",
        "scenario": "",
        "prediction_id": ID if shown else None,
        "prediction_status": shown,
        "committed": creating and status == 200,
    }
    if isinstance(more.get("fault"), dict):
        more["fault"] = msgspec.convert(more["fault"], Fault)
    for name in RESPONSE.keys() & more.keys():
        response[RESPONSE[name]] = more.pop(name)
    for name in request.keys() & more.keys():
        request[name] = more.pop(name)
    return Exchange(
        request=RecordedRequest(**request),
        response=RecordedResponse(**response),
        **{**facts, **more},
    )


def create(
    status: int = 200, shown: str | None = "starting", at: float = 0, **more: Any
) -> Exchange:
    return exchange("POST", ULTRA, status, shown if status == 200 else None, at, **more)


def poll(shown: str = "processing", at: float = 0.1, status: int = 200, **more: Any) -> Exchange:
    return exchange("GET", GET, status, shown if status == 200 else None, at, **more)


def faulty(fault: dict[str, Any], make: Any = create, at: float = 0, **more: Any) -> Exchange:
    status = fault.get("status", 0)
    committed = fault.get("after") == "commit"
    made: Exchange = make(status=status, at=at, fault=fault, committed=committed, **more)
    return made
