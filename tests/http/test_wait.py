"""`Prefer: wait`, `Prefer: respond-async`, and cancels that race with everything else."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from mockserver import MockServer, Tenant
from tests.helpers.documents import KONTEXT, ULTRA


def create(client: httpx.Client, prefer: str | None, path: str = KONTEXT) -> httpx.Response:
    headers = {"Prefer": prefer} if prefer else {}
    response = client.post(path, json={"input": {"prompt": "p"}}, headers=headers)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("prefer", ["wait", "wait=4", "wait=60"])
@pytest.mark.parametrize("path", [ULTRA, KONTEXT])
def test_a_wait_within_which_it_succeeds_is_answered_as_recorded(
    client: httpx.Client, prefer: str, path: str
) -> None:
    response = create(client, prefer, path)
    assert response.headers["preference-applied"] == prefer
    received = response.json()
    assert (received["status"], received["logs"], received["error"]) == ("processing", "", None)
    assert received.keys().isdisjoint({"started_at", "completed_at", "metrics"})
    assert client.get(received["output"]).status_code == 200
    read = client.get(received["urls"]["get"]).json()
    assert (read["status"], read["output"]) == ("succeeded", received["output"])


@pytest.mark.parametrize("path", [ULTRA, KONTEXT])
def test_a_scenario_may_ask_for_the_final_status(
    client: httpx.Client, tenant: Tenant, path: str
) -> None:
    tenant.use({"wait": "final"})
    received = create(client, "wait", path).json()
    assert received["status"] == "succeeded"
    assert client.get(received["urls"]["get"]).json() == received


def test_a_wait_that_runs_out_says_starting_whatever_it_has_become(
    client: httpx.Client, tenant: Tenant
) -> None:
    response = create(client, "wait=1")
    assert response.headers["preference-applied"] == "wait=1"
    assert response.json()["status"] == "starting"
    (prediction,) = tenant.predictions()
    assert prediction["status"] == "processing"  # its own time has gone on by the second waited


def test_a_minute_is_the_most_and_what_wait_alone_stands_for(
    client: httpx.Client, tenant: Tenant
) -> None:
    for prefer in ("wait", "wait=99"):
        for seconds, made in [(59, True), (61, False)]:
            tenant.use(
                {"lifecycle": [{"status": "starting", "seconds": seconds}, {"status": "succeeded"}]}
            )
            received = create(client, prefer)
            assert received.headers["preference-applied"] == prefer
            assert (received.json()["status"], bool(received.json()["output"])) == (
                "processing" if made else "starting",
                made,
            )


@pytest.mark.parametrize("prefer", [None, "respond-async"])
def test_without_a_wait_it_is_answered_at_once(client: httpx.Client, prefer: str | None) -> None:
    response = create(client, prefer)
    assert response.json()["status"] == "starting"
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize("scenario", ["failed", "canceled", "aborted", "immediate"])
def test_every_end_ends_a_wait(client: httpx.Client, tenant: Tenant, scenario: str) -> None:
    tenant.use(scenario)
    expected = "succeeded" if scenario == "immediate" else scenario
    assert create(client, "wait").json()["status"] == expected


def test_a_scenario_may_say_processing_where_the_time_is_up(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.use({"wait": "processing"})
    received = create(client, "wait").json()
    assert (received["status"], received["output"] is None, "completed_at" in received) == (
        "processing",
        False,
        False,
    )
    received = create(client, "wait=1").json()
    assert (received["status"], received["output"]) == ("processing", None)


def test_in_real_time_a_wait_lasts_as_long_as_the_prediction() -> None:
    with MockServer(clock="real", speed=20) as server, httpx.Client(base_url=server.url) as client:
        response = create(client, "wait")
        assert response.json()["output"]
        assert response.elapsed.total_seconds() >= 3.9 / 20


def test_a_client_that_hangs_up_leaves_its_prediction_behind(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze()
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            KONTEXT, json={"input": {"prompt": "p"}}, headers={"Prefer": "wait"}, timeout=0.2
        )
    while not tenant.requests():
        pass  # the double notices
    (exchange,) = tenant.requests()
    assert (exchange["response"]["status"], exchange["committed"]) == (0, True)
    assert [item["status"] for item in tenant.advance(10)] == ["processing", "succeeded"]


def test_a_cancel_ends_a_wait(client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(create, client, "wait")
        while not (known := tenant.predictions()):
            pass
        httpx.post(known[0]["urls"]["cancel"], headers={"Authorization": f"Bearer {tenant.token}"})
        assert waiting.result().json()["status"] == "canceled"


def test_cancels_and_reads_that_race_agree_on_one_end(server: MockServer) -> None:
    def race(number: int) -> list[str]:
        tenant = server.tenant(f"race-{number}")
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {tenant.token}"}
        ) as client:
            received = create(client, None).json()

            def ask(turn: int) -> dict[str, Any]:
                urls = received["urls"]
                response = (
                    client.post(urls["cancel"])
                    if turn % 3 == number % 3
                    else client.get(urls["get"])
                )
                return response.json()  # type: ignore[no-any-return]

            with ThreadPoolExecutor(6) as pool:
                seen = list(pool.map(ask, range(12)))
            last = client.get(received["urls"]["get"]).json()
            ends = [item for item in seen if item["status"] in ("succeeded", "canceled")]
            assert ends
            assert all(item["status"] == last["status"] for item in ends)
            assert all(item["completed_at"] == last["completed_at"] for item in ends)
            return [item["status"] for item in seen]

    for number in range(12):
        race(number)
