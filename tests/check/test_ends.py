"""Unusual failures end with one line and exit code 2, never with a traceback or lost findings."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from mockserver import MockServer, check_client
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.report.files import write
from mockserver.check.report.findings import Report, describe
from mockserver.errors import MockServerError
from tests.helpers.command import COMMAND, invoke, run, serving
from tests.helpers.share import first

CLIENT = [sys.executable, "-c", "raise SystemExit('cannot')"]
CLIENT_WITH_BUGS = Path(__file__).parent.parent / "check" / "client.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--token", "tökén-日本"], "characters that HTTP headers cannot hold"),
        (["--token", "a\nb"], "characters that HTTP headers cannot hold"),
        (["--url", "http://[::1"], "is not an address"),
        (["--url", "http://a b:1"], "is not an address"),
        (["--url", "http://127.0.0.1:99999"], "no double answers at"),
    ],
)
def test_invalid_arguments_are_one_line(arguments: list[str], reason: str) -> None:
    completed = invoke("verdict", *arguments)
    assert (completed.returncode, completed.stdout, completed.stderr.count("\n")) == (2, "", 1)
    assert completed.stderr.startswith("mockserver: ")
    assert reason in completed.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no device that is always full"
)
@pytest.mark.parametrize(
    "arguments", [["rules"], ["explain", "MC201"], ["serve", "--port", "0"], ["--help"]]
)
def test_a_full_standard_output_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        completed = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert completed.returncode == 2
    assert completed.stderr == "mockserver: cannot write: No space left on device\n"


@pytest.mark.slow
def test_a_closed_standard_output_causes_no_traceback() -> None:
    command = f"{' '.join(COMMAND)} rules >&-"
    completed = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Traceback" not in completed.stderr
    command = f"{' '.join(COMMAND)} rules | true"
    completed = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.slow
def test_invalid_requests_cause_no_output_on_standard_error() -> None:
    with serving() as (process, url):
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        assert (
            httpx.post(url + "/replicate/v1/files", content=b"x", headers=kind).status_code == 400
        )
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert errors == ""


@pytest.mark.slow
@pytest.mark.parametrize("token", first(1, ["sécret", "", "a b", "a\nb"]))
def test_an_admin_token_that_no_header_can_contain_is_rejected_at_start(token: str) -> None:
    completed = invoke("serve", "--port", "0", "--admin-token", token)
    assert completed.returncode == 2
    assert (
        completed.stderr
        == "mockserver: the admin token is sent in a header: it has letters of ASCII, "
        "and no spaces\n"
    )
    with pytest.raises(MockServerError, match="admin token"):
        MockServer(admin_token=token)


@pytest.mark.slow
def test_an_unwritable_report_is_an_error_before_the_hunt(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    completed = run("check", "--report", str(tmp_path / "file" / "report.json"), "--", *CLIENT)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr.startswith(
        f"mockserver: cannot write the report {tmp_path}/file/report.json: "
    )
    assert completed.stderr.count("\n") == 1


@pytest.mark.thorough
@pytest.mark.slow
def test_findings_that_cannot_be_saved_are_still_printed(tmp_path: Path) -> None:
    (tmp_path / ".mockserver").touch()
    client = [sys.executable, str(CLIENT_WITH_BUGS), "body without content type"]
    flags = ["--max-runs", "10", "--budget", "30", "--report", "report.json"]
    completed = subprocess.run(
        [*COMMAND, "check", *flags, "--", *client],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.stderr.startswith(
        "mockserver: cannot save findings in .mockserver: File exists; "
        "findings are shown but not saved"
    )
    assert "Traceback" not in completed.stderr
    assert completed.returncode == 1, completed.stdout + completed.stderr
    assert "Smallest case" in completed.stdout
    assert (tmp_path / "report.json").exists()


ODD = "\x00\x1b[31m\uffff\ufffe\ud800\x85é𝄞"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ArithmeticError


@pytest.mark.parametrize(
    "odd",
    [RuntimeError(ODD), ValueError("http://\udfff"), UnprintableError()],
    ids=["odd", "lone", "unprintable"],
)
def test_an_exception_without_a_valid_message_is_still_an_outcome(odd: Exception) -> None:
    def call_fn(call: Call) -> object:
        raise odd

    outcome = CallableDriver(call_fn).start(Call("http://x", "t", "m", {})).wait(10)
    assert outcome is not None
    assert outcome.kind == "raised"
    assert outcome.message.startswith(type(odd).__name__ + ": ")
    outcome.message.encode()


@pytest.mark.slow
def test_reports_can_contain_any_client_output(tmp_path: Path) -> None:
    def call_fn(call: Call) -> Any:
        httpx.post(
            f"{call.base_url}/v1/models/{call.model}/predictions",
            json={"input": dict(call.input)},
            headers={"Authorization": f"Bearer {call.token}"},
        )
        return f"http://{ODD}"

    report: Report = check_client(call_fn, max_runs=3)
    assert report.findings
    report.command = f"client {ODD}".encode("utf-8", "replace").decode()
    for suffix in (".json", ".xml", ".html", ".md"):
        write(report, tmp_path / f"report{suffix}")
        assert (tmp_path / f"report{suffix}").stat().st_size > 100
    ElementTree.parse(tmp_path / "report.xml")
    for finding in report.findings:
        describe(finding).encode()
        finding.save(tmp_path)


def test_nested_with_blocks_of_one_server_are_an_error() -> None:
    server = MockServer()
    with server:
        with (
            pytest.raises(
                MockServerError,
                match="is running already; for a second one, create another",
            ),
            server,
        ):
            pass
        assert server.tenant().verdict()["ok"], "the first goes on"
    with server:
        assert server.tenant().verdict()["ok"], "one after the other is as it was"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("worker", [[], ["--worker"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_ci_s_time_out_ends_the_client_and_leaves_a_report(
    number: signal.Signals, worker: list[str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pid")
    source = (
        "import os, sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tests.helpers.small_client import CLIENT\n"
        "exec(CLIENT)\n"
        "calls = 0\n"
        "for line in sys.stdin:\n"
        "    print(run(line), flush=True)\n"
        "    calls += 1\n"
        "    if calls > 3: open('pid', 'w').write(str(os.getpid())); time.sleep(600)\n"
        if worker
        else "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    )
    command = [*COMMAND, "check", *worker, "--report", "report.json", "--jobs", "1", "--"]
    root = str(Path(__file__).parent.parent.parent)
    with subprocess.Popen(
        [*command, sys.executable, "-c", source, root],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        client_pid = int((tmp_path / "pid").read_text())
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(client_pid, 0)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["interrupted"]
    assert "--report report.json" in report["command_line"]
