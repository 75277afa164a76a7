"""Each shipped scenario from end to end, and the five ways to choose one."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from mockserver import MockServer, SteeringError, Tenant
from mockserver.scenarios import Catalogue
from tests.documents import CONTRACT, KONTEXT, ULTRA

CATALOGUE = Catalogue(CONTRACT)
GET = "/replicate/v1/predictions/{}"
Show = Callable[[httpx.Client, Tenant], None]
SHOWN: dict[str, Show] = {}


def shows(name: str) -> Callable[[Show], Show]:
    def note(show: Show) -> Show:
        SHOWN[name] = show
        return show

    return note


def create(client: httpx.Client, prompt: str = "p", **headers: str) -> httpx.Response:
    return client.post(KONTEXT, json={"input": {"prompt": prompt}}, headers=headers)


def poll(client: httpx.Client, identifier: str, times: int) -> list[dict[str, Any]]:
    return [client.get(GET.format(identifier)).json() for _ in range(times)]


def told(client: httpx.Client, times: int = 3) -> list[dict[str, Any]]:
    first = create(client).json()
    return [first, *poll(client, first["id"], times)]


def statuses(predictions: list[dict[str, Any]]) -> list[str]:
    return [prediction["status"] for prediction in predictions]


@shows("succeeded")
def succeeded(client: httpx.Client, tenant: Tenant) -> None:
    assert statuses(told(client)) == ["starting", "processing", "succeeded", "succeeded"]


@shows("immediate")
def immediate(client: httpx.Client, tenant: Tenant) -> None:
    first = create(client).json()
    assert first["status"] == "succeeded"
    assert client.get(first["output"]).status_code == 200


@shows("slow")
def slow(client: httpx.Client, tenant: Tenant) -> None:
    predictions = told(client)
    assert statuses(predictions) == ["starting", "processing", "succeeded", "succeeded"]
    assert predictions[-1]["metrics"]["predict_time"] == 120


@shows("failed")
def failed(client: httpx.Client, tenant: Tenant) -> None:
    predictions = told(client)
    assert statuses(predictions) == ["starting", "processing", "failed", "failed"]
    assert predictions[-1]["error"] == CONTRACT.templates["failed"]["error"]
    assert predictions[-1]["output"] is None


@shows("nsfw")
def nsfw(client: httpx.Client, tenant: Tenant) -> None:
    predictions = told(client)
    assert statuses(predictions)[2:] == ["failed", "failed"]
    assert "flagged as sensitive" in predictions[-1]["error"]


@shows("canceled")
def canceled(client: httpx.Client, tenant: Tenant) -> None:
    predictions = told(client)
    assert statuses(predictions) == ["starting", "processing", "canceled", "canceled"]
    assert predictions[-1]["metrics"]["predict_time"] == 1


@shows("aborted")
def aborted(client: httpx.Client, tenant: Tenant) -> None:
    predictions = told(client)
    assert statuses(predictions) == ["starting", "aborted", "aborted", "aborted"]
    assert "started_at" not in predictions[-1]


@shows("stuck")
def stuck(client: httpx.Client, tenant: Tenant) -> None:
    assert statuses(told(client, 10))[1:] == ["processing"] * 10
    tenant.advance(86400)
    assert statuses(poll(client, tenant.predictions()[0]["id"], 1)) == ["processing"]


@shows("rate-limited")
def rate_limited(client: httpx.Client, tenant: Tenant) -> None:
    throttled = create(client)
    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "1")
    assert statuses(told(client)) == ["starting", "processing", "succeeded", "succeeded"]


@shows("flaky")
def flaky(client: httpx.Client, tenant: Tenant) -> None:
    assert create(client).status_code == 429
    identifier = create(client).json()["id"]
    seen: list[str] = []
    for _ in range(6):
        try:
            answer = client.get(GET.format(identifier))
            seen.append(answer.json()["status"] if answer.status_code == 200 else str(answer.status_code))
        except httpx.TransportError as trouble:
            seen.append(type(trouble).__name__)
    # What was lost on the wire had happened all the same: the cut answer moved nothing more.
    assert seen == ["processing", "502", "succeeded", "ReadError", "succeeded", "RemoteProtocolError"]


@shows("outage")
def outage(client: httpx.Client, tenant: Tenant) -> None:
    for answer in [create(client), client.get(GET.format("0" * 26)), client.get("/replicate/v1/predictions")] * 3:
        assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html")


@shows("unauthorized")
def unauthorized(client: httpx.Client, tenant: Tenant) -> None:
    for answer in [create(client), client.get(GET.format("0" * 26))] * 2:
        assert answer.status_code == 401
        assert answer.json()["title"] == "Unauthenticated"


@shows("out-of-credit")
def out_of_credit(client: httpx.Client, tenant: Tenant) -> None:
    for _ in range(3):
        answer = create(client)
        assert answer.status_code == 402
        assert "purchase credit" in answer.json()["detail"]
    assert client.get("/replicate/v1/predictions").status_code == 200


@shows("expired")
def expired(client: httpx.Client, tenant: Tenant) -> None:
    last = told(client)[-1]
    assert (last["status"], last["data_removed"], last["output"], last["input"]) == ("succeeded", True, None, {})
    assert "logs" not in last
    assert client.get(f"/xezq/{last['id']}/output.png").status_code == 404


@shows("silent-processing")
def silent_processing(client: httpx.Client, tenant: Tenant) -> None:
    answer = create(client, Prefer="wait=5")
    assert answer.headers["preference-applied"] == "wait=5"
    first = answer.json()
    assert (first["status"], first["output"]) == ("processing", None)
    assert statuses(poll(client, first["id"], 2))[-1] == "succeeded"


@shows("lost-answer")
def lost_answer(client: httpx.Client, tenant: Tenant) -> None:
    with pytest.raises(httpx.ReadError):
        create(client)
    assert create(client).status_code == 200
    assert len(tenant.predictions()) == 2


@shows("variety")
def variety(client: httpx.Client, tenant: Tenant) -> None:
    answer = create(client)
    assert answer.status_code == 201
    predictions = [answer.json(), *poll(client, answer.json()["id"], 2)]
    assert statuses(predictions) == ["starting", "processing", "succeeded"]
    for prediction in predictions:
        assert prediction["queue_position"] == 3
        assert prediction.keys().isdisjoint({"metrics", "started_at", "completed_at"})
    # The documents have a create send logs as a string; only a read may send null.
    assert [prediction["logs"] for prediction in predictions] == ["", None, None]


@pytest.mark.parametrize("name", [scenario.name for scenario in CATALOGUE])
def test_it_plays_as_described(client: httpx.Client, tenant: Tenant, name: str) -> None:
    tenant.use(name)
    SHOWN[name](client, tenant)
    for exchange in tenant.requests():
        response = exchange["response"]
        if not exchange["fault"] and "json" in response["content_type"]:
            operation = CONTRACT.by_id[exchange["operation"]]
            wrong = operation.check_answer(response["status"], response["content_type"], response["body"])
            assert wrong is None
    assert tenant.verdict()["violations"] == []


class TestChoosing:
    """Strongest first: header, prompt, ending of the token, the tenant's, the server's."""

    def test_by_the_tenants_setting(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.use("aborted")
        assert statuses(told(client))[-1] == "aborted"
        tenant.use(None)
        assert statuses(told(client))[-1] == "succeeded"

    def test_by_the_server_and_the_tenant_over_it(self) -> None:
        with MockServer(scenario="failed") as server, httpx.Client(base_url=server.url) as client:
            assert statuses(told(client))[-1] == "failed"
            server.tenant("").use("aborted")
            assert statuses(told(client))[-1] == "aborted"

    def test_by_the_ending_of_the_token_over_the_tenant(self, server: MockServer, client: httpx.Client) -> None:
        tenant = server.tenant("ci-7+nsfw")
        tenant.use("aborted")
        client.headers["Authorization"] = "Bearer ci-7+nsfw"
        assert statuses(told(client))[-1] == "failed"
        client.headers["Authorization"] = "Bearer ci-7"
        assert statuses(told(client))[-1] == "succeeded"
        assert len(tenant.predictions()) == 1

    def test_an_ending_that_names_none_is_part_of_the_token(self, client: httpx.Client) -> None:
        client.headers["Authorization"] = "Bearer ci-7+nothing"
        assert statuses(told(client))[-1] == "succeeded"

    def test_by_the_prompt_over_the_token(self, client: httpx.Client) -> None:
        client.headers["Authorization"] = "Bearer ci-8+nsfw"
        first = create(client, "a tower [mock:aborted] by the sea").json()
        assert statuses(poll(client, first["id"], 1)) == ["aborted"]

    def test_by_the_header_over_the_prompt(self, client: httpx.Client) -> None:
        first = create(client, "[mock:aborted]", **{"X-Mock-Scenario": "failed"}).json()
        assert statuses(poll(client, first["id"], 2))[-1] == "failed"

    def test_a_prediction_keeps_the_scenario_that_its_request_chose(self, client: httpx.Client, tenant: Tenant) -> None:
        first = create(client, "[mock:variety]")
        assert first.status_code == 201
        tenant.use("succeeded")
        assert poll(client, first.json()["id"], 1)[0]["queue_position"] == 3
        assert "queue_position" not in told(client)[-1]

    def test_a_call_that_chooses_meets_the_faults_of_a_create_each_time_anew(self, client: httpx.Client) -> None:
        met = [create(client, "[mock:rate-limited]").status_code for _ in range(4)]
        assert met == [429, 200, 429, 200]

    def test_each_prediction_meets_the_faults_of_its_own_reads(self, client: httpx.Client, tenant: Tenant) -> None:
        create(client, "[mock:flaky]")
        for _ in range(2):
            identifier = create(client, "[mock:flaky]").json().get("id") or create(client, "[mock:flaky]").json()["id"]
            assert [client.get(GET.format(identifier)).status_code for _ in range(3)] == [200, 502, 200]

    @pytest.mark.parametrize(
        ("prompt", "headers"), [("[mock:nfsw]", {}), ("p", {"X-Mock-Scenario": "nfsw"}), ("[mock:]", {})]
    )
    def test_a_wrong_name_is_told_with_the_right_ones(
        self, client: httpx.Client, prompt: str, headers: dict[str, str]
    ) -> None:
        answer = create(client, prompt, **headers)
        assert answer.status_code == 400
        for scenario in CATALOGUE:
            assert scenario.name in answer.json()["detail"]
        assert client.get("/replicate/v1/predictions").json()["results"] == []

    def test_a_wrong_scenario_is_refused_with_place_and_reason_and_changes_nothing(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use("aborted")
        for wrong, said in [
            ("nfsw", "did you mean nsfw"),
            ({"lifecycle": [{"status": "done"}]}, "/lifecycle/0/status"),
            ({"faults": {"getFoo": [{"status": 500}]}}, "/faults/getFoo: no such operation"),
            ({"faults": {"getPrediction": [{"status": 418}]}}, "/faults/getPrediction/0/status"),
            ({"unknown": 1}, "unknown"),
        ]:
            with pytest.raises(SteeringError, match=said):
                tenant.use(wrong)  # type: ignore[arg-type]
        assert tenant.scenario()["name"] == "aborted"

    def test_the_other_model_is_as_good(self, client: httpx.Client) -> None:
        answer = client.post(ULTRA, json={"input": {"prompt": "[mock:immediate]"}})
        assert answer.json()["status"] == "succeeded"
