"""The command `mockserver verify`: what it prints, its files, and its exit codes."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mockserver import MockServer
from tests.conformance.gateways import PLANTED, Departing, standing
from tests.helpers.command import invoke, run
from tests.helpers.share import first

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-team"


def departing(server: MockServer, name: str) -> Departing:
    planted = next(each for each in PLANTED if each.name == name)
    return Departing(server.url, planted.change, planted.prepare)


def test_a_gateway_that_conforms_is_0(server: MockServer) -> None:
    ended = run(
        "verify",
        server.url,
        "--spend",
        "2",
        "--poll",
        "0",
        REPLICATE_API_TOKEN=TOKEN,
        GITHUB_ACTIONS="",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "2 of 2 spent · the gateway conforms, as far as seen" in ended.stdout
    assert "the spend limit was reached" in ended.stdout
    assert re.search(r"getPrediction +200 conforms, 404 conforms, 405 conforms\n", ended.stdout)


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing() -> None:
    ended = invoke("verify", "http://127.0.0.1:9", "--spend", "2", "--dry-run")
    assert ended.returncode == 0
    assert ended.stdout.endswith("billed at most: 2 predictions\n")
    for line in (
        "(an unknown id)",
        "(no prompt)",
        "followed to its end)",
        "canceled)",
        "with Prefer: wait)",
    ):
        assert line in ended.stdout
    assert "left out: --spend" in invoke("verify", "http://127.0.0.1:9", "--dry-run").stdout


def test_a_departure_is_1_and_stands_in_every_report(server: MockServer, tmp_path: Path) -> None:
    files = {kind: tmp_path / "reports" / f"report.{kind}" for kind in ("json", "xml", "html")}
    reports = [word for file in files.values() for word in ("--report", str(file))]
    with standing(departing(server, "another prompt")) as backend:
        ended = invoke(
            "verify",
            backend.url,
            "--token",
            TOKEN,
            "--spend",
            "2",
            "--poll",
            "0",
            *reports,
            GITHUB_ACTIONS="true",
        )
    assert ended.returncode == 1
    assert (
        "MC706  the gateway echoes the request incorrectly  [error]\n  createFlux11ProUltraPrediction /input/prompt"
        in ended.stdout
    )
    told = json.loads(files["json"].read_text())
    assert (told["ok"], told["spent"], told["lid"]) == (False, 2, 2)
    finding = told["findings"][0]
    assert {
        "rule": "MC706",
        "operation": "createFlux11ProUltraPrediction",
        "pointer": "/input/prompt",
    }.items() <= finding.items()
    assert finding["exchange"]["response"]["status"] == 200
    suite = ElementTree.fromstring(files["xml"].read_text())
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "3")
    assert [case.get("name", "")[:5] for case in suite if case.find("failure") is not None] == [
        "MC706"
    ]
    page = files["html"].read_text()
    assert "MC706" in page
    assert "default-src 'none'" in page
    line = re.search(
        r"^::error file=contracts/openapi.yaml,line=(\d+),title=MC706 [^:]*::create",
        ended.stdout,
        re.M,
    )
    assert line
    assert int(line[1]) == finding["line"]
    for text in (ended.stdout, *(file.read_text() for file in files.values())):
        assert TOKEN not in text


def test_what_a_gateway_sends_is_escaped_everywhere(server: MockServer, tmp_path: Path) -> None:
    nasty = "\x1b[31m<script>alert(1)</script>%0A::error::\u202e\ud83d\ude00\r\n::warning::x"

    def shout(asked: object, answer: object, memory: object) -> None:
        value = getattr(answer, "value", None)
        if getattr(asked, "role", "") == "list" and isinstance(value, dict):
            value[nasty] = nasty
            value.pop("next")

    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "xml", "html")}
    reports = [word for file in files.values() for word in ("--report", str(file))]
    with standing(Departing(server.url, shout)) as backend:
        ended = invoke("verify", backend.url, *reports, GITHUB_ACTIONS="true")
    assert ended.returncode == 1
    assert not re.search("[\x1b\u202e\r]", ended.stdout)
    assert not re.search(r"^::warning::x", ended.stdout, re.M)
    assert "<script>" not in files["html"].read_text()
    ElementTree.fromstring(files["xml"].read_text())


def test_the_baseline_accepts_what_a_report_knows(server: MockServer, tmp_path: Path) -> None:
    known = str(tmp_path / "known.json")
    with standing(departing(server, "lists as octets")) as backend:
        assert invoke("verify", backend.url, "--report", known).returncode == 1
        again = invoke("verify", backend.url, "--baseline", known)
    assert again.returncode == 0
    assert "accepted by the baseline: MC703 listPredictions Content-Type:" in again.stdout
    gone = invoke("verify", server.url, "--baseline", known)
    assert gone.returncode == 0
    assert "fixed; remove from the baseline: MC703 listPredictions" in gone.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:9"], "cannot reach http://127.0.0.1:9: "),
        (["http://gateway.example"], "is without TLS"),
        (["gateway.example"], "the gateway's address is needed"),
        (["ftp://gateway.example"], "the gateway's address is needed"),
        (["https://user:word@gateway.example"], "holds a name or password"),
        (["http://127.0.0.1:9", "--report", "report.pdf"], "the file ends in .json, .xml, .html"),
        (["http://127.0.0.1:9", "--baseline", "/nowhere.json"], "cannot read the baseline"),
        (["http://127.0.0.1:9", "--contract", "/nowhere.yaml"], "contract /nowhere.yaml"),
        (["https://127.0.0.1:9", "--gateway-ca", "/nowhere.pem"], "--gateway-ca /nowhere.pem"),
        (["https://127.0.0.1:9", "--upstream-ca", "/nowhere.pem"], "--gateway-ca /nowhere.pem"),
    ],
)
def test_what_cannot_be_done_is_2_and_one_line(arguments: list[str], said: str) -> None:
    ended = invoke("verify", *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert said in ended.stderr


def test_a_token_that_is_refused_is_2() -> None:
    with MockServer(scenario="unauthorized") as server:
        ended = invoke("verify", server.url, "--token", TOKEN)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"mockserver: {server.url} answers 401: the token is refused\n",
    )


@pytest.mark.parametrize(
    ("operation", "status", "why"),
    [
        ("createPrediction", 500, "no create was answered"),
        pytest.param(
            "createPrediction", 402, "no prediction could be made", marks=pytest.mark.thorough
        ),
        ("getPrediction", 500, "none could be read"),
    ],
)
def test_one_that_makes_or_shows_no_prediction_is_2_where_some_were_to_be_made(
    operation: str, status: int, why: str
) -> None:
    down = {"faults": {operation: [{"status": status, "times": "always"}]}}
    with MockServer(scenario=down) as server:
        ended = invoke("verify", server.url, "--token", TOKEN, "--spend", "2", "--poll", "0")
        assert invoke("verify", server.url, "--token", TOKEN).returncode == 0
    said = f"mockserver: {server.url}: nothing was verified, since {why}\n"
    assert (ended.returncode, ended.stderr) == (2, said)


@pytest.mark.parametrize("status", first(1, [502, 429]))
def test_a_gateway_that_is_out_of_order_is_2(status: int, tmp_path: Path) -> None:
    down = {"faults": {"*": [{"status": status, "retry_after": 0, "times": "always"}]}}
    report = tmp_path / "report.xml"
    with MockServer(scenario=down) as server:
        ended = invoke(
            "verify", server.url, "--token", TOKEN, "--spend", "2", "--report", str(report)
        )
    said = f"nothing was verified, since it is out of order: all it answered was 405, {status}\n"
    assert (ended.returncode, ended.stderr) == (2, f"mockserver: {server.url}: {said}")
    assert ElementTree.fromstring(report.read_text()).get("errors") == "1"


def test_a_certificate_is_verified() -> None:
    with MockServer(tls=True) as server:
        refused = invoke("verify", server.url)
        assert refused.returncode == 2
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert invoke("verify", server.url, "--gateway-ca", str(server.ca_file)).returncode == 0
