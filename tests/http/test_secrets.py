"""A client's token is planted in every place where a client can put it, and looked for in all that the double shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from mockserver import MockServer, Tenant, check_client
from mockserver.backend.verdict import REASONS, failures
from mockserver.check.drive.protocol import Call
from mockserver.check.report.files import write
from mockserver.check.report.findings import describe
from mockserver.redaction import redacted
from tests.helpers.command import invoke
from tests.helpers.documents import KONTEXT, ULTRA
from tests.helpers.receiver import Receiver

TOKEN = "r8_Planted0Secret1Value2"
SHOWN = 6  # characters of it that may be shown
LOOKED_FOR = TOKEN[: SHOWN + 1].lower()
FILES = "/replicate/v1/files"
CUTS = (50, 80, 200, 300, 500, 16 * 1024)  # characters or bytes after which texts are cut


def assert_secret(text: str, where: str) -> None:
    place = text.lower().find(LOOKED_FOR)
    assert place < 0, f"{where}: …{text[max(0, place - 200) : place + 60]}…"


def cut_within() -> Iterator[str]:
    """Texts of which the last letter of the token is cut off, or its last half."""
    for cut in CUTS:
        for left in (len(TOKEN) - 1, len(TOKEN) // 2):
            for before in range(4):  # a quotation mark, a name or a slash may stand before it
                yield "x" * (cut - left - before) + TOKEN + "y" * 300


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture
def planted(server: MockServer, receiver: Receiver) -> Iterator[httpx.Client]:
    """A client that has put its token everywhere."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        plant(client, receiver)
        yield client


def plant(client: httpx.Client, receiver: Receiver) -> None:
    errors = []
    put = client.put(
        "/__admin/scenario",
        json={
            "name": "planted",
            "description": TOKEN,
            "body": {"extra": {TOKEN: TOKEN}},
            "headers": {"X-Planted": TOKEN},
            "faults": {"cancelPrediction": [{"status": 404, "detail": TOKEN}]},
        },
    )
    assert put.status_code == 200
    assert_secret(put.text, "the answer to a scenario")
    errors += [
        client.put("/__admin/scenario", json={"name": TOKEN}),
        client.put("/__admin/scenario", json={TOKEN: 1}),
    ]
    errors += [client.get(f"/__admin/{TOKEN}"), client.get(f"/__admin/requests?{TOKEN}=1")]
    errors += [
        client.put("/__admin/clock", json={"mode": TOKEN}),
        client.get(f"/__admin/requests?since={TOKEN}"),
    ]
    for text in [TOKEN, quote(TOKEN + "/ü"), *cut_within()]:
        body = {
            "input": {"prompt": text, text: text},
            "webhook": f"{receiver.url}/{quote(text)}?{quote(text)}={text}",
        }
        assert client.post(ULTRA, json=body).status_code == 200
        errors += [client.post(ULTRA, json={"input": {"prompt": {text: text}}, text: {text: text}})]
        errors += [
            client.post(
                KONTEXT, json={"input": {"prompt": "p", "input_image": text, "aspect_ratio": text}}
            )
        ]
        errors += [
            client.post(ULTRA, content=text),
            client.post(ULTRA, content=text, headers={"Content-Type": text}),
        ]
        errors += [client.get(f"/{text}/{TOKEN}"), client.get(f"/replicate/v1/predictions/{text}")]
        errors += [client.get("/replicate/v1/predictions", params={text: text, "cursor": text})]
        errors += [
            client.get("/replicate/v1/predictions", headers={TOKEN: text, "X-Mock-Scenario": text})
        ]
        files: Any = {
            "content": (text, text.encode(), text),
            "metadata": json.dumps({text: text}),
        }
        errors += [
            client.post(FILES, files=files),
            client.post(
                FILES,
                content=text,
                headers={"Content-Type": "multipart/form-data; boundary=" + TOKEN},
            ),
        ]
    assert {error.status_code for error in errors} <= {200, 201, 400, 404, 405, 415, 422}
    for error in errors:
        if error.status_code >= 400:
            assert_secret(error.text, f"the answer to {error.request.method} {error.request.url}")


