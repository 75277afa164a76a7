"""contracts/admin.yaml says what /__admin takes and answers, and the server and the Python client agree with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from mockserver import MockServer, Tenant
from mockserver.admin.api import Admin
from mockserver.admin.inspector import MAX_WATCHERS
from mockserver.backend.backend import Options
from mockserver.client import PREFIX, AdminError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.app import App
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA
from tests.helpers.receiver import Receiver

CONFIG = Path(__file__).parent / "admin-schemathesis.toml"
STREAMS = {"events"}  # answers that do not end


@pytest.fixture(scope="module")
def document(server: MockServer) -> dict[str, Any]:
    return httpx.get(server.url + PREFIX + "/openapi.json").json()  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path.removeprefix(PREFIX)): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def name_of(parameter: dict[str, Any]) -> str:
    return str(
        parameter["name"] if "name" in parameter else parameter["$ref"].rpartition("/")[2].lower()
    )


def test_it_is_openapi(document: dict[str, Any]) -> None:
    from openapi_spec_validator import validate  # it takes long to import

    validate(document)


def test_every_operation_has_a_name_a_summary_and_a_description(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        assert operation["operationId"].isalpha()
        assert len(operation["summary"]) > 10
        assert operation["description"].endswith(".")
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)


def test_it_lists_what_there_is_and_nothing_else(document: dict[str, Any]) -> None:
    served = Admin(App(CONTRACT, Catalogue(CONTRACT), Options()).backend).operations()
    assert operations(document).keys() == {
        (method, path) for method, path, _ in served if path != "/"
    }


def test_it_says_what_a_scenario_may_hold(document: dict[str, Any], client: httpx.Client) -> None:
    schema = client.get(PREFIX + "/scenarios/schema").json()
    documented = document["components"]["schemas"]["Scenario"]
    assert documented["properties"].keys() == schema["properties"].keys()
    assert document["components"]["schemas"]["Fault"] == schema["$defs"]["fault"]


@pytest.fixture
def seasoned(tenant: Tenant, client: httpx.Client, receiver: Receiver) -> Tenant:
    """A tenant with something of everything: violations, unknown paths, faults met and never met, webhooks."""
    tenant.use(
        {
            "name": "seasoned",
            "faults": {"getPrediction": [{"status": 502}], "listPredictions": [{"delay": 1}]},
        }
    )
    made = client.post(
        ULTRA, json={"input": {"prompt": "a lighthouse"}, "webhook": receiver.url}
    ).json()
    for _ in range(3):
        client.get(made["urls"]["get"])
    client.post(KONTEXT, json={"input": {"output_format": "gif"}, "more": 1})
    client.post(KONTEXT, content=b"no JSON", headers={"Content-Type": "application/json"})
    client.post(ULTRA, json={"input": {"prompt": "p"}, "webhook": receiver.url[:-5] + "1/nobody"})
    client.get("/nowhere?a=1")
    receiver.next()
    return tenant


def holds(document: dict[str, Any], response: httpx.Response, operation: dict[str, Any]) -> None:
    """The response is one that the operation lists, and its body fits."""
    listed = operation["responses"].get(
        str(response.status_code), operation["responses"]["default"]
    )
    if "$ref" in listed:
        listed = document["components"]["responses"][listed["$ref"].rpartition("/")[2]]
    content = listed["content"]
    media_type = response.headers["content-type"].partition(";")[0]
    if media_type not in content:
        assert media_type.partition("/")[0] + "/*" in content
        return
    schema = {**content[media_type]["schema"], "components": document["components"]}
    value = response.json() if media_type == "application/json" else response.text
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)


BODIES: dict[str, list[Any]] = {
    "setScenario": [
        "nsfw",
        {"name": "mine", "faults": {"getPrediction": [None, {"status": 502}]}},
        "no-such",
        7,
    ],
    "setClock": [
        {"mode": "frozen", "now": "2025-01-01T00:00:00Z"},
        {"mode": "real", "speed": 2},
        {"mode": "x"},
    ],
    "advance": [{"seconds": 0.5}, {"seconds": -1}],
}


def test_every_answer_is_as_it_says(
    document: dict[str, Any], seasoned: Tenant, client: httpx.Client
) -> None:
    prediction = seasoned.predictions()[0]["id"]
    # What changes something comes last.
    for (method, path), operation in sorted(
        operations(document).items(), key=lambda item: item[0][0] != "GET"
    ):
        if operation["operationId"] in STREAMS:
            continue
        queries: list[dict[str, Any]] = [
            {},
            *({each: "true"} for each in ("all", "violations", "unmatched", "check")),
        ]
        for body in BODIES.get(operation["operationId"], [None]):
            for query in queries if operation.get("parameters") else [{}]:
                url = PREFIX + path.replace("{prediction_id}", prediction)
                response = client.request(method, url, json=body, params=query)
                assert response.status_code in (200, 422), response.text
                holds(document, response, operation)


def test_a_refusal_is_as_it_says(document: dict[str, Any], client: httpx.Client) -> None:
    operation = operations(document)["GET", "/requests"]
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Authorization": "Basic x"},
    ):
        response = client.get(PREFIX + "/requests", headers=headers)
        assert response.status_code in (401, 403)
        holds(document, response, operation)
    for method, path in (("PATCH", "/requests"), ("GET", "/no-such")):
        response = client.request(method, PREFIX + path)
        assert response.status_code in (404, 405)
        holds(document, response, operation)


def test_a_tenant_can_be_named_by_its_handle(tenant: Tenant, client: httpx.Client) -> None:
    client.get("/nowhere")
    handle = tenant.call("GET", "/tenants")["current"]
    found = httpx.get(tenant.url + PREFIX + "/requests", headers={"X-Mock-Tenant": handle}).json()
    assert [each["request"]["path"] for each in found["requests"]] == ["/nowhere"]
    assert handle in [each["handle"] for each in tenant.call("GET", "/tenants")["tenants"]]
    refused = httpx.get(tenant.url + PREFIX + "/requests", headers={"X-Mock-Tenant": "0" * 12})
    assert (refused.status_code, refused.json()["detail"][:30]) == (
        404,
        "There is no tenant '0000000000",
    )


def test_former_names_of_properties_stand_beside_the_new_ones(tenant: Tenant) -> None:
    suffixed = Tenant(tenant.url, tenant.token + "+nsfw")
    for one in (tenant, suffixed):
        with httpx.Client(headers={"Authorization": f"Bearer {one.token}"}, verify=False) as client:
            client.get(tenant.url + "/nowhere")
            servers = client.get(tenant.url + PREFIX + "/health", headers={"X-Mock-Servers": "3"})
            assert servers.json()["server_count"] == servers.json()["one_of_servers"] == 3
    listing = suffixed.call("GET", "/tenants")
    assert listing["current"] == listing["asking"]
    (child,) = (item for item in listing["tenants"] if item["handle"] == listing["current"])
    assert child["parent"] == child["suffix_of"] == tenant.call("GET", "/tenants")["current"]


def test_a_change_is_told_to_those_who_listen(
    document: dict[str, Any], tenant: Tenant, client: httpx.Client
) -> None:
    with client.stream("GET", PREFIX + "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = (
            json.loads(line.removeprefix("data: "))
            for line in stream.iter_lines()
            if line.startswith("data: ")
        )
        first = next(told)
        assert first["recorded"] == 0
        schema = document["components"]["schemas"]["Change"]["properties"]["data"]["contentSchema"]
        jsonschema_rs.validator_for({**schema, "components": document["components"]}).validate(
            first
        )
        client.get("/nowhere")
        assert next(told)["recorded"] == 1
        tenant.reset()
        assert next(told)["recorded"] == 0


def test_so_many_may_listen_and_no_more(own_server: MockServer) -> None:
    url = own_server.url + PREFIX + "/events"
    with httpx.Client(verify=False) as client, ExitStack() as listening:
        heard = [
            listening.enter_context(client.stream("GET", url)).iter_lines()
            for _ in range(MAX_WATCHERS)
        ]
        assert {next(lines) for lines in heard} == {"event: change"}
        refused = client.get(url)
        assert (refused.status_code, refused.json()["detail"]) == (
            503,
            "64 watch already; close a page of the inspector.",
        )


def test_a_scenario_can_be_checked_and_left(tenant: Tenant) -> None:
    assert tenant.call("PUT", "/scenario?check=true", "nsfw")["name"] == "nsfw"
    assert tenant.scenario()["name"] == "succeeded"
    with pytest.raises(AdminError, match="did you mean nsfw"):
        tenant.call("PUT", "/scenario?check=true", "nsfv")


def test_the_newest_predictions_are_asked_for_alone(tenant: Tenant, client: httpx.Client) -> None:
    made = [client.post(KONTEXT, json={"input": {"prompt": "p"}}).json()["id"] for _ in range(3)]
    found = tenant.call("GET", "/predictions?limit=2")["predictions"]
    assert [each["id"] for each in found] == made[1:]


def test_a_prediction_has_a_timeline(tenant: Tenant, client: httpx.Client) -> None:
    tenant.freeze()
    made = client.post(KONTEXT, json={"input": {"prompt": "p"}}).json()["id"]
    tenant.advance(1)
    life = tenant.call("GET", f"/predictions/{made}")
    assert life["stages"] == [
        {"status": "starting", "at": 0},
        {"status": "processing", "at": 0.4},
        {"status": "succeeded", "at": 3.9},
    ]
    assert (life["age"], life["next"]) == (
        pytest.approx(1, abs=0.01),
        {"status": "succeeded", "in": pytest.approx(2.9, abs=0.01)},
    )
    assert life["prediction"]["status"] == "processing"
    tenant.advance(life["next"]["in"])
    assert tenant.call("GET", f"/predictions/{made}")["next"] is None


def test_a_filter_that_is_not_true_or_false_is_refused_though_nothing_was_sent(
    client: httpx.Client,
) -> None:
    assert client.get(PREFIX + "/requests?violations=maybe").status_code == 422


# What the Python client offers, and the operation that each call comes to.
CALLS: dict[str, Any] = {
    "setScenario": lambda tenant: tenant.use("nsfw"),
    "unsetScenario": lambda tenant: tenant.use(None),
    "scenario": lambda tenant: tenant.scenario(),
    "setClock": lambda tenant: tenant.freeze("2025-01-01T00:00:00Z"),
    "advance": lambda tenant: tenant.advance(1),
    "requests": lambda tenant: tenant.requests(since=1, limit=2, unmatched=True, violations=True),
    "predictions": lambda tenant: tenant.predictions(),
    "webhooks": lambda tenant: tenant.webhooks(),
    "verdict": lambda tenant: tenant.verdict(),
    "coverage": lambda tenant: tenant.coverage(),
    "reset": lambda tenant: tenant.reset(),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_python_client_asks_what_it_says(
    name: str, document: dict[str, Any], tenant: Tenant
) -> None:
    asked: list[tuple[str, str, object]] = []

    class Recorded(Tenant):
        def call(self, method: str, path: str, value: object = None) -> dict[str, Any]:
            asked.append((method, path, value))
            return super().call(method, path, value)

    CALLS[name](Recorded(tenant.url, tenant.token))
    ((method, path, value),) = asked
    path, _, query = path.partition("?")
    operation = operations(document)[method, path]
    assert operation["operationId"] == name
    known = {name_of(parameter) for parameter in operation.get("parameters", [])}
    assert {pair.partition("=")[0] for pair in query.split("&") if pair} <= known
    assert ("requestBody" in operation) == (value is not None)
    if value is not None:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema_rs.validator_for({**schema, "components": document["components"]}).validate(
            value
        )


def test_every_method_of_the_python_client_is_held_to_it() -> None:
    offered = {
        name for name, value in vars(Tenant).items() if callable(value) and not name.startswith("_")
    }
    assert offered - {"call", "as_async"} == {"use", "set_clock", "freeze"} | CALLS.keys() & offered


@pytest.fixture
def own_server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.mark.slow
@pytest.mark.thorough
def test_schemathesis_finds_nothing_that_differs(own_server: MockServer, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *[str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)],
            *["run", f"{own_server.url}{PREFIX}/openapi.json"],
            *["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "5"],
            *["--seed", "1", "--generation-database", "none", "--no-color"],
            *["--header", "Authorization: Bearer schemathesis"],
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
