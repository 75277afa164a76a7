"""No false alarms: other plays, the end of a hunt or a busy machine cause no findings."""

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from mockserver import check_client
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.drive.protocol import Call, Driver
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.pool import PlayStopped
from mockserver.check.hunt.replay import replay
from mockserver.check.model import Case, Run
from mockserver.check.report.findings import Report
from mockserver.check.report.summary import notes_on
from mockserver.check.rules.registry import find_breaches
from mockserver.errors import MockServerError
from tests.check import client
from tests.helpers.documents import CONTRACT
from tests.helpers.small_client import CLIENT, hunt, python

pytestmark = pytest.mark.slow

MODELS = list(CONTRACT.models)
PLAIN = Case(model=MODELS[0], input={"prompt": "a cat"})
LIMITS = Limits(deadline=20)


def send(call: Call, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(
        method,
        f"{call.base_url}/v1{path}",
        headers={"Authorization": f"Bearer {call.token}"},
        **more,
    )


def create(call: Call) -> str:
    sent = send(call, "POST", f"/models/{call.model}/predictions", json={"input": call.input})
    return str(sent.json()["id"])


def breaches_of(run: Run) -> list[tuple[str, str]]:
    return [(breach.rule, breach.message) for breach in find_breaches(run)]


class TestPlaysThatAreStopped:
    def test_later_requests_of_a_stopped_thread_are_not_attributed_to_the_next_play(self) -> None:
        created, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def stopped(call: Call) -> None:
            identifier = create(call)
            created.set()
            go_on.wait(20)
            send(call, "POST", f"/models/{call.model}/predictions", json={"input": call.input})
            for _ in range(3):
                send(call, "GET", f"/predictions/{identifier}")
            send(call, "GET", "/predictions")
            ended.set()

        def stop() -> None:
            if created.is_set():
                raise PlayStopped

        def healthy(call: Call) -> Any:
            go_on.set()
            assert ended.wait(20)
            return client.call_once(call)

        with Harness(CONTRACT) as harness:
            with pytest.raises(PlayStopped):
                harness.play(PLAIN, CallableDriver(stopped), LIMITS, on_tick=stop)
            run = harness.play(PLAIN, CallableDriver(healthy), LIMITS)

        assert breaches_of(run) == []
        assert {exchange.token for exchange in run.exchanges if exchange.token} == {run.token}

    def test_earlier_requests_of_a_killed_process_are_not_either(self) -> None:
        sending = python(CLIENT + "run(sys.stdin.readline())\nwhile True: time.sleep(0.01)")
        driver = ProcessDriver(sending)
        stops = 0

        def stop() -> None:
            nonlocal stops
            stops += 1
            if stops > 20:
                raise PlayStopped

        with Harness(CONTRACT) as harness:
            for _ in range(3):
                stops = 0
                with pytest.raises(PlayStopped):
                    harness.play(PLAIN, driver, LIMITS, on_tick=stop)
                run = harness.play(PLAIN, CallableDriver(client.call_once), LIMITS)
                assert breaches_of(run) == []
        driver.close()

    @pytest.mark.parametrize("bug", ["", "creates again when the network fails"])
    def test_findings_of_a_hunt_without_budget_left_are_reproducible(self, bug: str) -> None:
        for seed in range(3):
            assert_replayed(partial(client.call_once, bug=bug), budget=1.0 + seed / 2, seed=seed)

    @pytest.mark.thorough
    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize(
        "bug",
        ["", "creates again when the network fails", "does not know aborted", "never cancels"],
    )
    def test_findings_of_forty_hunts_are_reproducible(self, bug: str, seed: int) -> None:
        command = [sys.executable, "-m", "tests.check.client", bug]
        budget = 3 + seed * 6 / 9
        driver = ProcessDriver(command)
        with Harness(CONTRACT, seed=seed) as harness, closing(driver):
            try:
                report = Hunt(harness, driver, Plan(budget=budget, seed=seed, jobs=8)).run()
            except MockServerError as reason:  # on a busy machine
                if "was spent before a single case" not in str(reason):
                    raise
            else:
                assert_each_is_shown(report, driver, seed)


def assert_replayed(call_fn: Callable[[Call], Any], *, budget: float, seed: int) -> None:
    report = check_client(call_fn, budget=budget, seed=seed, jobs=4)
    assert_each_is_shown(report, CallableDriver(call_fn), seed)


def assert_each_is_shown(report: Report, driver: Driver, seed: int) -> None:
    """Assert that replaying each finding of a report reproduces it."""
    for finding in (*report.findings, *report.warnings):
        with Harness(CONTRACT, seed=seed) as harness:
            again = replay(harness, driver, finding, Limits())
        assert again.confirmed, f"{finding.rule} {finding.message}"


class TestLateRequests:
    def test_a_background_cleanup_belongs_to_its_own_play(self) -> None:
        """It lists and cancels its orphan, with its own token, during the next call."""
        go_on, ended = threading.Event(), threading.Event()
        calls: list[Call] = []

        def clean_up(call: Call, identifier: str) -> None:
            go_on.wait(20)
            send(call, "GET", "/predictions")
            send(call, "POST", f"/predictions/{identifier}/cancel")
            create(call)
            send(call, "GET", f"/predictions/{identifier}")
            ended.set()

        def call_fn(call: Call) -> Any:
            calls.append(call)
            if len(calls) == 1:
                threading.Thread(target=clean_up, args=(call, create(call)), daemon=True).start()
                raise RuntimeError("timed out")
            go_on.set()
            assert ended.wait(20)
            return client.call_once(call)

        driver = CallableDriver(call_fn)
        with Harness(CONTRACT) as harness:
            harness.play(PLAIN, driver, LIMITS)
            run = harness.play(PLAIN, driver, LIMITS)
        assert breaches_of(run) == []

    def test_a_late_download_belongs_to_its_own_play(self) -> None:
        urls: list[str] = []

        def call_fn(call: Call) -> Any:
            for url in urls:
                httpx.get(url)
            urls.append(client.call_once(call))
            return urls[-1]

        driver = CallableDriver(call_fn)
        with Harness(CONTRACT) as harness:
            runs = [harness.play(PLAIN, driver, LIMITS) for _ in range(3)]
        assert [breaches_of(run) for run in runs] == [[], [], []]

    def test_no_message_contains_a_token(self) -> None:
        first_calls: list[Call] = []

        def call_fn(call: Call) -> Any:
            first_calls.append(call)
            return client.call_once(
                Call(call.base_url, first_calls[0].token, call.model, call.input)
            )

        report = check_client(call_fn, max_runs=3)
        assert "MC103" in {finding.rule for finding in report.findings}
        rendered = repr([(finding.message, finding.exchanges) for finding in report.findings])
        assert first_calls[0].token not in rendered


class TestConfirmations:
    def test_a_finding_is_confirmed_on_a_double_that_has_played_nothing_else(self) -> None:
        """The planted bug shows only on the double of the first calls, so it is not confirmed."""
        ports: list[str] = []

        def call_fn(call: Call) -> Any:
            ports.append(call.base_url)
            on_first_double = call.base_url == ports[0] and len(ports) > len(MODELS)
            return client.call_once(call, "drops falsy inputs" if on_first_double else "")

        report = check_client(call_fn, max_runs=40, budget=60)
        assert report.findings == []
        assert report.flaky == ["MC102"]

    def test_a_client_that_gives_up_after_a_while_does_not_keep_retrying(self) -> None:
        """Its retries take longer than the deadline, but they end."""
        assert hunt_under_outage(patient_for=1.6).findings == []

    def test_a_client_that_never_gives_up_does(self) -> None:
        report = hunt_under_outage(patient_for=60)
        assert {finding.rule for finding in report.findings} == {"MC402"}


def hunt_under_outage(patient_for: float) -> Report:
    """The report on a client that retries polls for some seconds, with a deadline of a second."""

    def call_fn(call: Call) -> Any:
        identifier, began = create(call), time.monotonic()
        while time.monotonic() - began < patient_for:
            with suppress(httpx.HTTPError, ValueError, KeyError):
                prediction = (
                    send(call, "GET", f"/predictions/{identifier}").raise_for_status().json()
                )
                if prediction["status"] == "succeeded":
                    return prediction["output"]
                if prediction["status"] not in ("starting", "processing"):
                    break
                continue
            time.sleep(0.3)
        raise RuntimeError("gave up")

    outage = {"faults": {"getPrediction": [{"status": 503, "times": "always"}]}}
    case = Case(model=MODELS[0], input={"prompt": "a"}, scenario=outage)
    limits = Limits(deadline=1)
    with Harness(CONTRACT) as harness:
        judge = Hunt(harness, CallableDriver(call_fn), Plan(limits=limits, jobs=1))
        run = harness.play(case, CallableDriver(call_fn), limits)
        with judge._pool:
            for breach in judge._judge(run):
                judge._confirmation.confirm_and_shrink(breach, run)
    return judge.report


class TestBusyMachines:
    def test_starting_a_process_is_not_part_of_its_call(self) -> None:
        slow = python(CLIENT + "time.sleep(1.2)\nprint(run(sys.stdin.readline()))")
        report = hunt(ProcessDriver(slow), limits=Limits(deadline=1), budget=60)
        assert (report.findings, report.undecided, report.runs) == ([], 0, 2)

    @pytest.mark.thorough
    def test_a_correct_client_beside_eight_busy_processes_has_no_findings(self) -> None:
        busy = python("import time\nend = time.time() + 60\nwhile time.time() < end: pass")
        pending = [ProcessDriver(busy).start(Call("", "", "", {})) for _ in range(8)]
        process = [sys.executable, "-m", "tests.check.client", ""]
        worker = python(
            "import json, sys\nfrom mockserver.check.drive.protocol import Call\n"
            "from tests.check.client import FluxError, call_once\n"
            "for line in sys.stdin:\n"
            "    try: result = {'output': call_once(Call(**json.loads(line)))}\n"
            "    except (FluxError, OSError) as error: result = {'error': str(error)}\n"
            "    print(json.dumps(result), flush=True)"
        )
        try:
            for driver in (ProcessDriver(process), WorkerDriver(worker)):
                report = hunt(driver, max_runs=60, budget=22, jobs=8, seed=1)
                assert [(finding.rule, finding.message) for finding in report.findings] == []
        finally:
            for load in pending:
                load.kill()
        assert not any("--deadline" in note for note in notes_on(report))


class TestClientsThatStopThemselves:
    """A circuit breaker opens after a few failures, for a minute."""

    class Breaker:
        def __init__(self) -> None:
            self.failures = 0

        def __call__(self, call: Call) -> Any:
            if self.failures >= 3:
                raise RuntimeError("circuit open")
            try:
                return client.call_once(call)
            except Exception:
                self.failures += 1
                raise

    def test_a_factory_provides_fresh_state(self) -> None:
        report = check_client(factory=self.Breaker, max_runs=60, budget=60)
        assert (report.findings, report.untested, report.runs) == ([], 0, 60)

    def test_a_worker_is_restarted(self) -> None:
        source = CLIENT + (
            "failures = 0\n"
            "for line in sys.stdin:\n"
            "    try:\n"
            "        if failures >= 3: raise RuntimeError('circuit open')\n"
            "        print(run(line), flush=True)\n"
            "    except Exception as error:\n"
            "        failures += 1\n"
            "        print(json.dumps({'error': str(error)}), flush=True)\n"
        )
        report = hunt(WorkerDriver(python(source)), max_runs=30, budget=60)
        assert (report.untested, report.runs) == (0, 30)

    def test_otherwise_the_report_counts_the_runs_that_tested_nothing(self) -> None:
        calls = 0

        def opens_late(call: Call) -> Any:
            nonlocal calls
            calls += 1
            if calls > 12:
                raise RuntimeError("circuit open")
            return client.call_once(call)

        report = check_client(opens_late, max_runs=14, budget=60)
        assert report.untested > 0
        assert any(
            f"In {report.untested} of {report.runs} runs" in note for note in notes_on(report)
        )

    def test_a_call_fn_or_a_factory_is_required(self) -> None:
        with pytest.raises(Exception, match="either a call_fn or a factory"):
            check_client()


class TestInputAndOutput:
    CALL = Call("http://127.0.0.1:1/replicate", "kit-token", "m/n", {"prompt": "é\u2028\n"})

    def test_a_call_is_one_line_of_ascii(self) -> None:
        line = self.CALL.as_line()
        assert line.isascii()
        assert len(line.decode().splitlines()) == 1
        assert json.loads(line)["input"] == self.CALL.input

    def test_a_worker_that_prints_endlessly_is_held_to_the_deadline(self) -> None:
        driver = WorkerDriver(python("import sys\nwhile True: sys.stdout.write('x' * 20 + '\\n')"))
        began = time.monotonic()
        pending = driver.start(self.CALL)
        outcome = pending.wait(0.5) or pending.kill()
        driver.close()
        assert outcome.kind == "hung"
        assert time.monotonic() - began < 5

    def test_a_very_long_line_takes_little_memory(self) -> None:
        source = "import sys\nfor _ in range(600): sys.stdout.write('x' * 10**5)\nprint()\n"
        source += 'print(\'{"output": "u"}\', flush=True)\nsys.stdin.read()'
        driver = WorkerDriver(python(source))
        pending = driver.start(self.CALL)
        outcome = pending.wait(30)
        driver.close()
        assert outcome is not None
        assert (outcome.kind, outcome.value) == ("returned", "u")
        assert len(outcome.printed) < 10**6

    @pytest.mark.parametrize("returns", ["path", "data"])
    def test_a_picture_in_a_file_or_a_data_uri_is_a_picture(
        self, returns: str, tmp_path: Path
    ) -> None:
        source = CLIENT + (
            "import base64\n"
            "url = json.loads(run(sys.stdin.readline()))['output']\n"
            "picture = urllib.request.urlopen(url).read()\n"
            f"open({str(tmp_path / 'out.jpg')!r}, 'wb').write(picture)\n"
            "data = 'data:image/jpeg;base64,' + base64.b64encode(picture).decode()\n"
            f"path = {str(tmp_path / 'out.jpg')!r}\n"
            f"print(json.dumps({{'output': data if {returns!r} == 'data' else path}}))"
        )
        report = hunt(ProcessDriver(python(source)), max_runs=2, budget=60)
        assert (report.findings, report.runs) == ([], 2)

    def test_only_the_selected_inputs_are_played(self) -> None:
        played_inputs: set[str] = set()

        def call_fn(call: Call) -> Any:
            played_inputs.update(call.input)
            return client.call_once(call)

        report = check_client(call_fn, inputs=["aspect_ratio"], max_runs=80, budget=60)
        assert played_inputs == {"prompt", "aspect_ratio"}
        assert report.findings == []
        with pytest.raises(Exception, match="no model has an input nope; there are: aspect_ratio"):
            check_client(call_fn, inputs=["nope"])


class TestPollsAfterTheCall:
    """A client that is kept running may go on polling when its call has returned."""

    @staticmethod
    def leaving_a_poller(call: Call, polls: int) -> Any:
        output = client.call_once(call)
        latest = send(call, "GET", "/predictions").json()["results"][0]["id"]

        def poll() -> None:
            for _ in range(polls):
                time.sleep(0.03)
                with suppress(httpx.HTTPError):  # the double has gone
                    send(call, "GET", f"/predictions/{latest}")

        threading.Thread(target=poll, daemon=True).start()
        return output

    def test_they_are_found_and_replayed(self) -> None:
        call_fn = partial(self.leaving_a_poller, polls=40)
        report = check_client(call_fn, max_runs=3, budget=60)
        assert {finding.rule for finding in report.findings} == {"MC303"}
        assert_each_is_shown(report, CallableDriver(call_fn), 0)

    def test_one_more_read_to_confirm_is_fine(self) -> None:
        assert check_client(partial(self.leaving_a_poller, polls=1), max_runs=3).findings == []


def test_after_a_hang_a_call_that_sends_nothing_is_made_once() -> None:
    calls: list[Call] = []
    release = threading.Event()

    def call_fn(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            create(call)
            release.wait(20)
        raise RuntimeError("sends nothing")

    driver = CallableDriver(call_fn)
    with Harness(CONTRACT) as harness:
        hung = harness.play(PLAIN, driver, LIMITS, timeout=0.5)
        harness.play(PLAIN, driver, LIMITS)
    release.set()
    assert (hung.outcome.kind, len(calls)) == ("hung", 2)
