"""Parallel plays: findings do not depend on their number, and requests are not mixed up."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest

from mockserver import check_client
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.pool import PlayerPool, PlayStopped, default_jobs
from mockserver.check.report.findings import Finding, Report
from tests.check import async_client, client
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow


def comparable_findings(report: Report) -> list[Finding]:
    """The findings without what differs between two runs of a case: times and ports."""
    return [
        Finding(
            rule=finding.rule,
            title=finding.title,
            severity=finding.severity,
            message=finding.message,
            cause=finding.cause,
            rests_on=finding.rests_on,
            call=finding.call,
            scenario=finding.scenario,
        )
        for finding in (*report.findings, *report.warnings)
    ]


def client_with_several_bugs(call: Call) -> Any:
    """A client with two bugs."""
    return (
        client.Client(call, "canceled returns nothing").run()
        and client.Client(call, "splits logs").run()
    )


@pytest.mark.parametrize(
    ("call", "max_runs"),
    [
        pytest.param(client_with_several_bugs, 60, id="many bugs", marks=pytest.mark.thorough),
        pytest.param(partial(client.call_once, bug="creates again on any 5xx"), 40, id="one bug"),
    ],
)
def test_findings_do_not_depend_on_the_number_of_jobs(call: Any, max_runs: int) -> None:
    one, many = (
        check_client(call, max_runs=max_runs, seed=3, budget=300, jobs=jobs) for jobs in (1, 8)
    )
    assert comparable_findings(one) == comparable_findings(many)
    assert (one.runs, one.flaky, one.undecided) == (many.runs, many.flaky, many.undecided)
    assert one.findings


def test_as_many_cases_as_jobs_are_played_in_parallel() -> None:
    together = threading.Barrier(4, timeout=20)
    before = len(CONTRACT.models)  # calls before the hunt, to see whether the client runs at all

    def call(call: Call) -> Any:
        nonlocal before
        if before:
            before -= 1
        else:
            together.wait()
        return client.call_once(call)

    assert check_client(call, max_runs=8, jobs=4).runs == 8


def test_calls_of_a_coroutine_function_share_one_loop() -> None:
    threads, at_once, most = set(), 0, 0

    async def call(call: Call) -> Any:
        nonlocal at_once, most
        threads.add(threading.get_ident())
        at_once += 1
        most = max(most, at_once)
        try:
            return await async_client.call_once(call)
        finally:
            at_once -= 1

    report = check_client(call, max_runs=30, budget=300)
    assert (report.ok, report.runs, len(threads)) == (True, 30, 1)
    assert 1 < most <= default_jobs()


@pytest.mark.thorough
def test_a_coroutine_that_hangs_is_canceled() -> None:
    ended = []

    async def call(call: Call) -> Any:
        try:
            return await async_client.call_once(call)
        except RuntimeError:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(True)

    report = check_client(call, max_runs=30, deadline=0.7, budget=20)
    assert {finding.rule for finding in report.findings} == {"MC304"}
    assert ended


def test_system_exit_does_not_stop_the_event_loop() -> None:
    async def call(call: Call) -> Any:
        await async_client.call_once(call)
        raise SystemExit("done")

    report = check_client(call, max_runs=2)
    assert [finding.rule for finding in report.findings] == ["MC301"]
    assert "SystemExit: done" in report.findings[0].message


def test_a_request_without_a_token_is_attributed_to_its_call() -> None:
    def call(call: Call) -> Any:
        return client.call_once(
            call, "no token on polls" if call.input["prompt"].startswith("Zw") else ""
        )

    (finding,) = check_client(call, max_runs=40, jobs=8).findings
    assert (finding.rule, finding.call["input"]["prompt"][:2]) == ("MC103", "Zw")


def test_a_deadline_missed_beside_other_plays_is_checked_again_alone() -> None:
    active = 0

    async def call(call: Call) -> Any:
        nonlocal active
        active += 1
        machine_overloaded = active > 1
        try:
            return await asyncio.to_thread(client.call_once, call)
        except client.FluxError:
            if machine_overloaded:
                await asyncio.sleep(60)
            raise
        finally:
            active -= 1

    report = check_client(call, max_runs=40, deadline=1.5, jobs=8)
    assert (report.findings, report.warnings, report.flaky) == ([], [], [])


def test_end_plays_stops_all_plays() -> None:
    started = threading.Event()
    with (
        Harness(CONTRACT) as harness,
        PlayerPool(harness, CallableDriver(client.call_once), 2) as pool,
    ):

        def play(harness: Harness, driver: object) -> None:
            started.set()
            while True:
                pool.check()
                time.sleep(0.001)

        endless = pool.start(play)
        started.wait()
        pool.end_plays()
        with pytest.raises(PlayStopped):
            endless.result()
        assert pool.start(lambda harness, driver: harness.base_url).result().startswith("http://")
