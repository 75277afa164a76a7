"""Clients that wait for webhooks: what they are told counts, if it is genuine."""

import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mockserver import Tenant, check_client
from mockserver.backend.journal import Exchange
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.model import Case, Outcome, Run
from mockserver.check.rules.registry import find_breaches
from mockserver.client import BASE_PATH
from mockserver.scenarios.catalogue import Catalogue
from tests.check import webhook_client
from tests.check.bench import Subject, hunt
from tests.helpers.documents import CONTRACT
from tests.helpers.exchanges import CREATE, TOKEN, URL, create, exchange, poll
from tests.helpers.share import first

CATALOGUE = Catalogue(CONTRACT)
ROOT = Path(__file__).parent.parent.parent
FORGED, STALE = {"webhooks": {"forged": True}}, {"webhooks": {"timestamp": "stale"}}
RETURNED, RAISED, HUNG = (
    Outcome("returned", URL),
    Outcome("raised", message="no webhook"),
    Outcome("hung"),
)


def webhook(
    told: str = "succeeded", at: float = 0.1, *, genuine: bool = True, status: int = 200
) -> Exchange:
    body = msgspec.json.encode({"status": told, "output": URL if told == "succeeded" else None})
    return exchange(
        "POST",
        "/hook",
        status,
        told,
        at,
        operation=None,
        committed=genuine,
        headers=[(b"webhook-id", b"m")],
        arrived_at="receiver",
        body=body,
        response_body=b"",
        response_size=0,
    )


def broken(
    *exchanges: Exchange, outcome: Outcome, scenario: dict[str, Any] | None = None, **more: Any
) -> set[str]:
    case = Case(model=str(CREATE.model), input={"prompt": "a cat"}, scenario=scenario or {})
    facts = {"outputs": frozenset({URL}), "seconds": 0.2, **more}
    run = Run(case, CATALOGUE.parse(case.scenario), CONTRACT, TOKEN, outcome, exchanges, **facts)
    return {breach.rule for breach in find_breaches(run)}


class TestJudging:
    def test_a_genuine_webhook_tells_how_it_ended(self) -> None:
        assert broken(create(), webhook("starting"), webhook(), outcome=RETURNED) == set()
        failed = {"lifecycle": [{"status": "failed"}]}
        assert broken(create(), webhook("failed"), outcome=RAISED, scenario=failed) == set()
        assert broken(create(), webhook("failed"), outcome=RETURNED, scenario=failed) == {"MC301"}
        assert broken(create(), webhook(), outcome=RAISED) == {"MC301"}

    def test_one_that_is_forged_or_stale_tells_nothing(self) -> None:
        for scenario in (FORGED, STALE):
            refused = webhook(genuine=False, status=401)
            assert broken(create(), refused, outcome=RETURNED, scenario=scenario) == {"MC301"}
            assert broken(create(), refused, outcome=RAISED, scenario=scenario) == set()
            assert (
                broken(create(), refused, webhook(at=0.2), outcome=RETURNED, scenario=scenario)
                == set()
            )

    def test_whoever_returns_a_forged_picture_has_believed_it_whatever_came_later(self) -> None:
        forged = webhook(genuine=False)
        body = forged.request.body.replace(b"/xezq/", b"/forged/")
        request = msgspec.structs.replace(forged.request, body=body, body_size=len(body))
        lie = msgspec.structs.replace(forged, request=request)
        returned = Outcome("returned", URL.replace("/xezq/", "/forged/"))
        for more in ((), (webhook(at=0.2),), (webhook("failed", at=0.2),)):
            assert broken(create(), lie, *more, outcome=returned, scenario=FORGED) - {"MC602"} == {
                "MC301"
            }

    def test_a_receiver_that_takes_what_it_does_not_believe_is_advised(self) -> None:
        for scenario, rule in ((FORGED, "MC602"), (STALE, "MC604")):
            assert broken(create(), webhook(genuine=False), outcome=RAISED, scenario=scenario) == {
                rule
            }

    def test_whoever_was_told_the_end_ends_and_polls_no_more(self) -> None:
        assert broken(create(), webhook(), outcome=HUNG) == {"MC304"}
        assert broken(create(), webhook(), poll("succeeded", 0.2), outcome=RETURNED) == set()
        assert broken(create(), webhook(), *[poll("succeeded", 0.2)] * 2, outcome=RETURNED) == {
            "MC303"
        }

    def test_a_lost_one_must_not_hang_a_client_that_declares_a_timeout(self) -> None:
        lost = {"webhooks": {"lost": True}}
        assert broken(create(), outcome=HUNG, scenario=lost) == set()
        assert "MC304" in broken(create(), outcome=HUNG, scenario=lost, client_timeout=1.0)

    def test_the_gateway_may_send_one_again(self) -> None:
        again = webhook(genuine=False, status=401)
        assert broken(create(), again, again, again, outcome=RAISED, scenario=STALE) == set()


