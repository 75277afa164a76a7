"""Exchanges as an HTTP Archive (HAR 1.2), which the tools of any browser open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http.client import responses
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.journal import Exchange
from mockserver.reporting.files import write_file

HTTP = "HTTP/1.1"
_UNKNOWN = -1  # an unknown size, in HAR


def har_of(exchanges: Iterable[Exchange], base_url: str) -> dict[str, Any]:
    """The exchanges in order of arrival, with secrets redacted.

    `base_url` is the server's own address, for requests without a Host.
    """
    ordered = sorted(exchanges, key=lambda exchange: exchange.received_at)
    creator = {"name": "mockserver", "version": metadata.version("flux-mockserver")}
    return {
        "log": {
            "version": "1.2",
            "creator": creator,
            "entries": [_entry(exchange, base_url) for exchange in ordered],
        }
    }


def _entry(exchange: Exchange, base_url: str) -> dict[str, Any]:
    value = exchange.as_json()
    request, response = value["request"], value["response"]
    took = exchange.response.took / 1_000_000  # milliseconds
    media_type = str(response["content_type"])
    facts = {name: value[name] for name in ("operation", "prediction", "scenario") if value[name]}
    return {
        "startedDateTime": value["received_at"],
        "time": took,
        "request": {
            "method": request["method"],
            "url": _url(request, base_url),
            "httpVersion": HTTP,
            "cookies": [],
            "headers": _pairs(request["headers"]),
            "queryString": _pairs(request["query"]),
            "headersSize": _UNKNOWN,
            "bodySize": request["body_size"],
            **_posted(request),
        },
        "response": {
            "status": response["status"],
            "statusText": responses.get(response["status"], ""),
            "httpVersion": HTTP,
            "cookies": [],
            "headers": _pairs(response["headers"]),
            "content": {
                "size": response["body_size"],
                "mimeType": media_type or "application/octet-stream",
                "text": _text(response["body"]),
            },
            "redirectURL": response["headers"].get("location", ""),
            "headersSize": _UNKNOWN,
            "bodySize": response["body_size"],
        },
        "cache": {},
        "timings": {"send": 0, "wait": took, "receive": 0},
        "comment": ", ".join(f"{name} {fact}" for name, fact in facts.items()),
        "_number": value["number"],
        "_violations": value["violations"],
    }


def _url(request: Mapping[str, Any], base_url: str) -> str:
    host = request["headers"].get("host")
    origin = f"{base_url.partition('://')[0]}://{host}" if host else base_url
    query = f"?{urlencode(request['query'])}" if request["query"] else ""
    return f"{origin}{request['path']}{query}"


def _posted(request: Mapping[str, Any]) -> dict[str, Any]:
    if not request["body_size"]:
        return {}
    media_type = request["headers"].get("content-type", "")
    return {"postData": {"mimeType": media_type, "text": _text(request["body"])}}


def _text(body: object) -> str:
    if body is None:
        return ""
    return body if isinstance(body, str) else msgspec.json.encode(body).decode()


def _pairs(named: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in named.items()]


def write_har(backend: Backend, path: Path, base_url: str) -> None:
    """Write the journals of all tenants to an HTTP Archive. Raises MockServerError."""
    exchanges = [exchange for tenant in backend.store.tenants() for exchange in tenant.journal]
    write_file(path, msgspec.json.format(msgspec.json.encode(har_of(exchanges, base_url))) + b"\n")
