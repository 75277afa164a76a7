"""`mockserver check` and its sisters, as a user runs them."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from mockserver.check.progress import Progress
from mockserver.check.report.findings import Report
from mockserver.check.report.summary import notes_on
from mockserver.check.report.terminal import progress_line
from mockserver.cli.entry import main
from mockserver.cli.rules import every_rule
from mockserver.contract.contract import Contract
from mockserver.scenarios.catalogue import Catalogue
from tests.check.receiver import SECRET, WebhookReceiver

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
CLIENT = [sys.executable, "-m", "tests.check.client"]


def mockserver(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mockserver", *words]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def checked(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A client that is broken, checked: the folder, and what the command said."""
    folder = tmp_path_factory.mktemp("client")
    reports = [
        word
        for kind in ("json", "xml", "html", "md")
        for word in ("--report", f"out/report.{kind}")
    ]
    bug = "canceled returns nothing"
    return folder, mockserver(
        "check", "--max-runs", "14", "--jobs", "2", *reports, "--", *CLIENT, bug, cwd=folder
    )


class TestChecking:
    def test_findings_exit_with_1_and_are_told_with_their_story(self, checked: Any) -> None:
        folder, result = checked
        assert (result.returncode, result.stderr) == (1, "")
        lines = result.stdout.splitlines()
        assert (
            lines[0] == f"checking: {' '.join(CLIENT)} canceled returns nothing · 2 models · seed 0"
        )
        assert "MC301  reports a false outcome  [error]" in lines
        assert "     client  returned null" in lines
        assert any(
            line.startswith("  ▶   0.000  POST …/flux-1.1-pro-ultra/predictions") for line in lines
        )
        assert lines[-1].startswith("14 runs · ")
        assert lines[-1].endswith(" · 1 rule broken")
        (saved,) = (folder / ".mockserver").glob("*.json")
        assert (
            f"  Replay:   mockserver replay .mockserver/{saved.name} -- {' '.join(CLIENT)}"
            in result.stdout
        )

    def test_the_json_report_can_be_read_back(self, checked: Any) -> None:
        folder, _ = checked
        report = json.loads((folder / "out/report.json").read_text())
        assert [finding["rule"] for finding in report["findings"]] == ["MC301"]
        assert (report["runs"], report["seed"], len(report["models"])) == (14, 0, 2)

    def test_the_junit_report_has_a_case_for_each_rule(self, checked: Any) -> None:
        folder, _ = checked
        suite = ElementTree.parse(folder / "out/report.xml").getroot()
        assert suite.get("failures") == "1"
        assert (
            int(suite.get("tests", "0"))
            == len(suite)
            == sum(getattr(rule, "function", None) is not None for rule in every_rule().values())
        )
        (failed,) = suite.findall("testcase/failure")
        assert failed.get("type") == "MC301"

    def test_over_https_the_client_is_told_what_to_trust(self, tmp_path: Path) -> None:
        source = """
import json, os, ssl, sys, urllib.request
call = json.loads(sys.stdin.readline())
assert call["ca_file"] == os.environ["SSL_CERT_FILE"] == os.environ["NODE_EXTRA_CA_CERTS"]
headers = {"Authorization": "Bearer " + call["token"], "Content-Type": "application/json"}
def api(path, data=None):
    with urllib.request.urlopen(urllib.request.Request(call["base_url"] + "/v1" + path, data, headers)) as response:
        return json.load(response)
prediction = api("/models/" + call["model"] + "/predictions", json.dumps({"input": call["input"]}).encode())
while prediction["status"] in ("starting", "processing"):
    prediction = api("/predictions/" + prediction["id"])
print(json.dumps({"output": prediction["output"] + "?"}))
"""
        command = ["--", sys.executable, "-c", source]
        result = mockserver(
            "check", "--tls", "--max-runs", "2", "--jobs", "1", *command, cwd=tmp_path
        )
        assert (result.returncode, result.stderr) == (1, "")
        assert 'client  returned "https://127.0.0.1' in result.stdout
        (saved,) = (tmp_path / ".mockserver").glob("MC302-*.json")
        again = mockserver("replay", str(saved), *command, cwd=tmp_path)
        assert again.stdout.splitlines()[-1] == "MC302 is still broken"

    def test_a_replay_still_fails_and_tells_when_it_is_mended(self, checked: Any) -> None:
        folder, _ = checked
        (saved,) = (folder / ".mockserver").glob("*.json")
        again = mockserver(
            "replay", str(saved), "--", *CLIENT, "canceled returns nothing", cwd=folder
        )
        assert (again.returncode, again.stdout.splitlines()[-1]) == (1, "MC301 is still broken")
        gone = mockserver(
            "replay", str(saved), "--", sys.executable, "no_such_client.py", cwd=folder
        )
        assert (gone.returncode, "the client made no request" in gone.stderr) == (2, True)
        mended = mockserver("replay", str(saved), "--", *CLIENT, cwd=folder)
        assert (mended.returncode, mended.stdout.splitlines()[-1]) == (
            0,
            "MC301 is not broken any more",
        )

    def test_a_finding_can_be_served(self, checked: Any) -> None:
        folder, _ = checked
        (saved,) = (folder / ".mockserver").glob("*.json")
        served = Catalogue(Contract.load()).read(str(saved))
        assert [step.status for step in served.lifecycle] == ["canceled"]

    @pytest.mark.thorough
    def test_a_baseline_accepts_what_is_known(self, checked: Any) -> None:
        folder, _ = checked
        words = ("check", "--max-runs", "3", "--baseline", "out/report.json", "--", *CLIENT)
        result = mockserver(*words, "canceled returns nothing", cwd=folder)
        assert result.returncode == 0
        assert "accepted by the baseline: MC301 reports a false outcome" in result.stdout
        mended = mockserver(*words, cwd=folder)
        assert "Fixed; remove from the baseline: MC301." in mended.stdout

    @pytest.mark.thorough
    def test_a_replay_has_the_pictures_where_the_hunt_had_them(self, tmp_path: Path) -> None:
        words = ("--files", "same-origin", "--max-runs", "1")
        result = mockserver("check", *words, "--", *CLIENT, "returns urls.get", cwd=tmp_path)
        (shown,) = re.findall(r"Replay: +mockserver (replay --files same \S+) -- ", result.stdout)
        assert (
            mockserver(*shown.split(), "--", *CLIENT, "returns urls.get", cwd=tmp_path).returncode
            == 1
        )

    def test_a_baseline_is_written_and_holds_what_the_client_breaks_now(
        self, checked: Any, tmp_path: Path
    ) -> None:
        words = (
            "check",
            "--max-runs",
            "1",
            "--jobs",
            "1",
            "--baseline",
            "known.json",
            "--baseline-update",
            "--",
            *CLIENT,
        )
        result = mockserver(*words, "no token on polls", cwd=tmp_path)
        assert result.returncode == 0
        assert "known.json is written: 1 finding is accepted from now on\n" in result.stdout
        assert [
            finding["rule"]
            for finding in json.loads((tmp_path / "known.json").read_text())["findings"]
        ] == ["MC103"]
        assert mockserver(*words, cwd=tmp_path).returncode == 0
        assert json.loads((tmp_path / "known.json").read_text())["findings"] == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "[]",
                "the baseline known.json is not a JSON report of `mockserver check`: it has no `findings`",
            ),
            ('{"name": "package"}', "it has no `findings`, `runs` and `seed`"),
            ('{"findings": 1, "runs": 1, "seed": 1}', "Expected `array`, got `int`"),
            ("<testsuite/>", "the baseline known.json is not JSON"),
        ],
    )
    def test_a_baseline_that_is_no_report_of_ours_is_refused(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        (tmp_path / "known.json").write_text(text)
        result = mockserver("check", "--baseline", "known.json", "--", *CLIENT, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert said in result.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (
                ["--baseline-update", "--", "x"],
                "--baseline-update needs --baseline FILE.json, the file to write",
            ),
            (
                ["--", "no-such-client"],
                "mockserver: cannot run no-such-client: No such file or directory\n",
            ),
            (["--", sys.executable, "-c", "raise SystemExit('no module flux')"], "no module flux"),
            (["--report", "report.txt", "--", "x"], "the file ends in .json, .xml, .html"),
            (["--model", "a/b", "--", "x"], "the contract has no model a/b; it has"),
            (["--ignore", "MC7", "--", "x"], "there is no rule MC7"),
            (["--baseline", "none.json", "--", "x"], "cannot read the baseline none.json"),
            ([], "Missing argument '-- CMD...'"),
        ],
    )
    def test_what_cannot_be_done_exits_with_2_and_says_why(
        self, tmp_path: Path, words: list[str], said: str
    ) -> None:
        result = mockserver("check", *words, cwd=tmp_path)
        assert result.returncode == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr

    def test_ctrl_c_prints_what_was_found(self, tmp_path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-m",
            "mockserver",
            "check",
            "--budget",
            "100",
            "--",
            *CLIENT,
            "returns urls.get",
        ]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        while not list(tmp_path.glob("never")) and process.poll() is None:
            if _children(process.pid):  # a client runs, so the hunt is on
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        process.stdout.close()
        assert process.wait() in (1, 130)
        assert "Interrupted: the report has the findings until then." in rest

    @pytest.mark.parametrize(
        "flags",
        [["--jobs", "1"], ["--worker"], ["--jobs", "4"]],
        ids=["process", "worker", "processes"],
    )
    def test_ctrl_c_twice_leaves_nothing_running(self, tmp_path: Path, flags: list[str]) -> None:
        stubborn = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("pids.new").write_text(f"{os.getpid()} {child.pid}")
