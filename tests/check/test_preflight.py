"""Checks before a hunt: their errors come early, and name the next step."""

import shutil
import sys
import time
from pathlib import Path

import pytest

from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.replay import replay
from mockserver.check.model import ClientError
from mockserver.check.report.findings import Finding
from tests.helpers.documents import CONTRACT
from tests.helpers.small_client import CLIENT, hunt, python

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

WORKER = CLIENT + "for line in sys.stdin: print(run(line), flush=True)"


class TestWorkers:
    @pytest.mark.parametrize(
        ("source", "symptom"),
        [
            (
                "print(run(sys.stdin.read()))",
                "it made no request until its standard input had ended",
            ),
            ("print(run(sys.stdin.readline()), flush=True)", "it exited after its first call"),
            (
                "print(run(sys.stdin.readline()), flush=True); sys.stdin.read(); time.sleep(60)",
                "it answered its first call and ignored the second",
            ),
            (
                "print(*[run(line) for line in sys.stdin], sep='\\n')",  # like unflushed output
                "it made its requests, but printed its result only after its standard input had "
                "ended",
            ),
            pytest.param(
                "time.sleep(0.9); print(run(sys.stdin.read()))",  # as on a busy machine
                "it made no request until its standard input had ended",
                marks=pytest.mark.thorough,
            ),
        ],
    )
    def test_a_command_that_is_not_a_worker_fails_long_before_the_deadline(
        self, source: str, symptom: str
    ) -> None:
        began = time.monotonic()
        with pytest.raises(ClientError) as raised:
            hunt(WorkerDriver(python(CLIENT + source)), limits=Limits(deadline=60))
        assert str(raised.value).startswith(
            f"the command is not a worker: {symptom}. Remove --worker, or have the command read "
            "one line per call"
        )
        assert time.monotonic() - began < 60

    def test_a_command_that_prints_no_json_is_an_error(self) -> None:
        source = (
            CLIENT
            + "for line in sys.stdin: print('done:', json.loads(run(line))['output'], flush=True)"
        )
        with pytest.raises(
            ClientError,
            match=r'no line \{"output": …\} or \{"error": …\}\. .*output:\n.*\ndone: http',
        ):
            hunt(WorkerDriver(python(source)))

    def test_a_worker_may_be_slow_to_start(self) -> None:
        report = hunt(WorkerDriver(python("import time; time.sleep(2)\n" + WORKER)))
        assert (report.ok, report.runs) == (True, 2)

    def test_a_worker_that_fails_in_its_first_call_is_not_given_a_second(self) -> None:
        with pytest.raises(
            ClientError,
            match=r"made no request \(it raised\)\. .*Client output:\nexit code 1: no module flux",
        ):
            hunt(WorkerDriver(python("raise SystemExit('no module flux')")))

    def test_a_replay_checks_the_worker_too(self) -> None:
        create = next(iter(CONTRACT.models.values()))
        finding = Finding(
            rule="MC301",
            title="t",
            severity="error",
            message="m",
            rests_on="r",
            call={"model": str(create.model), "input": {"prompt": "a"}},
            scenario={},
        )
        driver = WorkerDriver(python(CLIENT + "print(run(sys.stdin.read()))"))
        with (
            Harness(CONTRACT) as harness,
            pytest.raises(ClientError, match="the command is not a worker"),
        ):
            replay(harness, driver, finding, Limits())
        driver.close()


class TestClients:
    def test_the_output_is_quoted_json_or_not(self) -> None:
        source = "import sys; print('hello there'); print('on standard error', file=sys.stderr)"
        with pytest.raises(ClientError) as raised:
            hunt(ProcessDriver(python(source)))
        assert str(raised.value) == (
            "the client made no request (it ended without a result). "
            "Make sure that it uses the base URL of its call. Client output:\n"
            'the last line of output was neither {"output": …} nor {"error": …}: '
            "on standard error\n"
            "hello there\non standard error"
        )

    def test_the_error_says_how_long_a_silent_client_was_waited_for(self) -> None:
        driver = ProcessDriver(python("import time; time.sleep(60)"))
        with Harness(CONTRACT) as harness, pytest.raises(ClientError) as raised:
            Hunt(harness, driver, Plan(limits=Limits(deadline=0.5))).run()
        assert str(raised.value) == (
            "the client made no request (had not finished after 0.5 s; if it is slow to start, "
            "choose a longer --deadline). Make sure that it uses the base URL of its call. "
            "The client printed nothing."
        )

    def test_a_client_that_breaks_rules_before_it_hangs_gets_findings(self) -> None:
        source = """
import json, sys, time, urllib.error, urllib.request

def api(call, path, data=None):
    headers = {"Authorization": "Bearer " + call["token"], "Content-Type": "application/json"}
    request = urllib.request.Request(call["base_url"] + "/v1" + path, data, headers)
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return json.load(error)

call = json.loads(sys.stdin.readline())
for _ in range(3):
    prediction = api(call, "/models/" + call["model"] + "/predictions", b"{}")
while prediction.get("status") != "succeeded":
    time.sleep(0.02)
    prediction = api(call, "/predictions/undefined")
"""
        report = hunt(ProcessDriver(python(source)), max_runs=1, limits=Limits(deadline=1))
        assert report.broken_rules == ["MC101", "MC403"]


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
def test_the_example_workers_are_workers_and_break_no_rule(name: str) -> None:
    command = {"py": sys.executable, "mjs": shutil.which("node")}[name.rpartition(".")[2]]
    if command is None:
        pytest.skip("no Node on this machine")
    report = hunt(WorkerDriver([command, str(EXAMPLES / name)]), max_runs=60)
    assert (report.findings, report.flaky) == ([], [])
    assert report.runs == 60
