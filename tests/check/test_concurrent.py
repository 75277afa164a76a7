"""Concurrent calls of one client: each is judged, and must get its own picture."""

import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mockserver import check_client
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.generate.shrink import simpler
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.replay import replay
from mockserver.check.model import Case, ClientError
from mockserver.check.report.findings import Finding
from tests.check import client
from tests.helpers.documents import CONTRACT
from tests.helpers.share import first
from tests.helpers.small_client import CLIENT, hunt, python

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class Shared:
    """A client that keeps the prediction in an attribute, where the next call overwrites it."""

    def __init__(self) -> None:
        self.prediction: dict[str, Any] = {}

    def call(self, call: Call) -> Any:
        one = client.Client(call)
        try:
            self.prediction = one.create()
            threading.Event().wait(0.02)  # long enough to switch to another thread
            return one.result(one.follow(self.prediction))
        finally:
            one.connection.close()


class Pool:
    """A client with a pool of two connections that does not wait for a free one."""

    def __init__(self) -> None:
        self.free = threading.BoundedSemaphore(2)

    def call(self, call: Call) -> Any:
        if not self.free.acquire(blocking=False):
            raise RuntimeError("the pool is exhausted")
        try:
            return client.call_once(call)
        finally:
            self.free.release()


@pytest.mark.parametrize("variant", first(1, ["plain", "wait", "download"]))
def test_a_correct_client_breaks_no_rule(variant: str) -> None:
    report = check_client(
        partial(client.call_once, variant=variant), max_runs=40, concurrent=4, budget=100
    )
    assert (report.findings, report.flaky, report.runs) == ([], [], 40)


def test_a_client_that_mixes_up_calls_breaks_a_rule_with_two_of_them() -> None:
    report = check_client(Shared().call, max_runs=2, concurrent=4, ignore=["MC303"])
    (finding,) = report.findings
    assert (finding.rule, finding.cause, finding.concurrent) == ("MC306", ("another's picture",), 2)
    assert finding.outcome.startswith("1: returned ")
    assert "; 2: returned " in finding.outcome
    with Harness(CONTRACT) as harness:
        again = replay(harness, CallableDriver(Shared().call), finding, Limits())
        mended = replay(harness, CallableDriver(client.call_once), finding, Limits())
    assert (again.confirmed, mended.confirmed) == (1, 0)


def test_a_client_that_fails_only_with_concurrent_calls_breaks_a_rule() -> None:
    (finding,) = check_client(Pool().call, max_runs=2, concurrent=4).findings
    assert (finding.rule, finding.cause) == ("MC306", ("fails beside others",))
    assert finding.message.endswith("the pool is exhausted")


def test_other_rules_are_checked_for_each_call() -> None:
    def call(call: Call) -> Any:
        bug = (
            "creates again when the network fails" if call.input["prompt"].startswith("3: ") else ""
        )
        return client.call_once(call, bug)

    report = check_client(call, max_runs=45, concurrent=3)
    assert {finding.rule for finding in report.findings} <= {"MC201"}, (
        "two creates of two calls are no double billing"
    )


def test_fewer_calls_are_smaller() -> None:
    case = Case(model="m", input={"prompt": "a"}, concurrent=8)
    assert [step.concurrent for step in simpler(case)][:2] == [1, 2]


WORKER = (
    CLIENT
    + """
import threading

def answer(line):
    call = json.loads(line)
    sys.stdout.write(json.dumps({**json.loads(run(line)), %s}) + "\\n")
    sys.stdout.flush()

for line in sys.stdin:
    threading.Thread(target=answer, args=(line,)).start()
"""
)


@pytest.mark.parametrize("driver", [WorkerDriver, ProcessDriver])
class TestProcesses:
    def command(self, identifier: str) -> list[str]:
        return python(WORKER % identifier)

    def test_results_may_be_printed_in_any_order(self, driver: Callable[..., Any]) -> None:
        report = hunt(
            driver(self.command('"id": call.get("id")')), concurrent=3, max_runs=4, jobs=2
        )
        assert (report.findings, report.flaky, report.runs) == ([], [], 4)

    def test_results_with_wrong_ids_break_a_rule(self, driver: Callable[..., Any]) -> None:
        report = hunt(
            driver(self.command('"id": {1: 2, 2: 1}.get(call.get("id"), 3)')),
            concurrent=3,
            max_runs=1,
        )
        assert [finding.rule for finding in report.findings] == ["MC306"]

    def test_a_result_without_an_id_is_an_error(self, driver: Callable[..., Any]) -> None:
        with pytest.raises(ClientError, match=r"each result must carry the `id` of its call"):
            hunt(driver(self.command('"more": 1')), concurrent=3, max_runs=1)

    def test_a_process_that_exits_has_failed_in_every_open_call(
        self, driver: Callable[..., Any]
    ) -> None:
        source = WORKER % '"id": call.get("id")'
        dying = source.replace(
            "call = json.loads(line)",
            "call = json.loads(line)\n    if call.get('id') == 2: __import__('os')._exit(3)",
        )
        report = hunt(driver(python(dying)), concurrent=3, max_runs=1)
        (finding,) = [finding for finding in report.findings if finding.rule == "MC306"]
        assert "exit code 3" in finding.message


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
def test_the_example_workers_support_concurrent_calls(name: str) -> None:
    command = {"py": sys.executable, "mjs": shutil.which("node")}[name.rpartition(".")[2]]
    if command is None:
        pytest.skip("no Node on this machine")
    report = hunt(WorkerDriver([command, str(EXAMPLES / name)]), concurrent=3, max_runs=12)
    assert (report.findings, report.flaky, report.runs) == ([], [], 12)


def test_a_saved_finding_keeps_the_number_of_calls(tmp_path: Path) -> None:
    (finding,) = check_client(Pool().call, max_runs=1, concurrent=3).findings
    assert Finding.read(finding.save(tmp_path)).case.concurrent == 3


def test_a_replay_reproduces_a_race_that_is_lost_now_and_then() -> None:
    pool = Pool()
    (finding,) = check_client(pool.call, max_runs=1, concurrent=3).findings
    tokens: list[str] = []  # one for each play

    def now_and_then(call: Call) -> Any:
        if call.token not in tokens:
            tokens.append(call.token)
        return pool.call(call) if len(tokens) == 3 else client.call_once(call)

    with Harness(CONTRACT) as harness:
        assert replay(harness, CallableDriver(now_and_then), finding, Limits()).confirmed == 1
        assert replay(harness, CallableDriver(client.call_once), finding, Limits()).confirmed == 0
    assert len(tokens) >= 3