pathlib.Path("pids.new").rename("pids")
time.sleep(60)
"""
        command = [
            sys.executable,
            "-m",
            "mockserver",
            "check",
            *flags,
            "--",
            sys.executable,
            "-c",
            stubborn,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )
        until((tmp_path / "pids").exists)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (130, "")
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        until(lambda: not any(is_running(pid) for pid in pids))

    def test_the_second_ctrl_c_does_not_wait_for_what_the_first_one_began(self) -> None:
        source = """
import time
from mockserver.check.drive.interrupts import exit_on_second_interrupt
with exit_on_second_interrupt(lambda: print("killed", flush=True)):
    try:
        print("running", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("ending", flush=True)
        time.sleep(60)
"""
        command = [sys.executable, "-c", source]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in ("running\n", "ending\n"):
                assert process.stdout.readline() == line
                process.send_signal(signal.SIGINT)
            assert (process.stdout.read(), process.stderr.read(), process.wait()) == (
                "killed\n",
                "",
                130,
            )


class TestTerminal:
    def test_progress_is_one_line(self) -> None:
        line = progress_line(Progress(150, 300, ("MC201",), 12.6, 30, "shrinking MC201"), 100)
        assert line == "━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 150/300 runs · 17 s left · MC201 · shrinking MC201"

    @pytest.mark.parametrize(
        ("runs", "elapsed", "filled"),
        [(0, 0, 0), (75, 3, 6), (3, 15, 12), (300, 2, 24), (10, 30, 24), (9, 99, 24)],
    )
    def test_the_bar_moves_with_runs_or_time_whichever_is_ahead(
        self, runs: int, elapsed: float, filled: int
    ) -> None:
        assert (
            progress_line(Progress(runs, 300, (), elapsed, 30, "looking"), 200).count("━") == filled
        )

    @pytest.mark.parametrize("width", range(130))
    def test_the_line_is_never_wider_than_the_terminal(self, width: int) -> None:
        progress = Progress(150, 300, ("MC101", "MC201", "MC301"), 12, 30, "confirming MC301")
        line = progress_line(progress, width)
        assert len(line) <= width
        if width > 90:
            assert line.endswith("confirming MC301")

    def test_it_is_redrawn_in_place_on_a_narrow_terminal(self, tmp_path: Path) -> None:
        output = on_terminal(tmp_path, 40, {})
        drawn = [
            part.removeprefix("\x1b[K")
            for part in output.split("\r")
            if "runs" in part and "━" in part
        ]
        assert len(drawn) >= 3
        assert all(len(line) < 40 and "\n" not in line for line in drawn)

    def test_a_dumb_terminal_gets_no_bar(self, tmp_path: Path) -> None:
        assert on_terminal(tmp_path, 80, {"TERM": "dumb"}) == ""

    @pytest.mark.parametrize(
        ("words", "environment", "coloured"),
        [
            ([], {}, False),
            ([], {"FORCE_COLOR": "1"}, True),
            ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (["--color", "always"], {"NO_COLOR": "1"}, True),
            (["--color", "never"], {"FORCE_COLOR": "1"}, False),
            (["--color", "auto"], {"FORCE_COLOR": ""}, False),
        ],
    )
    def test_colour_is_as_the_flag_or_the_environment_has_it(
        self, words: list[str], environment: dict[str, str], coloured: bool
    ) -> None:
        with WebhookReceiver() as receiver:
            result = CliRunner().invoke(
                main,
                ["check-webhook", receiver.url, "--secret", SECRET, *words],
                env={"NO_COLOR": None, "FORCE_COLOR": None, **environment},
            )
        assert result.exit_code == 0
        assert ("\x1b[32mno rule broken" in result.output) == coloured


class TestTalking:
    def test_the_rules_are_listed(self) -> None:
        result = CliRunner().invoke(main, ["rules"])
        assert all(
            f"{rule.code}  {rule.severity:<7}  {rule.title}" in result.output
            for rule in every_rule().values()
        )

    @pytest.mark.parametrize("code", every_rule())
    def test_each_is_explained(self, code: str) -> None:
        output = CliRunner().invoke(main, ["explain", code.lower()]).output
        rule = every_rule()[code]
        assert all(
            text in output
            for text in (rule.title, rule.demand, rule.example, rule.fix, "Rests on:")
        )

    def test_an_unknown_one_is_not(self) -> None:
        result = CliRunner().invoke(main, ["explain", "MC000"])
        assert (result.exit_code, result.output) == (
            2,
            "mockserver: there is no rule MC000; `mockserver rules` lists them\n",
        )

    @pytest.mark.parametrize(
        ("report", "said"),
        [
            (Report(runs=300, max_runs=300), []),
            (
                Report(runs=120, max_runs=300),
                [
                    "120 of 300 cases ran within the time budget. To run the rest, use a longer --budget; a client that mostly waits is faster"
                    " with more --jobs."
                ],
            ),
            (
                Report(runs=120, max_runs=300, process_per_call=True),
                [
                    "120 of 300 cases ran within the time budget. To run the rest, use a longer --budget; a client that runs as a --worker"
                ],
            ),
            (Report(runs=5, max_runs=300, interrupted=True), ["Interrupted"]),
            (
                Report(flaky=["MC405"], undecided=2),
                ["Seen once but not reproducible", "2 of the runs reached the deadline"],
            ),
        ],
    )
    def test_what_a_reader_should_know_is_told(self, report: Report, said: list[str]) -> None:
        notes = notes_on(report)
        assert len(notes) == len(said)
        assert all(start in note for start, note in zip(said, notes, strict=True))


def on_terminal(folder: Path, columns: int, environment: dict[str, str]) -> str:
    """What `check` prints on standard error where that is a terminal of some width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "mockserver", "check", "--max-runs", "3", "--", *CLIENT]
    environment = {
        "TERM": "xterm",
        **environment,
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end has been closed
            break
        if not piece:
            break
        output += piece
    os.close(ours)
    assert process.wait() == 0
    return output.decode()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()
