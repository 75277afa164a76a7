"""Drivers: what counts as an outcome, and that no process is left behind."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.drive.protocol import Call, Driver
from mockserver.check.model import ClientError, Outcome

pytestmark = pytest.mark.slow

CALL = Call("http://127.0.0.1:1/replicate", "kit-token", "m/n", {"prompt": "é\n"})


def python(source: str) -> list[str]:
    return [sys.executable, "-c", "import json, os, subprocess, sys, time\n" + source]


def run(driver: Driver, timeout: float = 20) -> Outcome:
    pending = driver.start(CALL)
    return pending.wait(timeout) or pending.kill()


class TestCallables:
    class Output:
        url = "http://x/y.jpg"

    @pytest.mark.parametrize(
        ("returned", "value"),
        [
            ("u", "u"),
            (b"p", b"p"),
            (bytearray(b"p"), b"p"),
            (Output(), "http://x/y.jpg"),
            ([Output()], ["http://x/y.jpg"]),
            (None, None),
        ],
    )
    def test_return_values(self, returned: Any, value: Any) -> None:
        assert run(CallableDriver(lambda call: returned)) == Outcome("returned", value)

    def test_any_exception_is_an_outcome(self) -> None:
        def leave(call: Call) -> None:
            raise SystemExit("no")

        assert run(CallableDriver(leave)) == Outcome("raised", message="SystemExit: no")

    def test_asynchronous_functions(self) -> None:
        async def call(call: Call) -> str:
            return call.model

        assert run(CallableDriver(call)) == Outcome("returned", "m/n")


class TestProcesses:
    def test_the_call_is_on_standard_input_and_in_the_environment(self) -> None:
        outcome = run(
            ProcessDriver(
                python(
                    "call = json.loads(sys.stdin.readline())\n"
                    "print('some chatter')\n"
                    "names = ['REPLICATE_BASE_URL', 'REPLICATE_API_TOKEN']\n"
                    "call['env'] = [os.environ[name] for name in names]\n"
                    "print(json.dumps({'output': call}))"
                )
            )
        )
        facts = {
            "base_url": CALL.base_url,
            "token": CALL.token,
            "model": CALL.model,
            "input": CALL.input,
        }
        assert outcome.value == {**facts, "env": [CALL.base_url, CALL.token]}
        assert "some chatter" in outcome.printed

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ('print(\'{"error": "refused"}\')', "refused"),
            ("print('{\"output\": 1}'); sys.exit('broke')", "exit code 1: broke"),
            (
                "print('hello')",
                'the last line of output was neither {"output": …} nor {"error": …}',
            ),
            ("pass", 'the last line of output was neither {"output": …} nor {"error": …}'),
        ],
    )
    def test_ways_to_fail(self, source: str, message: str) -> None:
        outcome = run(ProcessDriver(python(source)))
        assert (outcome.kind, outcome.message) == ("raised", message)

    def test_a_client_may_report_its_name(self) -> None:
        report = json.dumps({"output": "u", "client": "replicate 1.4.0"})
        assert run(ProcessDriver(python(f"print({report!r})"))).client == "replicate 1.4.0"

    def test_a_process_that_hangs_is_killed_with_its_children(self, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        source = f"""
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(file)!r}, 'w').write(str(child.pid)); os.rename({str(file)!r}, {str(file)!r} + 's')
time.sleep(60)"""
        pending = ProcessDriver(python(source)).start(CALL)
        _until(lambda: Path(f"{file}s").exists())
        assert pending.wait(0.01) is None
        assert pending.kill().kind == "hung"
        _until(lambda: not _runs(int(Path(f"{file}s").read_text())))

    @pytest.mark.parametrize("driver", [ProcessDriver, WorkerDriver])
    def test_a_command_that_does_not_exist(self, driver: Any) -> None:
        with pytest.raises(ClientError, match="cannot run no-such-client: No such file"):
            driver(["no-such-client"]).start(CALL)


WORKER = """
for number, line in enumerate(sys.stdin):
    call = json.loads(line)
    print('working', flush=True)
    if {die_at} == number: sys.exit('died')
    if {hang_at} == number: time.sleep(60)
    print(json.dumps({{'output': [number, os.getpid()]}}), flush=True)
"""


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[WorkerDriver]:
    driver = WorkerDriver(
        python(WORKER.format(**{"die_at": -1, "hang_at": -1, **getattr(request, "param", {})}))
    )
    yield driver
    driver.close()


class TestWorkers:
    def test_one_process_makes_every_call(self, worker: WorkerDriver) -> None:
        first, second = run(worker).value, run(worker).value
        assert (first[0], second[0]) == (0, 1)
        assert first[1] == second[1]

    @pytest.mark.parametrize("worker", [{"die_at": 1}], indirect=True)
    def test_a_worker_that_exits_has_failed_and_is_restarted(self, worker: WorkerDriver) -> None:
        outcomes = [run(worker) for _ in range(3)]
        assert [outcome.kind for outcome in outcomes] == ["returned", "raised", "returned"]
        assert "died" in outcomes[1].printed
        assert outcomes[2].value[0] == 0

    @pytest.mark.parametrize("worker", [{"hang_at": 0}], indirect=True)
    def test_a_worker_that_hangs_is_killed_and_restarted(self, worker: WorkerDriver) -> None:
        assert run(worker, timeout=0.3).kind == "hung"
        pending = worker.start(CALL)
        assert pending.wait(0.05) is None
        assert pending.kill().kind == "hung"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(holds: Any) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        os.sched_yield()
