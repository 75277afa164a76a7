"""The admin API, over a socket: each route, what it says to a wrong request, whom it keeps out, what it records."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from mockserver import AdminError, MockServer, Tenant
from mockserver.admin.api import Admin
from mockserver.backend.backend import Backend, Options
from mockserver.backend.verdict import failures
from mockserver.contract.contract import Contract
from mockserver.scenarios.catalogue import Catalogue

CONTRACT = Contract.load()
CATALOGUE = Catalogue(CONTRACT)
CREATE = CONTRACT.by_id["createFluxKontextMaxPrediction"]
ULTRA = CONTRACT.by_id["createFlux11ProUltraPrediction"]
LIST = "/replicate/v1/predictions"

Json = dict[str, Any]

# Method, path, a right body, what the answer holds.
ROUTES: list[tuple[str, str, object, set[str]]] = [
    ("GET", "/health", None, {"status", "store"}),
    ("GET", "/version", None, {"name", "version", "seed", "contract", "models"}),
    ("POST", "/reset", None, {"reset"}),
    ("GET", "/requests", None, {"requests", "more", "recorded", "evicted"}),
    ("GET", "/requests.har", None, {"log"}),
    ("DELETE", "/requests", None, {"requests"}),
    ("GET", "/scenario", None, {"name", "description", "lifecycle"}),
    ("PUT", "/scenario", "nsfw", {"name", "description", "lifecycle"}),
    ("DELETE", "/scenario", None, {"name", "description", "lifecycle"}),
    ("GET", "/openapi.json", None, {"openapi", "paths", "components"}),
    ("GET", "/scenarios", None, {"scenarios"}),
    ("GET", "/scenarios/schema", None, {"$schema", "$defs", "title", "properties"}),
    ("GET", "/clock", None, {"mode", "speed", "now"}),
    ("PUT", "/clock", {"mode": "frozen"}, {"mode", "speed", "now"}),
    ("POST", "/clock/advance", {"seconds": 3.5}, {"now", "happened"}),
    (
        *("GET", "/verdict", None),
        {
            "ok",
            "exchanges",
            "violations",
            "unmatched",
            "unused_faults",
            "undelivered_webhooks",
            "evicted",
        },
    ),
    ("GET", "/tenants", None, {"tenants", "store"}),
    (
        "GET",
        "/coverage",
        None,
        {"operations", "inputs", "statuses", "transitions", "errors", "faults"},
    ),
    ("GET", "/predictions", None, {"predictions", "evicted"}),
    ("GET", "/webhooks", None, {"deliveries", "recorded"}),
]
PAGES = [
    ("GET", "/"),
    ("GET", "/events"),
    ("GET", "/metrics"),
    ("GET", "/predictions/{prediction_id}"),
    ("GET", "/predictions/{prediction_id}/picture"),
]  # these answer with something else than JSON, or not for every id
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def client_of(tenant: Tenant) -> httpx.Client:
    headers = {"Authorization": f"Bearer {tenant.token}"} if tenant.token else {}
    return httpx.Client(base_url=tenant.url, headers=headers, timeout=10, verify=False)


def create(client: httpx.Client, path: str = CREATE.path, **given: Any) -> Json:
    created: Json = client.post(path, json={"input": {"prompt": "p", **given}}).json()
    return created


def admin(
    client: httpx.Client, method: str, path: str, value: object = None, **settings: Any
) -> httpx.Response:
    if value is not None:
        settings["content"] = json.dumps(value)
    return client.request(method, "/__admin" + path, **settings)


def detail(response: httpx.Response, status: int) -> str:
    """What a refusal says, once it has the form that each of them has."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    body = response.json()
    assert body.keys() == {"detail", "status"}
    assert body["status"] == status
    said: str = body["detail"]
    assert "\n" not in said
    return said


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path", "body", "keys"), ROUTES, ids=[f"{m} {p}" for m, p, *_ in ROUTES]
    )
    def test_each_answers_with_what_it_is_there_for(
        self, client: httpx.Client, method: str, path: str, body: object, keys: set[str]
    ) -> None:
        response = admin(client, method, path, body)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert response.json().keys() >= keys
        assert response.headers["cache-control"] == "no-store"

    def test_there_are_no_others(self) -> None:
        routes = Admin(Backend(CONTRACT, CATALOGUE, Options())).routes()
        paths = {route.path.removeprefix("/__admin") for route in routes}
        assert paths - {"/{path:path}", ""} == {path for _, path, *_ in ROUTES} | {
            path for _, path in PAGES
        }

    @pytest.mark.parametrize(
        "path", sorted({path for _, path, *_ in ROUTES} | {path for _, path in PAGES})
    )
    def test_each_refuses_every_other_method_and_says_which_it_takes(
        self, client: httpx.Client, path: str
    ) -> None:
        taken = [method for method, there, *_ in ROUTES if there == path] or ["GET"]
        for method in METHODS:
            if method not in taken:
                refused = admin(client, method, path)
                assert detail(refused, 405) == f"/__admin{path} takes {' and '.join(taken)}."
                assert refused.headers["allow"] == ", ".join(taken)

    @pytest.mark.parametrize(
        "path", ["", "/nowhere", "/reset/", "/Health", "/requests/1", "//health"]
    )
    def test_a_path_that_is_not_there_is_named(self, client: httpx.Client, path: str) -> None:
        assert f"/__admin{path}" in detail(admin(client, "GET", path), 404)

    def test_the_page_is_a_page(self, client: httpx.Client) -> None:
        page = admin(client, "GET", "/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]

    def test_a_picture_is_shown_once_it_is_there_and_to_its_tenant_alone(
        self, server: MockServer, client: httpx.Client, tenant: Tenant
    ) -> None:
        path = f"/predictions/{create(client)['id']}/picture"
        assert "no picture" in detail(admin(client, "GET", path), 404)
        tenant.advance(10)
        shown = admin(client, "GET", path)
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
        with client_of(server.tenant()) as stranger:
            assert "no picture" in detail(admin(stranger, "GET", path), 404)

    def test_health_counts_what_is_held(self, client: httpx.Client) -> None:
        before = admin(client, "GET", "/health").json()["store"]["predictions"]
        create(client)
        told = admin(client, "GET", "/health").json()
        assert (told["status"], told["store"]["predictions"]) == ("ok", before + 1)

    def test_version_says_what_is_served(self, client: httpx.Client) -> None:
        told = admin(client, "GET", "/version").json()
        assert told["name"] == "mockserver"
        assert told["models"] == [
            "black-forest-labs/flux-1.1-pro-ultra",
            "black-forest-labs/flux-kontext-max",
        ]
        assert set(told["contract"]["operations"]) == set(CONTRACT.by_id)

    def test_the_scenarios_and_their_schema_are_those_of_the_package(
        self, client: httpx.Client
    ) -> None:
        named = admin(client, "GET", "/scenarios").json()["scenarios"]
        assert named == [json.loads(json.dumps(scenario.as_json())) for scenario in CATALOGUE]
        assert admin(client, "GET", "/scenarios/schema").json() == CATALOGUE.schema

    def test_a_scenario_is_set_shown_and_taken_back(self, client: httpx.Client) -> None:
        assert admin(client, "GET", "/scenario").json()["name"] == "succeeded"
        mine = {
            "name": "mine",
            "lifecycle": [{"status": "aborted"}],
            "faults": {"*": [None, {"status": 503}]},
        }
        assert admin(client, "PUT", "/scenario", mine).json() == mine
        assert admin(client, "GET", "/scenario").json() == mine
        assert create(client)["status"] == "aborted"
        assert admin(client, "DELETE", "/scenario").json()["name"] == "succeeded"
        assert create(client)["status"] == "starting"

    def test_a_scenario_is_taken_back_within_the_bounds_of_memory(self) -> None:
        with MockServer(max_memory=16 * 1024 * 1024) as server:
            idle, tenant = server.tenant(), server.tenant()
            idle.use("nsfw")
            tenant.use("failed")
            server.call_in_loop(lambda backend: backend.store.underway.add(17 * 1024 * 1024))
            tenant.use(None)
            assert server.call_in_loop(lambda backend: backend.store.find(idle.token)) is None

    def test_predictions_are_shown_oldest_first_as_they_stand_and_looking_moves_nothing(
        self, client: httpx.Client
    ) -> None:
        first, second = create(client), create(client, ULTRA.path)
        for _ in range(3):
            assert admin(client, "GET", "/predictions").json()["predictions"] == [first, second]
        assert client.get(f"{LIST}/{first['id']}").json()["status"] == "processing"

    def test_webhooks_tell_of_each_attempt(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.freeze()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/hook"
        body = {"input": {"prompt": "p"}, "webhook": url, "webhook_events_filter": ["start"]}
        created = client.post(CREATE.path, json=body).json()
        tenant.advance(1)
        (delivery,) = admin(client, "GET", "/webhooks").json()["deliveries"]
        assert (delivery["event"], delivery["prediction_id"], delivery["url"]) == (
            "start",
            created["id"],
            url,
        )
        assert (delivery["delivered"], delivery["status"]) == (False, None)
        (undelivered,) = admin(client, "GET", "/verdict").json()["undelivered_webhooks"]
        assert undelivered["url"] == url

    def test_reset_forgets_everything_of_one_tenant_and_nothing_of_another(
        self, server: MockServer, client: httpx.Client, tenant: Tenant
    ) -> None:
        other = server.tenant(scenario="failed", clock="frozen")
        with client_of(other) as stranger:
            create(stranger)
        tenant.use("aborted")
        tenant.freeze()
        first = create(client)
        client.get("/nowhere")
        assert admin(client, "POST", "/reset").json() == {"reset": True}
        assert (tenant.predictions(), tenant.requests()) == ([], [])
        assert tenant.scenario()["name"] == "succeeded"
        assert tenant.call("GET", "/clock")["mode"] == "autojump"
        assert (tenant.verdict()["ok"], tenant.coverage()["operations"]["met"]) == (True, {})
        assert client.get(f"{LIST}/{first['id']}").status_code == 404
        assert create(client)["id"] == first["id"]  # the same ids come again
        assert (len(other.predictions()), other.scenario()["name"]) == (1, "failed")
        assert other.call("GET", "/clock")["mode"] == "frozen"

    def test_no_token_steers_the_anonymous_tenant(self) -> None:
        with MockServer() as server, httpx.Client(base_url=server.url, verify=False) as nobody:
            admin(nobody, "PUT", "/scenario", "aborted")
            assert create(nobody)["status"] == "starting"
            assert (
                len(server.tenant("").predictions())
                == len(server.tenant("anonymous").predictions())
                == 1
            )
            assert server.tenant("").scenario()["name"] == "aborted"
            assert server.tenant().scenario()["name"] == "succeeded"


TAKING_BODIES = [(method, path) for method, path, body, _ in ROUTES if body is not None]


class TestWrongRequests:
    @pytest.mark.parametrize(("method", "path"), TAKING_BODIES)
    @pytest.mark.parametrize(
        "body", [b"", b"{", b"{'mode': 1}", b"\xff", b'{"seconds": 1e999}', b"NaN"]
    )
    def test_a_body_that_is_no_json_is_told_so(
        self, client: httpx.Client, method: str, path: str, body: bytes
    ) -> None:
        refused = admin(client, method, path, content=body)
        assert detail(refused, 400).startswith("The body is not valid JSON: ")

    @pytest.mark.parametrize(("method", "path"), TAKING_BODIES)
    def test_a_body_beyond_the_limit_is_told_it(
        self, client: httpx.Client, method: str, path: str
    ) -> None:
        refused = admin(client, method, path, content=b" " * (64 * 1024 + 1))
        assert detail(refused, 413) == "The body is larger than 65536 bytes."
        assert admin(client, "GET", "/health").status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "body", "said"),
        [
            (
                "PUT",
                "/clock",
                {"mode": "fast"},
                '/mode: "fast" is not one of "autojump", "real" or "frozen"',
            ),
            ("PUT", "/clock", {"mode": 1}, "/mode: "),
            (
                "PUT",
                "/clock",
                {"mode": "real", "speed": 0},
                "/speed: 0 is less than or equal to the minimum of 0",
            ),
            (
                "PUT",
                "/clock",
                {"mode": "real", "speed": "2"},
                '/speed: "2" is not of type "number"',
            ),
            ("PUT", "/clock", {"mode": "frozen", "now": 5}, '/now: 5 is not of type "string"'),
            (
                "PUT",
                "/clock",
                {"mode": "frozen", "now": "yesterday"},
                "/now: 'yesterday' is not an RFC 3339 timestamp",
            ),
            ("PUT", "/clock", {"mode": "frozen", "now": "2025-02-30T00:00:00Z"}, "/now: "),
            ("PUT", "/clock", {}, '"mode" is a required property'),
            ("PUT", "/clock", {"mode": "real", "pace": 2}, "'pace' was unexpected"),
            ("PUT", "/clock", "frozen", '"frozen" is not of type "object"'),
            (
                "POST",
                "/clock/advance",
                {"seconds": -1},
                "/seconds: -1 is less than the minimum of 0",
            ),
            ("POST", "/clock/advance", {"seconds": "1"}, '/seconds: "1" is not of type "number"'),
            ("POST", "/clock/advance", {"seconds": True}, '/seconds: true is not of type "number"'),
            ("POST", "/clock/advance", {"seconds": 1e10}, "/seconds: "),
            ("POST", "/clock/advance", {}, '"seconds" is a required property'),
            ("POST", "/clock/advance", 3.5, 'is not of type "object"'),
            ("PUT", "/scenario", "nfsw", "did you mean nsfw?"),
            ("PUT", "/scenario", ["nsfw"], 'is not of type "object"'),
            (
                "PUT",
                "/scenario",
                {"lifecycle": [{"status": "done"}]},
                "/lifecycle/0/status: 'done' is not a status",
            ),
            (
                "PUT",
                "/scenario",
                {"lifecycle": [{"status": "starting", "seconds": "1"}]},
                "/lifecycle/0/seconds: ",
            ),
            (
                "PUT",
                "/scenario",
                {"faults": {"getPicture": []}},
                "/faults/getPicture: no such operation; there are: ",
            ),
            ("PUT", "/scenario", {"faults": {"*": [{"status": "429"}]}}, "/faults/*/0/status: "),
            ("PUT", "/scenario", {"faults": {"*": [None, {"cut": 2}]}}, "/faults/*/1/cut: "),
            (
                "PUT",
                "/scenario",
                {"faults": {"getPrediction": [{"status": 418}]}},
                "the contract has no 418",
            ),
            (
                "PUT",
                "/scenario",
                {"body": {"omit": ["id"]}},
                "/body/omit: the contract requires id",
            ),
            (
                "PUT",
                "/scenario",
                {"create_status": 204},
                "/create_status: the contract answers a create with one of",
            ),
            ("PUT", "/scenario", {"nonsense": 1}, "'nonsense' was unexpected"),
        ],
    )
    def test_a_value_that_is_wrong_is_told_where_and_why_and_changes_nothing(
        self, client: httpx.Client, method: str, path: str, body: object, said: str
    ) -> None:
        before = [admin(client, "GET", place).json() for place in ("/scenario", "/predictions")]
        assert said in detail(admin(client, method, path, body), 422)
        assert [
            admin(client, "GET", place).json() for place in ("/scenario", "/predictions")
        ] == before
        assert admin(client, "GET", "/clock").json()["mode"] == "autojump"

    def test_every_fault_of_a_value_is_told_at_once(self, client: httpx.Client) -> None:
        said = detail(admin(client, "PUT", "/clock", {"mode": "fast", "speed": -1, "pace": 1}), 422)
        assert "/mode" in said
        assert "/speed" in said
        assert "'pace'" in said

    @pytest.mark.parametrize(
        "query",
        ["since=x", "since=-1", "limit=1.5", "limit=", "limit=12345678901", "unmatched=maybe"],
    )
    def test_a_wrong_filter_is_told_which(self, client: httpx.Client, query: str) -> None:
        create(client)
        assert f"?{query.partition('=')[0]} is " in detail(
            admin(client, "GET", f"/requests?{query}"), 422
        )

    @pytest.mark.parametrize("authorization", ["Basic abc", "Bearer", "token"])
    def test_an_authorization_that_names_no_tenant_is_told_how(
        self, server: MockServer, authorization: str
    ) -> None:
        headers = {"Authorization": authorization}
        refused = httpx.get(server.url + "/__admin/requests", headers=headers)
        assert "`Authorization: Bearer <token>`" in detail(refused, 401)

    def test_time_does_not_pass_the_year_9999(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.freeze("9999-12-31T23:59:59Z")
        assert "9999" in detail(admin(client, "POST", "/clock/advance", {"seconds": 10}), 422)
        assert admin(client, "GET", "/clock").json()["now"] == "9999-12-31T23:59:59.000Z"

    def test_an_instant_before_the_first_year_is_refused(self, client: httpx.Client) -> None:
        wanted = {"mode": "frozen", "now": "0001-01-01T00:00:00+23:59"}
        assert "/now" in detail(admin(client, "PUT", "/clock", wanted), 422)

    def test_a_filter_that_is_not_there_is_told(self, client: httpx.Client) -> None:
        assert "violation" in detail(admin(client, "GET", "/requests?violation=true"), 422)


class TestWhoIsKeptOut:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "evil.example:80"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "localhost.evil.example"},
            {"Host": "evil-localhost"},
            {"Host": ""},
            {"Host": "[::"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_a_foreign_host_and_a_foreign_page_reach_nothing(
        self, client: httpx.Client, tenant: Tenant, headers: dict[str, str]
    ) -> None:
        create(client)
        tenant.use("aborted")
        for method, path, body, _ in ROUTES:
            response = admin(client, method, path, body, headers=headers)
            said = detail(response, 403)
            assert "refused" in said or "not this server's" in said
            assert "access-control-allow-origin" not in response.headers
        for path in ("/", "/nowhere", ""):
            assert admin(client, "GET", path, headers=headers).status_code == 403
        assert (len(tenant.requests()), tenant.scenario()["name"]) == (1, "aborted")

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:3589", "127.0.0.1", "127.0.0.1:9", "[::1]:1", "10.0.0.7"]
    )
    def test_the_machines_own_names_and_its_own_page_do(
        self, client: httpx.Client, host: str
    ) -> None:
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert admin(client, "GET", "/health", headers=headers).status_code == 200
        assert (
            admin(
                client, "GET", "/health", headers={"Host": host, "Sec-Fetch-Site": "none"}
            ).status_code
            == 200
        )

    def test_a_preflight_of_another_page_is_not_granted(self, client: httpx.Client) -> None:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
        response = admin(client, "OPTIONS", "/scenario", headers=headers)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a double that was started with --admin-token s3cret."""
    ready = tmp_path_factory.mktemp("guarded") / "ready.json"
    command = [
        sys.executable,
        "-m",
        "mockserver",
        "serve",
        "--port",
        "0",
        "--ready-file",
        str(ready),
    ]
    with subprocess.Popen(
        [*command, "--admin-token", "s3cret"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("mockserver listening on ")
            yield str(json.loads(Path(ready).read_text())["url"])
        finally:
            process.terminate()


class TestAdminToken:
    @pytest.mark.parametrize("sent", [None, "", "wrong", "s3cret2", "S3CRET", "s3cre"])
    def test_whoever_does_not_send_it_steers_nothing(self, guarded: str, sent: str | None) -> None:
        headers = {} if sent is None else {"X-Mock-Admin-Token": sent}
        with httpx.Client(base_url=guarded, headers=headers) as client:
            for method, path, body, _ in ROUTES:
                if path == "/health":
                    continue
                said = detail(admin(client, method, path, body), 401)
                assert "X-Mock-Admin-Token" in said
                assert "s3cret" not in said
            assert admin(client, "GET", "/nowhere").status_code == 401
            assert admin(client, "PATCH", "/health").status_code == 401

    def test_health_and_the_page_that_asks_for_it_are_open(self, guarded: str) -> None:
        assert httpx.get(guarded + "/__admin/health").json()["status"] == "ok"
        page = httpx.get(guarded + "/__admin/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "admin token" in page.text
        assert httpx.post(guarded + "/__admin/health").status_code == 401

    def test_with_it_any_name_leads_here_and_without_it_none_does(self, guarded: str) -> None:
        """A service of a compose file is called by its name there; a page that made a name lead here has no token."""
        named = {"Host": "mockserver:3589"}
        assert httpx.get(guarded + "/__admin/scenario", headers=named).status_code == 403
        allowed = httpx.get(
            guarded + "/__admin/scenario", headers={**named, "X-Mock-Admin-Token": "s3cret"}
        )
        assert allowed.json()["name"] == "succeeded"
        assert httpx.get(guarded + "/__admin/health", headers=named).status_code == 200
        assert httpx.get(guarded + "/replicate/v1/predictions", headers=named).status_code == 200

    def test_whoever_sends_it_does(self, guarded: str) -> None:
        with httpx.Client(base_url=guarded, headers={"X-Mock-Admin-Token": "s3cret"}) as client:
            for method, path, body, keys in ROUTES:
                assert admin(client, method, path, body).json().keys() >= keys

    def test_the_api_does_not_ask_for_it(self, guarded: str) -> None:
        with httpx.Client(base_url=guarded) as client:
            assert create(client)["status"] == "starting"

    def test_a_foreign_page_is_refused_even_with_it(self, guarded: str) -> None:
        headers = {"X-Mock-Admin-Token": "s3cret", "Origin": "https://evil.example"}
        assert httpx.get(guarded + "/__admin/health", headers=headers).status_code == 403

    def test_a_tenant_in_python_can_be_given_it(self, guarded: str) -> None:
        assert Tenant(guarded, "t", admin_token="s3cret").scenario()["name"] == "succeeded"
        with pytest.raises(AdminError, match="--admin-token"):
            Tenant(guarded, "t").scenario()

    @pytest.mark.slow
    def test_the_verdict_command_can_be_given_it(self, guarded: str) -> None:
        command = [
            sys.executable,
            "-m",
            "mockserver",
            "verdict",
            "--url",
            guarded,
            "--token",
            "judged",
            "--allow-empty",
        ]
        given = subprocess.run(
            [*command, "--admin-token", "s3cret"], capture_output=True, text=True, timeout=30
        )
        assert given.returncode == 0
        assert "\nverdict: ok\n" in given.stdout
        without = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (without.returncode, without.stdout) == (2, "")
        assert "--admin-token" in without.stderr


class TestClock:
    def test_a_frozen_clock_stands_until_it_is_advanced(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        told = admin(
            client, "PUT", "/clock", {"mode": "frozen", "now": "2030-05-05T05:05:05.123Z"}
        ).json()
        assert (told["mode"], told["now"]) == ("frozen", "2030-05-05T05:05:05.123Z")
        first = create(client)
        assert first["created_at"] == "2030-05-05T05:05:05.123Z"
        for _ in range(5):
            assert client.get(f"{LIST}/{first['id']}").json()["status"] == "starting"
        assert admin(client, "POST", "/clock/advance", {"seconds": 0.399}).json() == {
            "now": "2030-05-05T05:05:05.522Z",
            "happened": [],
        }
        assert tenant.advance(0.001) == [
            {"at": "2030-05-05T05:05:05.523Z", "prediction": first["id"], "status": "processing"}
        ]
        assert tenant.advance(0) == []
        assert [each["status"] for each in tenant.advance(3.5)] == ["succeeded"]
        done = client.get(f"{LIST}/{first['id']}").json()
        assert (done["started_at"], done["completed_at"]) == (
            "2030-05-05T05:05:05.523Z",
            "2030-05-05T05:05:09.023Z",
        )

    def test_an_advance_lists_what_happened_to_whom_in_the_order_of_time(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2030-01-01T00:00:00Z")
        ids = {}
        for scenario in ("slow", "succeeded", "aborted", "stuck", "immediate"):
            tenant.use(scenario)
            ids[create(client)["id"]] = scenario
        assert [
            (each["at"][11:19], ids[each["prediction"]], each["status"])
            for each in tenant.advance(1000)
        ] == [
            ("00:00:00", "succeeded", "processing"),
            ("00:00:00", "aborted", "aborted"),
            ("00:00:00", "stuck", "processing"),
            ("00:00:03", "succeeded", "succeeded"),
            ("00:00:30", "slow", "processing"),
            ("00:02:30", "slow", "succeeded"),
        ]

    def test_what_a_client_ended_happens_no_more(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze()
        first = create(client)
        tenant.advance(1)
        assert client.post(f"{LIST}/{first['id']}/cancel").json()["status"] == "canceled"
        assert tenant.advance(100) == []
        assert tenant.predictions()[0]["metrics"]["predict_time"] == 0.6

    def test_time_resumes_from_where_it_was_advanced_to(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2030-01-01T00:00:00Z")
        first = create(client)
        tenant.advance(1)
        resumed = admin(client, "PUT", "/clock", {"mode": "autojump"}).json()
        assert resumed["mode"] == "autojump"
        assert resumed["now"] >= "2030-01-01T00:00:01"
        assert client.get(f"{LIST}/{first['id']}").json()["status"] == "succeeded"

    def test_resumed_in_real_time_it_moves_by_itself(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2030-01-01T00:00:00Z")
        first = create(client)
        start = time.monotonic()
        told = admin(client, "PUT", "/clock", {"mode": "real", "speed": 50}).json()
        assert (told["mode"], told["speed"]) == ("real", 50)
        while client.get(f"{LIST}/{first['id']}").json()["status"] != "succeeded":
            assert time.monotonic() < start + 10
        assert time.monotonic() - start >= 3.9 / 50

    def test_frozen_again_it_stands_again(self, client: httpx.Client, tenant: Tenant) -> None:
        tenant.set_clock("real", speed=1000)
        tenant.freeze()
        first, second = (admin(client, "GET", "/clock").json() for _ in range(2))
        assert first == second
        assert first["mode"] == "frozen"

    def test_autojump_can_be_advanced_as_well(self, client: httpx.Client, tenant: Tenant) -> None:
        first = create(client)
        assert [each["status"] for each in tenant.advance(10)] == ["processing", "succeeded"]
        assert client.get(f"{LIST}/{first['id']}").json()["status"] == "succeeded"

    def test_it_is_the_tenants_own(
        self, server: MockServer, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2030-01-01T00:00:00Z")
        other = server.tenant(clock="frozen")
        before = other.call("GET", "/clock")
        with client_of(other) as stranger:
            create(stranger)
        create(client)
        assert len(tenant.advance(100)) == 2
        assert other.call("GET", "/clock") == before
        assert other.predictions()[0]["status"] == "starting"

    def test_data_are_gone_an_hour_after_the_end(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze()
        first = create(client)
        tenant.advance(3.9)
        picture = client.get(f"{LIST}/{first['id']}").json()["output"]
        tenant.advance(3599)
        assert client.get(picture).status_code == 200
        tenant.advance(1)
        assert client.get(picture).status_code == 404
        assert client.get(f"{LIST}/{first['id']}").json()["data_removed"] is True


class TestJournal:
    def test_an_exchange_is_there_before_its_answer_has_been_read(self, tenant: Tenant) -> None:
        with client_of(tenant) as client:
            for number in range(1, 31):
                with client.stream(
                    "POST", CREATE.path, json={"input": {"prompt": "p"}}
                ) as response:
                    assert [each["number"] for each in tenant.requests(since=number - 1)] == [
                        number
                    ]
                    response.read()

    def test_it_is_there_while_the_body_still_drips(self, tenant: Tenant) -> None:
        tenant.use({"faults": {"createPrediction": [{"drip": 30}]}})
        with (
            client_of(tenant) as client,
            client.stream("POST", CREATE.path, json={"input": {"prompt": "p"}}),
        ):
            (exchange,) = tenant.requests()
            assert exchange["response"]["status"] == 200

    def test_it_says_what_was_sent_and_what_was_answered(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use("variety")
        tenant.freeze("2030-01-01T00:00:00Z")
        body = {"input": {"prompt": "p"}}
        response = client.post(CREATE.path + "?a=1&b=", json=body, headers={"X-Mine": "yes"})
        (exchange,) = tenant.requests()
        assert exchange["operation"] == CREATE.operation_id
        assert (exchange["scenario"], exchange["prediction"]) == ("variety", response.json()["id"])
        assert (exchange["fault"], exchange["committed"]) == (None, True)
        assert (exchange["arrived_at"], exchange["origin"]) == ("api", "api")  # its former name too
        assert exchange["tenant_time"] == "2030-01-01T00:00:00.000Z"
        assert exchange["received_at"] != exchange["tenant_time"]
        sent, replied = exchange["request"], exchange["response"]
        assert (sent["method"], sent["path"], sent["body"]) == ("POST", CREATE.path, body)
        assert (sent["query"], sent["headers"]["x-mine"]) == ({"a": "1", "b": ""}, "yes")
        assert (replied["status"], replied["body"]) == (201, response.json())
        assert (replied["prediction_status"], replied["body_size"]) == (
            "starting",
            len(response.content),
        )

    def test_each_violation_has_its_place_what_was_sent_and_what_is_allowed(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        wrong = {"input": {"prompt": 1, "output_format": "gif", "seeed": 5}}
        client.post(CREATE.path + "?verbose=1", json=wrong, headers={"Prefer": "patience"})
        (exchange,) = tenant.requests()
        found = {
            each["pointer"]: (each["sent"], each["allowed"], each["fatal"])
            for each in exchange["violations"]
        }
        prefer = found.pop("Prefer:")
        assert (prefer[0], prefer[2]) == ('"patience"', True)
        assert found == {
            "/input/prompt": ("1", "type string", True),
            "/input/output_format": ('"gif"', '"jpg", "png"', True),
            "/input/seeed": ("5", "seed, perhaps", False),
            "?verbose": ('"1"', "none", False),
        }

    def test_since_and_limit_page_through_it(self, client: httpx.Client) -> None:
        for _ in range(5):
            create(client)

        def page(query: str) -> tuple[list[int], bool]:
            told = admin(client, "GET", f"/requests?{query}").json()
            assert (told["recorded"], told["evicted"]) == (5, 0)
            return [each["number"] for each in told["requests"]], told["more"]

        assert page("") == ([1, 2, 3, 4, 5], False)
        assert page("since=3") == ([4, 5], False)
        assert page("limit=2") == ([1, 2], True)
        assert page("since=2&limit=2") == ([3, 4], True)
        assert page("since=4&limit=1") == ([5], False)
        assert page("since=5") == ([], False)
        assert page("limit=0") == ([], True)

    def test_unmatched_and_violations_pick_out_what_is_wrong(self, client: httpx.Client) -> None:
        create(client)
        client.get("/nowhere")
        create(client, unknown=1)
        client.put(LIST)
        client.post(CREATE.path, json={"input": {}})

        def numbers(query: str) -> list[int]:
            return [
                each["number"]
                for each in admin(client, "GET", f"/requests?{query}").json()["requests"]
            ]

        assert (
            numbers("unmatched=true")
            == numbers("unmatched=1")
            == numbers("unmatched=True")
            == [2, 4]
        )
        assert numbers("violations=true") == [3, 5]
        assert numbers("unmatched=false&violations=0") == [1, 2, 3, 4, 5]
        assert numbers("unmatched=true&violations=true") == []
        assert numbers("violations=true&since=3") == [5]
        assert numbers("unmatched=true&limit=1") == [2]

    def test_it_can_be_forgotten_and_numbers_go_on(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        client.get("/nowhere")
        assert admin(client, "DELETE", "/requests").json() == {"requests": []}
        assert (tenant.requests(), tenant.verdict()["ok"]) == ([], True)
        create(client)
        assert [each["number"] for each in tenant.requests()] == [2]

    @pytest.mark.slow
    def test_it_is_bounded_and_still_fails_for_what_is_gone(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        client.get("/nowhere")
        for _ in range(1000):
            client.get("/replicate/v1/predictions")
        told = client.get("/__admin/requests?limit=2000").json()
        assert (len(told["requests"]), told["recorded"], told["evicted"]) == (1000, 1001, 1)
        assert tenant.verdict()["unmatched"] == []
        assert not tenant.verdict()["ok"]

    def test_nothing_under_admin_is_in_it(self, client: httpx.Client, tenant: Tenant) -> None:
        for method, path, body, _ in ROUTES:
            admin(client, method, path, body)
        tenant.reset()
        for method in METHODS:
            admin(client, method, "/nowhere")
        admin(client, "HEAD", "/health")
        admin(client, "GET", "/health", headers={"Host": "evil.example"})
        admin(client, "PUT", "/scenario", content=b"{")
        told = admin(client, "GET", "/requests").json()
        assert (told["requests"], told["recorded"]) == ([], 0)
        assert tenant.coverage()["operations"]["met"] == {}

    @pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
    def test_not_even_with_an_unusual_method(
        self, client: httpx.Client, tenant: Tenant, method: str
    ) -> None:
        refused = admin(client, method, "/health")
        assert (tenant.requests(), tenant.verdict()["ok"]) == ([], True)
        assert detail(refused, 405) == "/__admin/health takes GET."

    def test_an_unusual_method_of_a_foreign_host_is_refused_too(self, client: httpx.Client) -> None:
        assert (
            admin(client, "PROPFIND", "/health", headers={"Host": "evil.example"}).status_code
            == 403
        )

    @pytest.mark.parametrize("given", [5, True, 1.5, [{}], [["prompt"]]])
    def test_an_input_that_is_no_object_is_refused_and_written_down(
        self, tenant: Tenant, given: object
    ) -> None:
        with client_of(tenant) as client:
            refused = client.post(CREATE.path, json={"input": given})
        assert refused.status_code == 422
        (exchange,) = tenant.requests()
        assert [each["pointer"] for each in exchange["violations"]] == ["/input"]

    @pytest.mark.parametrize("given", ["p", None, [], ["prompt"]])
    def test_an_input_that_is_text_or_nothing_is_refused_and_written_down(
        self, client: httpx.Client, tenant: Tenant, given: object
    ) -> None:
        assert client.post(CREATE.path, json={"input": given}).status_code == 422
        (exchange,) = tenant.requests()
        assert [each["pointer"] for each in exchange["violations"]] == ["/input"]


SECRET = "r8_0123456789abcdefghijklmnop"


def shown_of(tenant: Tenant) -> str:
    """All that the journal and the verdict tell of a tenant."""
    with client_of(tenant) as client:
        return "".join(
            admin(client, "GET", path).text
            for path in ("/requests", "/verdict", "/webhooks", "/coverage")
        )


class TestSecrets:
    def test_a_token_is_shown_in_part_wherever_it_stands(self, server: MockServer) -> None:
        tenant = server.tenant(SECRET)
        with client_of(tenant) as client:
            create(client, prompt=f"my token is {SECRET}", unknown=SECRET)
            client.get(f"/replicate/v1/{SECRET}?key={SECRET}", headers={"X-Key": SECRET})
        shown = shown_of(tenant)
        assert SECRET not in shown
        assert SECRET[6:] not in shown
        assert "Bearer r8_012…" in shown

    def test_a_short_token_is_enough_to_tell_tenants_apart_and_not_shown_whole(
        self, server: MockServer
    ) -> None:
        tenant = server.tenant("ci-17")
        with client_of(tenant) as client:
            create(client)
        assert tenant.requests()[0]["request"]["headers"]["authorization"] == "Bearer c…"

    @pytest.mark.parametrize("name", ["Cookie", "Proxy-Authorization", "Authorization"])
    def test_other_credentials_are_shown_in_part(self, server: MockServer, name: str) -> None:
        with httpx.Client(base_url=server.url, headers={name: "0123456789abcdef"}) as client:
            client.get("/nowhere")
            journal = admin(
                client,
                "GET",
                "/requests?unmatched=true",
                headers={"Authorization": "Bearer anonymous"},
            )
        (*_, exchange) = journal.json()["requests"]
        assert exchange["request"]["headers"][name.lower()] == "01234…"

    def test_each_of_several_cookies_is_shown_in_part(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        client.get("/nowhere", headers={"Cookie": "session=0123456789abcdef; theme=dark"})
        assert "0123456789abcdef" not in shown_of(tenant)

    def test_the_webhook_secret_is_shown_in_part(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        key = client.get("/replicate/v1/webhooks/default/secret").json()["key"]
        assert key not in shown_of(tenant)

    def test_the_admin_token_is_shown_in_part(self, client: httpx.Client, tenant: Tenant) -> None:
        client.get("/nowhere", headers={"X-Mock-Admin-Token": "0123456789abcdef"})
        assert "0123456789abcdef" not in shown_of(tenant)

    def test_a_token_in_a_webhooks_address_is_shown_in_part(self, server: MockServer) -> None:
        tenant = server.tenant("r8_another0123456789", clock="frozen")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/{tenant.token}"
        with client_of(tenant) as client:
            body = {"input": {"prompt": "p"}, "webhook": url, "webhook_events_filter": ["start"]}
            client.post(CREATE.path, json=body)
        tenant.advance(1)
        assert tenant.webhooks()
        assert tenant.token not in shown_of(tenant)

    def test_a_token_that_json_escapes_is_shown_in_part(self, server: MockServer) -> None:
        tenant = server.tenant('r8"quoted"0123456789')
        with client_of(tenant) as client:
            create(client, prompt=f"my token is {tenant.token}")
            client.get(
                f"/replicate/v1/predictions?key={quote(tenant.token)}",
                headers={"X-Key": quote(tenant.token)},
            )
            create(client, unknown=tenant.token)
        assert "quoted" not in tenant.requests()[0]["request"]["body"]["input"]["prompt"]
        assert "quoted" not in shown_of(tenant)

    @pytest.mark.parametrize("token", ["status", "method", "number", "request", "violations"])
    def test_a_token_that_is_a_word_of_the_journals_own_does_not_break_it(
        self, server: MockServer, token: str
    ) -> None:
        tenant = server.tenant(token)
        plain = server.tenant()
        for each in (tenant, plain):
            with client_of(each) as client:
                create(client, unknown=1)
        (shown,), (usual,) = tenant.requests(), plain.requests()
        assert shown.keys() == usual.keys()
        assert [shown[part].keys() for part in ("request", "response")] == [
            usual[part].keys() for part in ("request", "response")
        ]
        assert tenant.verdict()["violations"][0].keys() == plain.verdict()["violations"][0].keys()


class TestVerdictAndCoverage:
    def test_a_suite_that_sends_only_what_is_allowed_is_well_judged(
        self, client: httpx.Client
    ) -> None:
        create(client)
        assert admin(client, "GET", "/verdict").json() == {
            "ok": True,
            "exchanges": 1,
            "evicted": 0,
            "violating_exchanges": 0,
            "unmatched_exchanges": 0,
            "departing_exchanges": 0,
            "violations": [],
            "unmatched": [],
            "departures": [],
            "unused_faults": [],
            "undelivered_webhooks": [],
        }

    def test_violations_and_unknown_paths_count_against_it_with_their_places(
        self, client: httpx.Client
    ) -> None:
        create(client)
        create(client, seeed=5)
        client.get("/replicate/v1/prediction")
        judged = admin(client, "GET", "/verdict").json()
        assert (judged["ok"], judged["exchanges"]) == (False, 3)
        assert (judged["violating_exchanges"], judged["unmatched_exchanges"]) == (1, 1)
        (violation,) = judged["violations"]
        assert (violation["exchange"], violation["operation"]) == (2, CREATE.operation_id)
        assert (violation["pointer"], violation["sent"], violation["status"]) == (
            "/input/seeed",
            "5",
            200,
        )
        assert judged["unmatched"] == [
            {
                "exchange": 3,
                "method": "GET",
                "path": "/replicate/v1/prediction",
                "status": 404,
                "nearest": "GET /replicate/v1/predictions",
            }
        ]

    def test_faults_never_met_are_listed_and_do_not_count_against_it(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use(
            {
                "faults": {
                    "getPrediction": [None, {"status": 502}],
                    "createPrediction": [{"delay": 0.01}],
                }
            }
        )
        create(client)
        judged = admin(client, "GET", "/verdict").json()
        assert judged["unused_faults"] == [
            {"operation": "getPrediction", "number": 1, "fault": {"status": 502}}
        ]
        assert judged["ok"] is True

    def test_coverage_counts_what_was_met_and_lists_what_never_was(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use("flaky")
        create(client)
        first = create(client, seed=1)
        for _ in range(3):
            client.get(f"{LIST}/{first['id']}")
        covered = admin(client, "GET", "/coverage").json()
        met = {kind: part["met"] for kind, part in covered.items()}
        assert met == {
            "operations": {CREATE.operation_id: 2, "getPrediction": 3},
            "inputs": {f"{CREATE.operation_id}/prompt": 1, f"{CREATE.operation_id}/seed": 1},
            "statuses": {"starting": 1, "processing": 1, "succeeded": 1},
            "transitions": {"starting → processing": 1, "processing → succeeded": 1},
            "errors": {"429": 1, "502": 1},
            "faults": {"status": 2},
        }
        assert covered["statuses"]["never"] == ["failed", "canceled", "aborted"]
        assert set(covered["operations"]["never"]) == set(CONTRACT.by_id) - met["operations"].keys()
        assert f"{CREATE.operation_id}/aspect_ratio" in covered["inputs"]["never"]
        assert "processing → failed" in covered["transitions"]["never"]
        assert covered["faults"]["never"] == ["disconnect", "cut", "stall", "drip", "body", "delay"]

    def test_both_are_the_tenants_own(self, server: MockServer, client: httpx.Client) -> None:
        with client_of(server.tenant()) as stranger:
            stranger.get("/nowhere")
        assert admin(client, "GET", "/verdict").json()["exchanges"] == 0
        assert admin(client, "GET", "/coverage").json()["operations"]["met"] == {}

    def test_a_status_that_never_left_was_not_met(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use("lost-answer")
        with pytest.raises(httpx.ReadError):
            create(client)
        assert admin(client, "GET", "/coverage").json()["statuses"]["met"] == {}


class TestUnmatched:
    @pytest.mark.parametrize(
        ("method", "path", "nearest"),
        [
            ("GET", "/replicate/v1/prediction", "GET /replicate/v1/predictions"),
            ("GET", "/replicate/v1/predictions/", "GET /replicate/v1/predictions"),
            ("POST", CREATE.path.replace("max", "pro"), f"POST {CREATE.path}"),
            ("POST", CREATE.path.removeprefix("/replicate"), f"POST {CREATE.path}"),
            (
                "POST",
                f"{LIST}/{'0' * 26}/cancl",
                "POST /replicate/v1/predictions/{prediction_id}/cancel",
            ),
        ],
    )
    def test_an_unknown_path_is_told_the_nearest_operation(
        self, client: httpx.Client, tenant: Tenant, method: str, path: str, nearest: str
    ) -> None:
        response = client.request(method, path)
        assert (response.status_code, response.headers["content-type"]) == (
            404,
            "application/problem+json",
        )
        said = f'The contract has no {method} "{path}"; the nearest it has is {nearest}.'
        assert response.json()["detail"].endswith(said)
        (exchange,) = tenant.requests(unmatched=True)
        assert (exchange["operation"], exchange["response"]["body"]) == (None, response.json())
        assert tenant.verdict()["unmatched"][0]["nearest"] == nearest

    @pytest.mark.parametrize(
        ("path", "nearest"),
        [
            ("/v1/predictions", "GET /replicate/v1/predictions"),
            (f"/v1/predictions/{'0' * 26}", "GET /replicate/v1/predictions/{prediction_id}"),
            ("/predictions", "GET /replicate/v1/predictions"),
        ],
    )
    def test_a_prefix_left_out_is_told_as_well(
        self, client: httpx.Client, path: str, nearest: str
    ) -> None:
        assert f"the nearest it has is {nearest}." in client.get(path).json()["detail"]

    @pytest.mark.parametrize(
        "path",
        [
            "account",
            "hardware",
            "collections",
            "collections/sdxl",
            "deployments/acme/app",
            "models",
            "trainings",
            "search",
        ],
    )
    def test_what_the_contract_leaves_out_on_purpose_is_told_so(
        self, client: httpx.Client, tenant: Tenant, path: str
    ) -> None:
        for asked in (f"/replicate/v1/{path}", f"/v1/{path}"):
            response = client.get(asked)
            assert response.status_code == 404
            assert "is not part of this contract" in response.json()["detail"]
            assert "nearest" not in response.json()["detail"]
        verdict = tenant.verdict()
        assert [each["nearest"] for each in verdict["unmatched"]] == [None, None]
        assert "nor means to have it" in failures(verdict, ["unmatched"])[0]

    def test_it_is_told_in_the_other_dialect_too(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use({"errors": "new-api"})
        error = client.get("/replicate/v1/prediction").json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "the nearest it has is GET /replicate/v1/predictions" in error["message"]

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", LIST, "GET, POST"),
            ("GET", CREATE.path, "POST"),
            ("DELETE", f"{LIST}/{'0' * 26}", "GET"),
            ("GET", f"{LIST}/{'0' * 26}/cancel", "POST"),
            ("PATCH", "/replicate/v1/files", "GET, POST"),
            ("POST", f"/xezq/{'0' * 26}/output.png", "GET, HEAD"),
            ("PROPFIND", LIST, "GET, POST"),
        ],
    )
    def test_a_known_path_with_a_wrong_method_is_told_the_right_ones(
        self, client: httpx.Client, tenant: Tenant, method: str, path: str, allowed: str
    ) -> None:
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        said = response.json()["detail"]
        assert said.startswith(f'Method "{method}" not allowed. Allowed: ')
        for name in allowed.split(", "):
            assert re.search(rf"{name} \([A-Z][^)]+\)", said), "it says what can be done"
        (exchange,) = tenant.requests(unmatched=True)
        assert exchange["response"]["status"] == 405
        assert tenant.verdict()["ok"] is False

    def test_the_contract_itself_is_no_unknown_path(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
        assert client.get("/openapi.yaml").status_code == 200
        assert tenant.requests() == []
