"""Cases that are played side by side: what is found does not depend on how many, and nothing is mixed up."""

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


def found(report: Report) -> list[Finding]:
    """What was found, without what differs between two runs of the same case: times and ports."""
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


def several(call: Call) -> Any:
    """A client with several bugs."""
    return (
        client.Client(call, "canceled returns nothing").run()
        and client.Client(call, "splits logs").run()
    )


@pytest.mark.parametrize(
    ("call", "max_runs"),
    [
        pytest.param(several, 60, id="several bugs", marks=pytest.mark.thorough),
        pytest.param(partial(client.call_once, bug="creates again on any 5xx"), 40, id="one bug"),
    ],
)
def test_the_same_is_found_however_many_are_played_at_once(call: Any, max_runs: int) -> None:
    one, many = (
        check_client(call, max_runs=max_runs, seed=3, budget=300, jobs=jobs) for jobs in (1, 8)
    )
    assert found(one) == found(many)
    assert (one.runs, one.flaky, one.undecided) == (many.runs, many.flaky, many.undecided)
    assert one.findings


def test_so_many_are_played_at_once() -> None:
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
def test_a_coroutine_that_does_not_end_is_canceled() -> None:
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


def test_what_a_loop_would_end_at_does_not_end_it() -> None:
    async def call(call: Call) -> Any:
        await async_client.call_once(call)
        raise SystemExit("done")

    report = check_client(call, max_runs=2)
    assert [finding.rule for finding in report.findings] == ["MC301"]
    assert "SystemExit: done" in report.findings[0].message


def test_a_request_without_the_token_is_blamed_on_the_call_that_sent_it() -> None:
    def call(call: Call) -> Any:
        return client.call_once(
            call, "no token on polls" if call.input["prompt"].startswith("Zw") else ""
        )

    (finding,) = check_client(call, max_runs=40, jobs=8).findings
    assert (finding.rule, finding.call["input"]["prompt"][:2]) == ("MC103", "Zw")


def test_a_deadline_that_is_missed_while_others_run_is_tried_again_alone() -> None:
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


def test_players_end_their_plays_when_they_are_told_to() -> None:
    started = threading.Event()
    with (
        Harness(CONTRACT) as harness,
        PlayerPool(harness, CallableDriver(client.call_once), 2) as players,
    ):

        def play(harness: Harness, driver: object) -> None:
            started.set()
            while True:
                players.check()
                time.sleep(0.001)

        endless = players.start(play)
        started.wait()
        players.end_plays()
        with pytest.raises(PlayStopped):
            endless.result()
        assert (
            players.start(lambda harness, driver: harness.base_url).result().startswith("http://")
        )