@pytest.mark.slow
class TestHunting:
    @pytest.mark.parametrize("variant", first(1, ["polls when no webhook comes", "waits"]))
    def test_a_right_client_breaks_no_rule(self, variant: str) -> None:
        call = partial(webhook_client.call_once, variant=variant)
        report = check_client(
            call, client_timeout=webhook_client.PATIENCE, jobs=4, max_runs=100, budget=200
        )
        assert (report.findings, report.warnings, report.flaky) == ([], [], [])

    @pytest.mark.parametrize(
        "bug", ["takes a forged webhook", "canceled by webhook returns nothing"]
    )
    def test_a_planted_bug_is_found_and_its_case_fails_again(self, bug: str) -> None:
        make = partial(CallableDriver, partial(webhook_client.call_once, bug=bug))
        result = hunt(
            Subject(bug, make, webhook_client.BUGS[bug], webhook_client.PATIENCE),
            budget=100,
            jobs=4,
        )
        assert result.finding is not None
        assert result.fails_again

    def test_what_came_is_among_the_exchanges_of_a_run(self) -> None:
        def call(call: Call) -> Any:
            picture = webhook_client.call_once(call)
            while not any(each["delivered"] for each in webhooks_of(call)):
                pass  # the client may go on before its answer to the last webhook has been read
            return picture

        def webhooks_of(call: Call) -> Any:
            return Tenant(call.base_url.removesuffix(BASE_PATH), call.token).call(
                "GET", "/webhooks"
            )["deliveries"]

        case = Case(model=str(CREATE.model), input={"prompt": "a cat"}, scenario=FORGED)
        with Harness(CONTRACT) as harness:
            run = harness.play(case, CallableDriver(call), Limits())
        came = [
            (each.prediction_status, each.committed, each.status)
            for each in run.exchanges
            if each.path == "/hook"
        ]
        assert came == [("succeeded", False, 401), ("succeeded", True, 200)]
        assert run.outcome.kind == "returned"

    @pytest.mark.thorough
    def test_a_process_is_told_where_to_receive_them(self, tmp_path: Path) -> None:
        source = """
import json, sys
from mockserver.check.drive.protocol import Call
from tests.check import webhook_client
call = json.loads(sys.stdin.readline())
given = Call(call["base_url"], call["token"], call["model"], call["input"], webhook_url=call["webhook_url"])
print(json.dumps({"output": webhook_client.call_once(given, "returns the id")}))
"""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [
            sys.executable,
            "-m",
            "mockserver",
            "check",
            "--webhook",
            str(port),
            "--max-runs",
            "2",
        ]
        command = [*words, "--model", str(CREATE.model), "--", sys.executable, "-c", source]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
        )
        assert result.returncode == 1, result.stderr
        assert re.search(r"POST / +→ 200 succeeded +webhook\n", result.stdout)
        assert f"replay --webhook http://127.0.0.1:{port}/ .mockserver/MC302" in result.stdout
