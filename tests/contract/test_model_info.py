"""What is told of models and their versions, and creates that name a model by its version."""

from typing import Any

import httpx
import pytest
from replicate.client import Client

from mockserver import MockServer, Tenant
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA

MODELS = "/replicate/v1/models"
BY_VERSION = "/replicate/v1/predictions"
NAME = "black-forest-labs/flux-kontext-max"
OTHER = "black-forest-labs/flux-1.1-pro-ultra"
BODY = {"input": {"prompt": "a lighthouse", "output_format": "jpg"}}


def version_of(client: httpx.Client, model: str = NAME) -> dict[str, Any]:
    return client.get(f"{MODELS}/{model}").json()["latest_version"]  # type: ignore[no-any-return]


def create(client: httpx.Client, version: Any, **more: Any) -> httpx.Response:
    return client.post(BY_VERSION, json={"version": version, **BODY, **more})


class TestLookUp:
    @pytest.mark.parametrize("model", CONTRACT.models)
    def test_a_model_has_a_version_whose_schema_is_made_from_the_contract(
        self, client: httpx.Client, model: str
    ) -> None:
        version = version_of(client, model)
        given = version["openapi_schema"]["components"]["schemas"]["Input"]
        operation = CONTRACT.models[model]
        assert given["required"] == ["prompt"]
        assert list(given["properties"]) == list(operation.input)
        assert [part["x-order"] for part in given["properties"].values()] == list(
            range(len(operation.input))
        )
        for name, part in given["properties"].items():
            for keyword in ("type", "default", "enum", "minimum", "maximum"):
                assert part.get(keyword) == operation.input[name].get(keyword)
        assert version["openapi_schema"]["components"]["schemas"]["Output"]["format"] == "uri"

    def test_the_versions_are_listed_and_read_one_by_one(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        version = version_of(client)
        assert client.get(f"{MODELS}/{NAME}/versions").json() == {
            "previous": None,
            "next": None,
            "results": [version],
        }
        assert client.get(f"{MODELS}/{NAME}/versions/{version['id']}").json() == version
        assert len(version["id"]) == 64
        assert version["id"] != version_of(client, OTHER)["id"]
        assert tenant.verdict()["ok"]

    @pytest.mark.parametrize(
        "path",
        [f"{NAME}/versions/{'0' * 64}", "acme/none", "acme/none/versions", "acme/none/versions/1"],
    )
    def test_what_is_not_there_is_not_found(self, client: httpx.Client, path: str) -> None:
        response = client.get(f"{MODELS}/{path}")
        assert response.status_code == 404
        assert "The" in response.json()["detail"]

    def test_its_example_is_a_prediction_of_it(self, client: httpx.Client) -> None:
        shown = client.get(f"{MODELS}/{NAME}").json()["default_example"]
        assert (shown["model"], shown["status"]) == (NAME, "succeeded")
        assert shown["input"]["prompt"].startswith("Make the letters 3D")
        assert CONTRACT.by_id["getPrediction"].check_response(200, "application/json", shown) == []

    def test_the_official_python_client_reads_them(self, tenant: Tenant) -> None:
        client = Client(api_token=tenant.token, base_url=tenant.base_url)
        model = client.models.get(NAME)
        assert model.latest_version is not None
        assert [each.id for each in model.versions.list()] == [model.latest_version.id]
        assert model.versions.get(model.latest_version.id).openapi_schema["components"]
        assert str(client.run(f"{NAME}:{model.latest_version.id}", input={"prompt": "p"})).endswith(
            "/output.png"
        )
        client._client.close()
        assert tenant.verdict()["ok"]


class TestCreateByVersion:
    def test_a_model_or_its_version_is_named_in_any_of_three_ways(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        identifier = version_of(client)["id"]
        for version in (NAME, identifier, f"{NAME}:{identifier}"):
            told = create(client, version)
            assert (told.status_code, told.json()["model"], told.json()["input"]) == (
                200,
                NAME,
                BODY["input"],
            )
            url = told.json()["urls"]["get"]
            assert [client.get(url).json()["status"] for _ in range(2)] == [
                "processing",
                "succeeded",
            ]
            assert client.get(url).json()["output"].endswith("/output.jpg")
        assert create(client, OTHER).json()["model"] == OTHER
        assert tenant.verdict()["ok"]

    @pytest.mark.parametrize(
        "version", ["acme/none", "0" * 64, f"{OTHER}:", f"acme/none:{'0' * 64}", "x"]
    )
    def test_one_that_is_not_known_is_refused_in_upstreams_words(
        self, client: httpx.Client, tenant: Tenant, version: str
    ) -> None:
        refused = create(client, version)
        assert (refused.status_code, refused.json()["title"]) == (
            422,
            "Invalid version or not permitted",
        )
        assert refused.json()["detail"].startswith(
            "The specified version does not exist (or perhaps you don't have permission to use it?)."
        )
        assert tenant.predictions() == []
        assert [each["pointer"] for each in tenant.verdict()["violations"]] == ["/version"]

    def test_the_version_of_one_model_under_the_name_of_another_is_not_known(
        self, client: httpx.Client
    ) -> None:
        assert create(client, f"{OTHER}:{version_of(client)['id']}").status_code == 422

    def test_its_input_is_held_against_the_models_own_schema(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        given = {"output_format": "gif", "safety_tolerance": 9, "nonsense": 1}
        refused = client.post(BY_VERSION, json={"version": NAME, "input": given})
        assert refused.status_code == 422
        pointers = [field["pointer"] for field in refused.json()["invalid_fields"]]
        assert pointers == ["/input/prompt", "/input/output_format", "/input/safety_tolerance"]
        assert "/input/nonsense" in {each["pointer"] for each in tenant.verdict()["violations"]}
        given = {"prompt": "p", "input_image": "data:image/png;base64,aGVsbG8="}
        assert client.post(BY_VERSION, json={"version": NAME, "input": given}).status_code == 422

    @pytest.mark.parametrize(
        ("body", "lines"),
        [
            ({}, ["- version is required", "- input is required"]),
            ({"version": NAME}, ["- input is required"]),
            (
                {"version": 1, "input": {}},
                ["- version: Invalid type. Expected: string, given: integer"],
            ),
            (
                {"version": NAME, "input": []},
                ["- input: Invalid type. Expected: object, given: array"],
            ),
            (
                {"version": NAME, "model": NAME, **BODY},
                ["- Additional property model is not allowed"],
            ),
        ],
    )
    def test_a_body_that_is_none_is_refused(
        self, client: httpx.Client, body: Any, lines: list[str]
    ) -> None:
        refused = client.post(BY_VERSION, json=body)
        assert (refused.status_code, refused.json()["detail"].splitlines()) == (422, lines)

    def test_it_is_a_create_to_faults_scenarios_coverage_and_the_journal(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use(
            {
                "faults": {
                    "createPrediction": [{"status": 429}, {"status": 502, "after": "commit"}]
                },
                "create_status": 201,
            }
        )
        assert [create(client, NAME).status_code for _ in range(3)] == [429, 502, 201]
        assert [exchange["committed"] for exchange in tenant.requests()] == [False, True, True]
        coverage = tenant.coverage()
        assert coverage["operations"]["met"]["createPredictionByVersion"] == 3
        assert coverage["inputs"]["met"]["createFluxKontextMaxPrediction/prompt"] == 2
        tenant.use("succeeded")
        named = client.post(
            BY_VERSION, json={"version": NAME, "input": {"prompt": "[mock:nsfw]"}}
        ).json()
        assert [client.get(named["urls"]["get"]).json()["status"] for _ in range(2)] == [
            "processing",
            "failed",
        ]
        waited = client.post(
            BY_VERSION, json={"version": NAME, **BODY}, headers={"Prefer": "wait"}
        ).json()
        assert waited["output"]

    def test_a_prediction_is_the_same_by_either_way(self, server: MockServer) -> None:
        shown = []
        for path, more in ((KONTEXT, {}), (BY_VERSION, {"version": NAME})):
            server.tenant("twice").reset()
            with httpx.Client(
                base_url=server.url, headers={"Authorization": "Bearer twice"}
            ) as client:
                told = client.post(path, json={**BODY, **more}).json()
            shown.append({name: value for name, value in told.items() if name != "created_at"})
        assert shown[0] == shown[1]

    def test_another_contract_may_be_without_it(self, tenant: Tenant) -> None:
        assert CONTRACT.paths[ULTRA][0].model == OTHER
        assert (
            CONTRACT.model_asked(CONTRACT.by_id["createPredictionByVersion"], {"version": []})
            is None
        )
