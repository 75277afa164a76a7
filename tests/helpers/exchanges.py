"""Exchanges as a journal keeps them, made by hand."""

import json
from typing import Any

from mockserver.backend.journal import Exchange, pack_headers
from mockserver.clock import SECOND
from tests.helpers.documents import CONTRACT, ULTRA

CREATE, READ = next(iter(CONTRACT.models.values())), CONTRACT.reader
assert READ is not None
TOKEN, ID, URL = (
    "kit-0123456789abcdef",
    "w44zs9cet5rmc0cqzp49gpkhf8",
    "http://127.0.0.1:1/xezq/w44/output.jpg",
)
GET = f"/replicate/v1/predictions/{ID}"


def exchange(
    method: str, path: str, status: int = 200, told: str | None = None, at: float = 0, **more: Any
) -> Exchange:
    """An exchange `at` so many seconds."""
    operation = more.pop(
        "operation", CREATE if path == CREATE.path else READ if path == GET else None
    )
    creating = operation is CREATE
    response = (
        json.dumps(
            {"status": told, "output": more.pop("output", URL if told == "succeeded" else None)}
        )
        if told
        else "{}"
    )
    body = (
        json.dumps({"input": more.pop("given", {"prompt": "a cat"})}).encode() if creating else b""
    )
    usual = [(b"Authorization", more.pop("authorization", f"Bearer {TOKEN}").encode())]
    headers = tuple(more.pop("headers", usual))
    facts: dict[str, Any] = {
        "number": 1,
        "received_at": round((1000 + at) * SECOND),
        "tenant_time": 0,
        "token": TOKEN,
        "method": method,
        "path": path,
        "query": b"",
        "head": pack_headers(headers),
        "body": body,
        "body_size": len(body),
        "operation_id": operation.operation_id if operation else None,
        "origin": "api",
        "prediction_id": ID if told else None,
        "prediction_status": told,
        "scenario": "",
        "violations": (),
        "fault": None,
        "committed": creating and status == 200,
        "status": status,
        "response_body": response.encode(),
        "response_size": len(response),
        "content_type": "application/json",
    }
    return Exchange(**{**facts, **more})


def create(
    status: int = 200, told: str | None = "starting", at: float = 0, **more: Any
) -> Exchange:
    return exchange("POST", ULTRA, status, told if status == 200 else None, at, **more)


def poll(told: str = "processing", at: float = 0.1, status: int = 200, **more: Any) -> Exchange:
    return exchange("GET", GET, status, told if status == 200 else None, at, **more)


def faulty(fault: dict[str, Any], make: Any = create, at: float = 0, **more: Any) -> Exchange:
    status = fault.get("status", 0)
    committed = fault.get("after") == "commit"
    found: Exchange = make(status=status, at=at, fault=fault, committed=committed, **more)
    return found
