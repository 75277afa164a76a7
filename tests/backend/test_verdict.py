"""Verdicts: what they tell of; and with coverage, those of several servers added up."""

from typing import Any

import msgspec
import pytest

from mockserver import MockServer, Tenant
from mockserver.backend.coverage import add_up as add_up_coverage
from mockserver.backend.deliveries import Deliveries
from mockserver.backend.journal import Departure, Journal
from mockserver.backend.verdict import add_up, failures, verdict_of
from mockserver.scenarios.scenario import Scenario
from tests.helpers.cluster import Client
from tests.helpers.documents import KONTEXT, ULTRA
from tests.helpers.exchanges import GET, exchange


def test_the_parts_of_several_servers_make_the_whole_of_one() -> None:
    """Two tenants on two servers are judged as the same two on one."""

    def judge(*servers: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        verdicts, reports = [], []
        for tokens in servers:
            with MockServer() as server:
                for token in tokens:
                    work(server.url, token)
                everybody = Tenant(server.url, "")
                verdicts.append(everybody.call("GET", "/verdict?all=true"))
                reports.append(everybody.call("GET", "/coverage?all=true"))
        return add_up(verdicts), add_up_coverage(reports)

    apart, together = judge(("good-one",), ("bad-one",)), judge(("good-one", "bad-one"))
    assert apart == together
    verdict, coverage = apart
    assert (verdict["ok"], verdict["exchanges"], len(verdict["tenants"])) == (False, 3, 2)
    assert len(failures(verdict, ["unmatched", "violations"])) == 2
    assert len(coverage["operations"]["met"]) == 2
    assert not set(coverage["operations"]["met"]) & set(coverage["operations"]["never"])


@pytest.mark.parametrize("before", [True, False])
def test_an_error_is_told_however_much_advice_there_is(before: bool) -> None:
    advice = Departure("MC702", "warning", "getPrediction", "/x", "is not known", "#/x")
    error = msgspec.structs.replace(advice, severity="error", message="is wrong")
    departures = [*([error] if before else []), *([advice] * 1500), *([] if before else [error])]
    journal = Journal(max_items=3000)
    for number, departure in enumerate(departures):
        journal.record(exchange("GET", GET, number=number, departures=[departure]))
    verdict = verdict_of(journal, Deliveries(), Scenario(), {})
    assert (verdict["ok"], len(verdict["departures"]), len(failures(verdict, ["departures"]))) == (
        False,
        1000,
        1,
    )


def test_an_error_that_is_no_longer_there_is_told_though_advice_is() -> None:
    verdict = {"departures": [{"severity": "warning"}], "departing_exchanges": 2}
    assert failures(verdict, ["departures"]) == [
        "2 exchanges with departures are no longer in the journal"
    ]


def work(url: str, token: str) -> None:
    client = Client(url, token)
    if token == "good-one":
        client.json("POST", KONTEXT, {"input": {"prompt": "p"}})
    else:
        client.ask("POST", ULTRA, {"input": {}})
        client.ask("GET", "/nowhere")
    client.close()


def test_one_tenant_s_verdicts_add_up_too() -> None:
    with MockServer() as one, MockServer() as other:
        work(other.url, "bad-one")
        verdict = add_up([Tenant(server.url, "bad-one").verdict() for server in (one, other)])
    assert (verdict["ok"], verdict["exchanges"], "tenants" in verdict) == (False, 2, False)
