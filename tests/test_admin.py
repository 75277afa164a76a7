"""The steering plane: what it offers, what it says to a wrong request, and whom it keeps out."""

import socket
from typing import Any

import httpx
import pytest

from mockserver import MockServer, Tenant
from tests.documents import KONTEXT, ULTRA

GET = "/replicate/v1/predictions/{}"


def create(client: httpx.Client, path: str = KONTEXT, **given: Any) -> dict[str, Any]:
    return client.post(path, json={"input": {"prompt": "p", **given}}).json()  # type: ignore[no-any-return]


class TestClock:
    def test_a_frozen_clock_moves_only_when_told_and_lists_what_happened(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2030-05-05T05:05:05.123Z")
        first, second = create(client), create(client, ULTRA)
        assert first["created_at"] == "2030-05-05T05:05:05.123Z"
        assert client.get(GET.format(first["id"])).json()["status"] == "starting"
        assert tenant.advance(0.3) == []
        assert tenant.advance(1) == [
            {"at": "2030-05-05T05:05:05.523Z", "prediction": first["id"], "status": "processing"},
            {"at": "2030-05-05T05:05:05.523Z", "prediction": second["id"], "status": "processing"},
        ]
        assert client.get(GET.format(first["id"])).json()["status"] == "processing"
        client.post(GET.format(second["id"]) + "/cancel")
        assert [(each["prediction"], each["status"]) for each in tenant.advance(100)] == [(first["id"], "succeeded")]
        done = client.get(GET.format(first["id"])).json()
        assert done["started_at"] == "2030-05-05T05:05:05.523Z"
        assert done["completed_at"] == "2030-05-05T05:05:09.023Z"

    def test_one_long_step_tells_of_everything_on_the_way_in_order(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.freeze()
        for scenario in ("slow", "succeeded", "aborted"):
            tenant.use(scenario)
            create(client)
        happened = tenant.advance(1000)
        assert [each["at"] for each in happened] == sorted(each["at"] for each in happened)
        assert [each["status"] for each in happened] == [
            *["processing", "aborted", "succeeded"],
            *["processing", "succeeded"],
        ]

    def test_time_resumes_from_where_it_was(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.freeze("2030-01-01T00:00:00Z")
        first = create(client)
        tenant.advance(1)
        assert tenant.set_clock("autojump")["now"].startswith("2030-01-01T00:00:01")
        assert client.get(GET.format(first["id"])).json()["status"] == "succeeded"

    def test_a_waiting_client_is_answered_when_time_comes(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.freeze()
        with socket.create_connection(("127.0.0.1", int(tenant.url.rpartition(":")[2])), timeout=20) as waiting:
            body = b'{"input":{"prompt":"p"}}'
            head = [f"POST {KONTEXT} HTTP/1.1", "Host: x", f"Authorization: Bearer {tenant.token}", "Prefer: wait=10"]
            head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", "", ""]
            waiting.sendall("\r\n".join(head).encode() + body)
            while not tenant.predictions():
                pass
            tenant.advance(2)
            assert [each["status"] for each in tenant.predictions()] == ["processing"]
            tenant.advance(1.9)
            data = b""
            while chunk := waiting.recv(65536):
                data += chunk
        assert b'"status":"succeeded"' in data
        assert b"preference-applied: wait=10" in data

    def test_data_expire_after_an_hour_of_the_tenants_time(self, client: httpx.Client, tenant: Tenant) -> None:
        first = create(client)
        for _ in range(2):
            first = client.get(GET.format(first["id"])).json()
        tenant.advance(3590)
        assert client.get(first["output"]).status_code == 200
        tenant.advance(20)
        assert client.get(first["output"]).status_code == 404
        last = client.get(GET.format(first["id"])).json()
        assert (last["data_removed"], last["output"], last["input"]) == (True, None, {})

    @pytest.mark.parametrize(
        ("path", "body", "said"),
        [
            ("/clock", {"mode": "fast"}, "/mode"),
            ("/clock", {"mode": "frozen", "now": "yesterday"}, "/now: 'yesterday' is not an RFC 3339 timestamp"),
            ("/clock", {"mode": "real", "speed": 0}, "/speed"),
            ("/clock", {}, "mode"),
            ("/clock", [], "object"),
            ("/clock/advance", {"seconds": -1}, "/seconds"),
            ("/clock/advance", {"seconds": "1"}, "/seconds"),
            ("/clock/advance", {"second": 1}, "second"),
        ],
    )
    def test_a_wrong_wish_is_told_where_it_is_wrong(
        self, client: httpx.Client, path: str, body: object, said: str
    ) -> None:
        answer = client.request("POST" if "advance" in path else "PUT", "/__admin" + path, json=body)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


class TestJournal:
    def test_an_exchange_is_there_as_soon_as_its_answer_is(self, client: httpx.Client, tenant: Tenant) -> None:
        for number in range(1, 30):
            create(client)
            assert tenant.requests()[-1]["number"] == number

    def test_it_says_what_was_sent_answered_and_wrong(self, client: httpx.Client, tenant: Tenant) -> None:
        told = client.post(KONTEXT + "?a=1", json={"input": {"prompt": 1}}).json()
        (exchange,) = tenant.requests()
        assert exchange["operation"] == "createFluxKontextMaxPrediction"
        assert exchange["request"]["method"] == "POST"
        assert exchange["request"]["query"] == {"a": "1"}
        assert exchange["request"]["body"] == {"input": {"prompt": 1}}
        assert (exchange["response"]["status"], exchange["response"]["body"]) == (422, told)
        wrong = {fault["pointer"]: fault for fault in exchange["violations"]}
        assert wrong.keys() == {"/input/prompt", "?a"}
        assert (wrong["/input/prompt"]["sent"], wrong["/input/prompt"]["allowed"]) == ("1", "type string")

    def test_it_can_be_read_in_part(self, client: httpx.Client, tenant: Tenant) -> None:
        create(client)
        client.get("/nowhere")
        create(client, unknown=1)
        assert [each["number"] for each in tenant.requests(since=1)] == [2, 3]
        assert [each["number"] for each in tenant.requests(limit=2)] == [1, 2]
        assert [each["number"] for each in tenant.requests(unmatched=True)] == [2]
        assert [each["number"] for each in tenant.requests(violations=True)] == [3]
        assert client.get("/__admin/requests?limit=1").json()["more"] is True
        for wrong in ("since=x", "limit=-1", "unmatched=maybe"):
            assert client.get(f"/__admin/requests?{wrong}").status_code == 422

    def test_it_shows_secrets_only_in_part(self, server: MockServer) -> None:
        token = "r8_0123456789abcdefghijklmnop"
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}) as client:
            client.post(KONTEXT, json={"input": {"prompt": f"my token is {token}"}})
            client.get(f"/replicate/v1/{token}", headers={"Cookie": "session=0123456789"})
            shown = client.get("/__admin/requests").text + client.get("/__admin/verdict").text
        assert token not in shown
        assert "Bearer r8_012…" in shown
        assert "session=0123456789" not in shown

    def test_steering_is_not_in_it(self, client: httpx.Client, tenant: Tenant) -> None:
        for path in ("/health", "/requests", "/nowhere"):
            client.get("/__admin" + path)
        assert tenant.requests() == []

    def test_it_can_be_forgotten(self, client: httpx.Client, tenant: Tenant) -> None:
        client.get("/nowhere")
        assert not tenant.verdict()["ok"]
        client.delete("/__admin/requests")
        assert tenant.requests() == []
        assert tenant.verdict()["ok"]

    def test_it_is_bounded_and_still_fails_for_what_is_gone(self, client: httpx.Client, tenant: Tenant) -> None:
        client.get("/nowhere")
        for _ in range(1000):
            client.get("/replicate/v1/predictions")
        told = client.get("/__admin/requests?limit=2000").json()
        assert (len(told["requests"]), told["recorded"], told["evicted"]) == (1000, 1001, 1)
        assert tenant.verdict()["unmatched"] == []
        assert not tenant.verdict()["ok"]


class TestOtherRoutes:
    def test_health_and_version_say_what_runs(self, client: httpx.Client) -> None:
        assert client.get("/__admin/health").json()["status"] == "ok"
        version = client.get("/__admin/version").json()
        assert version["models"] == ["black-forest-labs/flux-1.1-pro-ultra", "black-forest-labs/flux-kontext-max"]

    def test_the_scenarios_and_their_schema_are_there(self, client: httpx.Client) -> None:
        names = [each["name"] for each in client.get("/__admin/scenarios").json()["scenarios"]]
        assert "nsfw" in names
        assert client.get("/__admin/scenarios/schema").json()["title"] == "Scenario"

    def test_coverage_tells_what_was_met_and_what_never(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.use("flaky")
        create(client)
        first = create(client)
        client.get(GET.format(first["id"]))
        coverage = tenant.coverage()
        assert coverage["operations"]["met"] == {"createFluxKontextMaxPrediction": 2, "getPrediction": 1}
        assert "cancelPrediction" in coverage["operations"]["never"]
        assert coverage["inputs"]["met"] == {
            "createFluxKontextMaxPrediction/prompt": 1
        }  # the throttled one was not read
        assert coverage["statuses"]["met"] == {"starting": 1, "processing": 1}
        assert coverage["transitions"]["met"] == {"starting → processing": 1}
        assert coverage["errors"]["met"] == {"429": 1}
        assert coverage["faults"]["met"] == {"status": 1}
        assert "disconnect" in coverage["faults"]["never"]

    def test_predictions_are_shown_without_moving_them(self, client: httpx.Client, tenant: Tenant) -> None:
        first = create(client)
        assert [each["status"] for each in tenant.predictions() + tenant.predictions()] == ["starting"] * 2
        assert client.get(GET.format(first["id"])).json()["status"] == "processing"

    @pytest.mark.parametrize(
        ("method", "path", "status", "said"),
        [
            ("GET", "/nowhere", 404, "There is no /__admin/nowhere"),
            ("POST", "/scenario", 405, "takes GET and PUT and DELETE"),
            ("GET", "/reset", 405, "takes POST"),
        ],
    )
    def test_a_wrong_request_is_told_what_is_right(
        self, client: httpx.Client, method: str, path: str, status: int, said: str
    ) -> None:
        answer = client.request(method, "/__admin" + path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert said in answer.json()["detail"]

    @pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b" " * 2_000_000, 413)])
    def test_a_body_that_cannot_be_read_is_refused(self, client: httpx.Client, body: bytes, status: int) -> None:
        assert client.put("/__admin/scenario", content=body).status_code == status


class TestWhoIsKeptOut:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "localhost.evil.example:3589"},
            {"Host": ""},
            {"Host": "[::"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_web_pages_and_foreign_names(self, client: httpx.Client, tenant: Tenant, headers: dict[str, str]) -> None:
        create(client)
        for method, path in [("POST", "/reset"), ("GET", "/requests"), ("GET", "/nowhere"), ("DELETE", "/requests")]:
            answer = client.request(method, "/__admin" + path, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
        assert len(tenant.requests()) == 1

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:3589", "192.168.0.7:80"])
    def test_but_not_the_machines_own_names(self, client: httpx.Client, host: str) -> None:
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert client.get("/__admin/health", headers=headers).status_code == 200

    def test_a_token_of_another_scheme(self, client: httpx.Client) -> None:
        assert client.get("/__admin/requests", headers={"Authorization": "Basic abc"}).status_code == 401
