"""The journal as an HTTP Archive."""

import json
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from mockserver import Tenant
from tests.helpers.command import run, serving
from tests.helpers.documents import KONTEXT

NAMED: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value"],
        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
    },
}
SIZE = {"type": "integer", "minimum": -1}
# The archive as http://www.softwareishard.com/blog/har-12-spec/ has it, as far as it is used.
HAR = jsonschema_rs.validator_for(
    {
        "type": "object",
        "required": ["log"],
        "properties": {
            "log": {
                "type": "object",
                "required": ["version", "creator", "entries"],
                "properties": {
                    "version": {"const": "1.2"},
                    "creator": {"type": "object", "required": ["name", "version"]},
                    "entries": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": [
                                "startedDateTime",
                                "time",
                                "request",
                                "response",
                                "cache",
                                "timings",
                            ],
                            "properties": {
                                "startedDateTime": {"type": "string", "format": "date-time"},
                                "time": {"type": "number", "minimum": 0},
                                "request": {
                                    "type": "object",
                                    "required": [
                                        *("method", "url", "httpVersion", "cookies", "headers"),
                                        *("queryString", "headersSize", "bodySize"),
                                    ],
                                    "properties": {
                                        "url": {"type": "string", "format": "uri"},
                                        "headers": NAMED,
                                        "queryString": NAMED,
                                        "headersSize": SIZE,
                                        "bodySize": SIZE,
                                        "postData": {
                                            "type": "object",
                                            "required": ["mimeType", "text"],
                                        },
                                    },
                                },
                                "response": {
                                    "type": "object",
                                    "required": [
                                        *(
                                            "status",
                                            "statusText",
                                            "httpVersion",
                                            "cookies",
                                            "headers",
                                        ),
                                        *("content", "redirectURL", "headersSize", "bodySize"),
                                    ],
                                    "properties": {
                                        "status": {"type": "integer"},
                                        "headers": NAMED,
                                        "content": {
                                            "type": "object",
                                            "required": ["size", "mimeType"],
                                            "properties": {
                                                "size": SIZE,
                                                "text": {"type": "string"},
                                            },
                                        },
                                        "headersSize": SIZE,
                                        "bodySize": SIZE,
                                    },
                                },
                                "cache": {"type": "object"},
                                "timings": {
                                    "type": "object",
                                    "required": ["send", "wait", "receive"],
                                    "additionalProperties": {"type": "number"},
                                },
                            },
                        },
                    },
                },
            }
        },
    },
    validate_formats=True,
)


def some_traffic(client: httpx.Client) -> None:
    created = client.post(KONTEXT, json={"input": {"prompt": "a cat"}}).json()
    client.get(f"/replicate/v1/predictions/{created['id']}")
    output = client.get(f"/replicate/v1/predictions/{created['id']}").json()["output"]
    client.get(output)
    client.get("/nowhere", params={"a": "b c"})
    client.post(KONTEXT, content=b"\xff{", headers={"content-type": "application/json"})
    client.post("/replicate/v1/files", files={"content": ("a.bin", b"\0\1\2")})
    client.get("/replicate/v1/webhooks/default/secret")


def test_the_journal_is_an_archive_of_the_standard_s_form(
    tenant: Tenant, client: httpx.Client
) -> None:
    some_traffic(client)
    archive = client.get("/__admin/requests.har").json()
    assert [error.message for error in HAR.iter_errors(archive)] == []
    entries = archive["log"]["entries"]
    assert [entry["response"]["status"] for entry in entries] == [
        200,
        200,
        200,
        200,
        404,
        400,
        201,
        200,
    ]
    assert entries[0]["request"]["url"] == tenant.url + KONTEXT
    assert json.loads(entries[0]["request"]["postData"]["text"]) == {"input": {"prompt": "a cat"}}
    assert json.loads(entries[2]["response"]["content"]["text"])["status"] == "succeeded"
    assert entries[3]["response"]["content"]["mimeType"] == "image/png"
    assert entries[4]["request"]["url"].endswith("/nowhere?a=b+c")
    assert entries[4]["request"]["queryString"] == [{"name": "a", "value": "b c"}]
    started = [datetime.fromisoformat(entry["startedDateTime"]) for entry in entries]
    assert started == sorted(started)
    assert all(0 < entry["time"] < 60_000 for entry in entries)


def test_secrets_stand_in_it_in_part(tenant: Tenant, client: httpx.Client) -> None:
    some_traffic(client)
    text = client.get("/__admin/requests.har").text
    assert tenant.token not in text
    assert client.get("/replicate/v1/webhooks/default/secret").json()["key"] not in text


def test_it_is_the_tenant_s_own_or_of_all(tenant: Tenant, client: httpx.Client) -> None:
    client.get("/nowhere")
    other = httpx.get(
        tenant.url + "/__admin/requests.har", headers={"Authorization": "Bearer nobody-else"}
    ).json()
    assert other["log"]["entries"] == []
    everybody = httpx.get(tenant.url + "/__admin/requests.har?all=true").json()
    assert any(
        entry["request"]["url"].endswith("/nowhere") for entry in everybody["log"]["entries"]
    )


@pytest.mark.slow
@pytest.mark.thorough
def test_serve_and_run_write_it_in_the_end(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "serve.har"
    with serving("--har", str(file)) as (process, url):
        httpx.get(
            url + "/replicate/v1/predictions", headers={"Authorization": "Bearer my-secret-token"}
        )
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    archive = json.loads(file.read_text())
    assert HAR.is_valid(archive)
    assert [entry["request"]["url"] for entry in archive["log"]["entries"]] == [
        url + "/replicate/v1/predictions"
    ]
    assert "my-secret-token" not in file.read_text()

    script = "import os, urllib.request as u; u.urlopen(os.environ['REPLICATE_BASE_URL'] + '/v1/predictions').read()"
    file = tmp_path / "run.har"
    assert run("run", "--har", str(file), "--", sys.executable, "-c", script).returncode == 0
    assert len(json.loads(file.read_text())["log"]["entries"]) == 1
    refused = run("run", "--har", "/proc/nowhere/a.har", "--", sys.executable, "-c", script)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
