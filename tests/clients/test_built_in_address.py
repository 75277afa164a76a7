"""Clients that have Replicate's address built in: docs/clients.md leads them to the double."""

import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mockserver import MockServer, Tenant
from mockserver.errors import MockServerError
from tests.helpers.command import COMMAND, run
from tests.helpers.documents import KONTEXT
from tests.helpers.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "clients.md"
HARD_WIRED = """
import json, ssl, sys, urllib.request

call = urllib.request.Request("https://api.replicate.com" + sys.argv[1], json.dumps({"input": {"prompt": "p"}}).encode())
call.add_header("Content-Type", "application/json")
call.add_header("Authorization", "Token " + sys.argv[3])
context = ssl.create_default_context(cafile=sys.argv[2])
prediction = json.load(urllib.request.urlopen(call, context=context, timeout=20))
print(prediction["urls"]["get"])
"""


def block(start: str) -> str:
    (found,) = (each for each in blocks_of(PAGE) if each.tested_by and each.text.startswith(start))
    return found.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["curl", "python"])
def test_a_client_without_a_setting_is_led_to_the_double(tmp_path: Path, way: str) -> None:
    with MockServer(tls=True, tls_names=["api.replicate.com"], also_at="/") as server:
        assert server.ca_file is not None
        if way == "curl":
            script = block("curl").replace("3589", str(server.port)).replace("any", "built-in")
            command, environment = (
                ["bash", "-e", "-c", script],
                {"CA_FILE": server.ca_file, "PATH": "/usr/bin:/bin"},
            )
        else:
            program = block("import socket").replace("3589", str(server.port)) + HARD_WIRED
            path = KONTEXT.removeprefix("/replicate")
            command, environment = (
                [sys.executable, "-c", program, path, server.ca_file, "built-in"],
                {},
            )
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert "https://api.replicate.com" in ended.stdout
        tenant: Tenant = server.tenant("built-in")
        (exchange,) = tenant.requests()
        assert exchange["operation"] == "createFluxKontextMaxPrediction"
        assert exchange["request"]["path"] == KONTEXT.removeprefix("/replicate")
        assert [violation["kind"] for violation in exchange["violations"]] == ["authorization"]


@pytest.mark.slow
def test_the_command_of_the_page_says_where_it_is() -> None:
    words = block("mockserver serve").split()[1:]
    command = [*COMMAND, *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            url = lines[0].split()[-1]
            assert url.startswith("https://127.0.0.1:")
            assert f"the same API too: {url}/v1\n" in lines
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("prefix", "under"), [("/", ""), ("/api/replicate", "/api/replicate"), ("/x/", "/x")]
)
def test_the_same_paths_are_answered_under_another_prefix_too(prefix: str, under: str) -> None:
    with MockServer(also_at=prefix) as server, httpx.Client(base_url=server.url) as client:
        told = client.post(
            under + KONTEXT.removeprefix("/replicate"), json={"input": {"prompt": "p"}}
        ).json()
        for path in (
            f"{under}/v1/predictions/{told['id']}",
            f"/replicate/v1/predictions/{told['id']}",
        ):
            assert client.get(path).json()["id"] == told["id"]
        assert client.get(told["urls"]["stream"]).status_code == 200, (
            "paths of the contract come first"
        )
        assert client.get(told["urls"]["get"]).status_code == 200
        assert client.get(f"{under}/v1/nothing").status_code == 404


def test_without_it_they_are_not(client: httpx.Client) -> None:
    assert client.get("/v1/predictions").status_code == 404


def test_the_certificate_is_for_the_names_given_and_no_others() -> None:
    with MockServer(tls=True, tls_names=["api.replicate.com"]) as server:
        trusting = ssl.create_default_context(cafile=server.ca_file)
        for name, good in [
            ("api.replicate.com", True),
            ("127.0.0.1", True),
            ("api.example.com", False),
        ]:
            request = httpx.Request("GET", server.url, extensions={"sni_hostname": name})
            with httpx.Client(verify=trusting) as client:
                if good:
                    assert client.send(request).status_code == 200
                else:
                    with pytest.raises(httpx.ConnectError):
                        client.send(request)


@pytest.mark.slow
def test_what_is_no_prefix_or_name_is_refused_in_one_line() -> None:
    for arguments in (
        ["--also-at", "v1"],
        ["--also-at", "/a b"],
        ["--tls", "--tls-name", "no name"],
    ):
        ended = run("serve", "--port", "0", *arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.count("\n") == 1, ended.stderr
    with (
        pytest.raises(MockServerError, match="no certificate can be made"),
        MockServer(tls=True, tls_names=["a b"]),
    ):
        pass
