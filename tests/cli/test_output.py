"""What commands print: nothing that a client, a gateway or a file says is a control code, or begins a line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mockserver.reporting.terminal import print_error, print_line
from tests.helpers.command import COMMAND, run, serving
from tests.helpers.documents import KONTEXT
from tests.helpers.proxies import Raw

FORGED = "\n::error::forged"
EVIL = f"{FORGED}\x1b]0;title\x07\x9b2J\r::error::forged"
QUOTED = "%0a::error::forged%1b]0;title%07%c2%9b2J"

# Sends control codes in a path, a method's token and the names and values of a body.
HOSTILE_REQUESTS = f"""
import http.client, json, os
connection = http.client.HTTPConnection(os.environ["MOCKSERVER_URL"].split("//")[1])
body = json.dumps({{"input": {{"prompt": {EVIL!r}, {EVIL!r}: {EVIL!r}}}, {EVIL!r}: 1}})
for method, path, data in (("GET", "/{QUOTED}", None), ("POST", {KONTEXT!r}, body)):
    token = b"Bearer \\x9b2J\\x9b2Jabcdefghijklmnopqrst"
    headers = {{"Content-Type": "application/json", "Authorization": token}}
    connection.request(method, path, data, headers)
    connection.getresponse().read()
"""

# A client of the kit, which sends, prints and raises them.
HOSTILE_CLIENT = f"""
import json, os, sys, urllib.error, urllib.request
call = json.loads(sys.stdin.readline())
headers = {{"Authorization": "Bearer " + call["token"], "Content-Type": "application/json"}}
body = json.dumps({{"input": {{**call["input"], {EVIL!r}: {EVIL!r}}}}}).encode()
for path in ("/v1/models/" + call["model"] + "/predictions", "/{QUOTED}"):
    try:
        urllib.request.urlopen(urllib.request.Request(call["base_url"] + path, body, headers)).read()
    except urllib.error.HTTPError as reason:
        reason.close()
sys.stderr.write({EVIL!r})
print(json.dumps({{"error": {EVIL!r}}}))
"""

# What styles a line and clears it; nothing else of a terminal's language is printed.
_OURS = re.compile(r"\x1b\[[0-9;]*[mK]")


def assert_harmless(*outputs: str) -> None:
    """Nothing moves the cursor, sets the title or begins a line with a command to a CI."""
    assert any(outputs)
    for output in outputs:
        lines = _OURS.sub("", output).split("\n")
        assert [line for line in lines if not line.replace("\t", "").isprintable()] == []
        assert [line for line in lines if line.lstrip().startswith("::")] == []


def ended(*words: str, cwd: Path | None = None, **environment: str) -> tuple[str, str]:
    """What a command printed, read as UTF-8 without translating line ends."""
    result = subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        timeout=100,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
    )
    return result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(EVIL)
    print_error(f"it printed{EVIL}")
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.err.splitlines()[1].startswith("  | ::error::forged\\u001b]0;title\\u0007")
    assert_harmless(captured.out, captured.err)


@pytest.mark.slow
def test_run() -> None:
    assert_harmless(ended("run", "--", sys.executable, "-c", HOSTILE_REQUESTS)[1])


@pytest.mark.slow
def test_verdict_and_the_log() -> None:
    with serving("--log") as (process, url):
        subprocess.run(
            [sys.executable, "-c", HOSTILE_REQUESTS],
            check=True,
            env={**os.environ, "MOCKSERVER_URL": url},
        )
        assert_harmless(ended("verdict", "--url", url)[0])
        process.terminate()
        assert_harmless(*process.communicate(timeout=20))


@pytest.mark.slow
@pytest.mark.parametrize("color", ["always", "never"])
def test_check_and_replay(tmp_path: Path, color: str) -> None:
    (tmp_path / "client.py").write_text(HOSTILE_CLIENT)
    client = ("--", sys.executable, "client.py")
    flags = ("--max-runs", "3", "--jobs", "1", "--color", color)
    assert_harmless(*ended("check", *flags, *client, cwd=tmp_path))
    saved = next((tmp_path / ".mockserver").glob("*.json"))
    assert_harmless(*ended("replay", str(saved), *client, cwd=tmp_path))


@pytest.mark.slow
def test_check_of_a_client_that_cannot_run(tmp_path: Path) -> None:
    script = f"import sys; sys.stderr.write({EVIL!r}); sys.exit(3)"
    assert_harmless(*ended("check", "--", sys.executable, "-c", script, cwd=tmp_path))


@contextmanager
def hostile_gateway() -> Iterator[str]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["content-length"] or 0))
        body = json.dumps({EVIL: EVIL, "detail": EVIL, "status": EVIL}).encode()
        handler.send_response(418, "\x9b2J")
        handler.send_header("content-type", "text/\x9b2J")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with Raw(answer) as gateway:
        yield gateway.url


@pytest.mark.slow
def test_verify_and_check_webhook() -> None:
    with hostile_gateway() as url:
        assert_harmless(*ended("verify", url, "--token", "a-token-of-verify"))
        assert_harmless(*ended("check-webhook", url, "--secret", "whsec_" + "A" * 32))


@pytest.mark.slow
def test_run_through_a_proxy() -> None:
    with hostile_gateway() as url:
        words = ("run", "--proxy", url, "--", sys.executable, "-c", HOSTILE_REQUESTS)
        assert_harmless(*ended(*words))


@pytest.mark.slow
def test_errors_about_files(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(json.dumps({"name": EVIL, EVIL: EVIL}))
    assert_harmless(*ended("serve", "--scenario", str(scenario)))
    assert_harmless(*ended("run", "--", f"./no-such{EVIL}"))


def test_rules_are_in_columns() -> None:
    lines = [line for line in run("rules").stdout.splitlines() if line.startswith("MC")]
    assert len({re.match(r"MC\d+  \w+ +", line).end() for line in lines}) == 1  # type: ignore[union-attr]