@pytest.mark.slow
def test_no_token_is_shown_whole(
    planted: httpx.Client, server: MockServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (
        "requests?limit=1000",
        "requests?unmatched=true",
        "requests?violations=true",
        "verdict",
        "verdict?all=true",
        "coverage",
        "coverage?all=true",
        "tenants",
        "scenario",
        "scenarios",
        "predictions",
        "webhooks",
        "clock",
        "health",
        "version",
    ):
        result = planted.get(f"/__admin/{path}")
        assert result.status_code == 200
        assert_secret(result.text, path)
        assert path not in ("verdict", "predictions") or len(result.text) > 10_000, (
            "there is something to be found"
        )
    verdict = server.call_in_loop(lambda backend: backend.verdict_of_all())
    assert_secret("\n".join(failures(verdict, REASONS)), "what `run` prints")
    assert_secret("\n".join(server.unattributed_requests()), "strays")
    assert_secret(repr(Tenant(server.url, TOKEN)), "a tenant's name in a traceback")
    assert_secret("".join(capfd.readouterr()), "what was printed")


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--token", TOKEN]], ids=["all", "one"])
def test_no_token_is_printed(
    planted: httpx.Client, server: MockServer, arguments: list[str]
) -> None:
    fail_on = ",".join(REASONS)
    printed = invoke("verdict", "--url", server.url, "--fail-on", fail_on, *arguments)
    assert printed.returncode == 1
    assert len(printed.stdout.splitlines()) > 100
    assert_secret(printed.stdout + printed.stderr, "what `verdict` prints")


def leaky(call: Call) -> str:
    """A client that puts its token wherever it can, and then fails with it."""
    authorized = {"Authorization": f"Bearer {call.token}"}
    with httpx.Client(headers=authorized) as client:
        url = call.base_url + f"/v1/models/{call.model}/predictions"
        client.get(
            f"{call.base_url}/{call.token}/{quote(call.token)}", params={call.token: call.token}
        )
        client.post(
            url,
            json={"input": {**call.input, call.token: call.token}},
            headers={call.token: call.token},
        )
    raise RuntimeError("x" * 150 + call.token + "\n" + "x" * 145 + call.token)


@pytest.mark.slow
def test_no_token_is_in_findings_and_reports(tmp_path: Path) -> None:
    tokens: list[str] = []

    def call_fn(call: Call) -> str:
        tokens.append(call.token)
        return leaky(call)

    report = check_client(call_fn, max_runs=5, budget=30)
    assert {"MC101", "MC501"} <= {finding.rule for finding in report.findings}
    texts = {"messages": "\n".join(map(describe, [*report.findings, *report.warnings]))}
    for suffix in (".json", ".xml", ".html", ".md"):
        write(report, tmp_path / f"report{suffix}")
        texts[suffix] = (tmp_path / f"report{suffix}").read_text()
    for finding in report.findings:
        texts[finding.rule] = finding.save(tmp_path).read_text()
    for where, text in texts.items():
        assert not [
            token
            for token in tokens
            if token[: SHOWN + 1] in text and re.search(token[: SHOWN + 1], text)
        ], where


def test_what_is_no_secret_is_left() -> None:
    assert redacted({"status": "request", "a": "test"}, "test-000001") == {
        "status": "request",
        "a": "test",
    }
    assert redacted({"request": "request"}, "request") == {"request": "re…"}
    assert redacted("abc", "abc") == "abc", "too short to be one"
    assert redacted(["R8_PLANTED0SECRET1VALUE2!"], TOKEN) == ["R8_PLA…!"]
    assert redacted("… r8_Planted0… r8_Pl", TOKEN) == "… r8_… r8_Pl"
    assert redacted({"A1b2C3d4E5": 1}, "A1b2C3d4E5") == {"A1b…": 1}
