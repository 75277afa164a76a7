"""The API as a client meets it: the documents' own requests, from create to picture, and every refusal."""

import io
import json
import re
import threading
from base64 import b64encode
from typing import Any, ClassVar

import httpx
import pytest
from PIL import Image

from mockserver import MockServer, Tenant
from tests.helpers.documents import CONTRACT, DOCUMENTS, KONTEXT, ULTRA

each_document = pytest.mark.parametrize("name", DOCUMENTS)


def create(client: httpx.Client, path: str = ULTRA, **inputs: Any) -> dict[str, Any]:
    response = client.post(path, json={"input": {"prompt": "a lighthouse", **inputs}})
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def finished(client: httpx.Client, path: str = ULTRA, **inputs: Any) -> dict[str, Any]:
    prediction = create(client, path, **inputs)
    client.get(prediction["urls"]["get"])
    prediction = client.get(prediction["urls"]["get"]).json()
    assert prediction["status"] == "succeeded"
    return prediction  # type: ignore[no-any-return]


def picture_of(client: httpx.Client, prediction: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(client.get(prediction["output"]).content))


def data_uri(width: int, height: int, kind: str = "png") -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind)
    return f"data:image/{kind};base64,{b64encode(out.getvalue()).decode()}"


def pointers(response: httpx.Response) -> list[str]:
    return [field["pointer"] for field in response.json()["invalid_fields"]]


class TestThePath:
    """From create to picture."""

    @each_document
    def test_the_sample_request_is_answered_with_the_sample_response(
        self, client: httpx.Client, name: str
    ) -> None:
        document = DOCUMENTS[name]
        (request,), (sample,) = document["request"]["examples"], document["response_examples"]
        response = client.post(document["path"], json=request)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        received, origin = response.json(), str(client.base_url).rstrip("/")
        assert list(received) == list(sample)
        own = {"id", "created_at", "urls"}
        assert {key: received[key] for key in received.keys() - own} == {
            key: sample[key] for key in sample.keys() - own
        }
        assert received["urls"] == {
            "cancel": f"{origin}/replicate/v1/predictions/{received['id']}/cancel",
            "get": f"{origin}/replicate/v1/predictions/{received['id']}",
            "stream": f"{origin}/v1/files/bcwr-{received['id']}",
            "web": f"{origin}/p/{received['id']}",
        }
        assert received["urls"].keys() == sample["urls"].keys()
        assert list(received["input"]) == sorted(received["input"])

    def test_a_prediction_goes_from_starting_over_processing_to_succeeded(
        self, client: httpx.Client
    ) -> None:
        received = [create(client, seed=29889)]
        received += [client.get(received[0]["urls"]["get"]).json() for _ in range(4)]
        assert [item["status"] for item in received] == [
            "starting",
            "processing",
            *["succeeded"] * 3,
        ]
        processing, succeeded = received[1], received[2]
        assert processing.keys() - received[0].keys() == {"started_at"}
        assert succeeded.keys() - processing.keys() == {"completed_at", "metrics"}
        assert succeeded["metrics"] == {"image_count": 1, "predict_time": 3.5}
        assert "Using seed: 29889\n" in processing["logs"]
        assert succeeded["logs"].startswith(processing["logs"])
        assert succeeded["output"].endswith("/output.jpg")
        assert received[3] == received[4] == succeeded

    @each_document
    def test_only_what_was_sent_is_echoed_unless_the_scenario_fills_defaults_in(
        self, client: httpx.Client, tenant: Tenant, name: str
    ) -> None:
        path = DOCUMENTS[name]["path"]
        (operation,) = CONTRACT.paths[path]
        assert create(client, path)["input"] == {"prompt": "a lighthouse"}
        tenant.use({"body": {"input": "effective"}})
        filled = create(client, path)
        assert filled["input"] == {**operation.defaults, "prompt": "a lighthouse"}
        assert list(filled["input"]) == sorted(filled["input"])
        tenant.use("succeeded")
        assert client.get(filled["urls"]["get"]).json()["input"] == filled["input"], (
            "a prediction keeps its own"
        )

    def test_ids_are_fresh_and_every_answer_is_what_the_contract_says(
        self, client: httpx.Client
    ) -> None:
        ids = {create(client)["id"] for _ in range(20)}
        assert len(ids) == 20
        listed = client.get("/replicate/v1/predictions").json()
        assert [item["id"] for item in listed["results"]] != sorted(ids)
        assert {item["id"] for item in listed["results"]} == ids
        assert (
            CONTRACT.by_id["listPredictions"].check_response(200, "application/json", listed) == []
        )

    def test_urls_point_at_the_address_that_the_client_used(self, tenant: Tenant) -> None:
        port = tenant.url.rpartition(":")[2]
        with httpx.Client(base_url=f"http://localhost:{port}") as client:
            assert create(client)["urls"]["get"].startswith(
                f"http://localhost:{port}/replicate/v1/predictions/"
            )

    @pytest.mark.parametrize("host", ['evil"><script>', "[1:2]", "[::::]", "[..]", "a b"])
    def test_a_host_header_that_is_no_host_is_not_repeated(
        self, client: httpx.Client, host: str
    ) -> None:
        response = client.post(ULTRA, json={"input": {"prompt": "p"}}, headers={"Host": host})
        assert response.json()["urls"]["get"].startswith(str(client.base_url).rstrip("/"))

    def test_an_address_of_ipv6_is_a_host(self, client: httpx.Client) -> None:
        response = client.post(ULTRA, json={"input": {"prompt": "p"}}, headers={"Host": "[::1]:80"})
        assert response.json()["urls"]["get"].startswith("http://[::1]:80/")

    def test_query_parameters_that_are_not_known_are_told_in_their_order(
        self, client: httpx.Client
    ) -> None:
        names = [f"n{number}" for number in range(20)]
        client.get("/replicate/v1/predictions?" + "&".join(f"{name}=1" for name in names))
        (exchange,) = client.get("/__admin/requests?limit=1").json()["requests"]
        assert [violation["pointer"] for violation in exchange["violations"]] == [
            f"?{name}" for name in names
        ]

    def test_a_get_may_carry_a_body_as_some_clients_send_one(self, client: httpx.Client) -> None:
        prediction = create(client)
        response = client.request(
            "GET",
            prediction["urls"]["get"],
            content=b"{}",
            headers={"Content-Type": "application/json"},
        )
        assert response.json()["status"] == "processing"


class TestCancel:
    @pytest.mark.parametrize("polls", [0, 1])
    def test_a_prediction_under_way_is_canceled_for_good(
        self, client: httpx.Client, polls: int
    ) -> None:
        prediction = create(client)
        for _ in range(polls):
            client.get(prediction["urls"]["get"])
        canceled = client.post(prediction["urls"]["cancel"])
        assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
        assert ("started_at" in canceled.json()) is (polls == 1)
        assert client.get(prediction["urls"]["get"]).json()["status"] == "canceled"

    def test_one_that_has_ended_is_answered_unchanged(self, client: httpx.Client) -> None:
        prediction = finished(client)
        assert client.post(prediction["urls"]["cancel"]).json() == prediction


class TestThePicture:
    @pytest.mark.parametrize(
        ("path", "inputs", "kind", "size"),
        [
            (ULTRA, {}, "JPEG", (2048, 2048)),
            (ULTRA, {"aspect_ratio": "16:9"}, "JPEG", (2752, 1536)),
            (ULTRA, {"aspect_ratio": "3:2", "output_format": "png"}, "PNG", (2496, 1664)),
            (KONTEXT, {}, "PNG", (1024, 1024)),
            (KONTEXT, {"aspect_ratio": "9:16", "output_format": "jpg"}, "JPEG", (752, 1392)),
            (KONTEXT, {"input_image": data_uri(300, 200)}, "PNG", (1248, 832)),
            (KONTEXT, {"input_image": data_uri(200, 300, "webp")}, "PNG", (832, 1248)),
            (
                KONTEXT,
                {"input_image": "https://example.com/never-fetched.png"},
                "PNG",
                (1024, 1024),
            ),
        ],
    )
    def test_it_has_the_format_and_the_ratio_asked_for(
        self,
        client: httpx.Client,
        path: str,
        inputs: dict[str, Any],
        kind: str,
        size: tuple[int, int],
    ) -> None:
        picture = picture_of(client, finished(client, path, **inputs))
        assert (picture.format, picture.size) == (kind, size)

    def test_an_earlier_picture_of_the_double_can_be_the_input_image(
        self, client: httpx.Client
    ) -> None:
        first = finished(client, ULTRA, aspect_ratio="21:9")
        picture = picture_of(client, finished(client, KONTEXT, input_image=first["output"]))
        assert picture.size == (1568, 672)

    def test_it_is_drawn_from_the_prediction_alone(self, client: httpx.Client) -> None:
        one, other = finished(client, KONTEXT), finished(client, KONTEXT)
        assert client.get(one["output"]).content == client.get(one["output"]).content
        assert client.get(one["output"]).content != client.get(other["output"]).content

    def test_head_and_ranges_and_tags_work_as_on_a_file_host(self, client: httpx.Client) -> None:
        url = finished(client, KONTEXT)["output"]
        whole, head = client.get(url), client.head(url)
        size = len(whole.content)
        assert head.content == b""
        for name in ("content-type", "content-length", "etag", "accept-ranges"):
            assert head.headers[name] == whole.headers[name]
        assert int(whole.headers["content-length"]) == size
        for requested, first, last in [
            ("0-9", 0, 9),
            ("10-", 10, size - 1),
            ("-7", size - 7, size - 1),
            (f"5-{size * 2}", 5, size - 1),
        ]:
            part = client.get(url, headers={"Range": f"bytes={requested}"})
            assert part.status_code == 206
            assert part.content == whole.content[first : last + 1]
            assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        beyond = client.get(url, headers={"Range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        assert client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
        changed = client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
        assert (changed.status_code, changed.content) == (200, whole.content)
        for nonsense in ("bytes=9-1", "bytes=a-b", "lines=0-1", "bytes=-", "bytes=0-1,3-4"):
            assert client.get(url, headers={"Range": nonsense}).status_code == 200

    def test_it_is_not_there_before_its_prediction_has_succeeded(
        self, client: httpx.Client
    ) -> None:
        identifier = create(client)["id"]
        response = client.get(f"/xezq/{identifier}/output.jpg")
        assert response.status_code == 404
        assert "starting" in response.json()["detail"]

    def test_it_is_public_but_only_in_its_own_format(self, client: httpx.Client) -> None:
        url = finished(client)["output"]
        assert httpx.get(url).status_code == 200
        assert httpx.get(url.replace(".jpg", ".png")).status_code == 404

    def test_the_page_for_people_shows_it_and_escapes_what_clients_sent(
        self, client: httpx.Client
    ) -> None:
        prediction = finished(client, prompt="<script>alert(1)</script>")
        page = client.get(prediction["urls"]["web"])
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f'<img alt="" src="{prediction["output"]}">' in page.text
        assert "<script>" not in page.text
        assert client.get("/p/" + "0" * 26).status_code == 404


class TestRefusals:
    def refuse(self, client: httpx.Client, **request: Any) -> httpx.Response:
        response = client.post(request.pop("path", KONTEXT), **request)
        assert response.status_code >= 400
        assert response.json()["detail"]
        (operation,) = CONTRACT.paths[KONTEXT]
        media_type = response.headers["content-type"]
        assert operation.check_response(response.status_code, media_type, response.json()) == []
        assert client.get("/replicate/v1/predictions").json()["results"] == []
        return response

    def test_a_body_that_is_not_json(self, client: httpx.Client) -> None:
        response = self.refuse(
            client, content=b'{"input": ', headers={"Content-Type": "application/json"}
        )
        assert response.status_code == 400
        assert "not valid JSON" in response.json()["detail"]

    @pytest.mark.parametrize(
        "body", [b'"\xff"', b'"\\ud800"', b"[NaN]", b"[1e999]", b"{'a': 1}", b"{} {}", b"\x00"]
    )
    def test_a_body_that_only_looks_like_json(self, client: httpx.Client, body: bytes) -> None:
        assert (
            self.refuse(
                client, content=body, headers={"Content-Type": "application/json"}
            ).status_code
            == 400
        )

    def test_numbers_beyond_64_bits_are_numbers(self, client: httpx.Client) -> None:
        body = b'{"input": {"prompt": "p", "seed": 123456789012345678901234567890}}'
        response = client.post(KONTEXT, content=body, headers={"Content-Type": "application/json"})
        assert response.json()["input"]["seed"] == 123456789012345678901234567890
        assert client.get(response.json()["urls"]["web"]).status_code == 200

    def test_no_body(self, client: httpx.Client) -> None:
        response = self.refuse(client, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert "empty" in response.json()["detail"]

    @pytest.mark.parametrize("body", ["[]", "null", '"x"', "1"])
    def test_a_body_that_is_not_an_object(self, client: httpx.Client, body: str) -> None:
        response = self.refuse(client, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert "Expected: object" in response.json()["detail"]

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
    def test_a_body_of_another_type(self, client: httpx.Client, kind: str | None) -> None:
        response = self.refuse(
            client, content=b"{}", headers={"Content-Type": kind} if kind else {}
        )
        assert response.status_code == 415
        assert "application/json" in response.json()["detail"]

    def test_a_content_type_with_a_charset_is_taken(self, client: httpx.Client) -> None:
        body = json.dumps({"input": {"prompt": "p"}})
        response = client.post(
            KONTEXT, content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}
        )
        assert response.status_code == 200

    def test_every_fault_is_listed_with_its_place(self, client: httpx.Client) -> None:
        inputs = {
            "aspect_ratio": "7:1",
            "output_format": "gif",
            "safety_tolerance": 7,
            "prompt_upsampling": "yes",
            "seed": None,
            "input_image": "ftp://example.com/a.png",
        }
        response = self.refuse(client, json={"input": inputs})
        assert response.status_code == 422
        assert set(pointers(response)) == {"/input/prompt", *(f"/input/{name}" for name in inputs)}
        assert (
            '- input.output_format: output_format must be one of the following: "jpg", "png"\n'
            in response.json()["detail"]
        )
        assert "- input: prompt is required\n" in response.json()["detail"]
        assert (
            "- input.seed: Invalid type. Expected: integer, given: null\n"
            in response.json()["detail"]
        )

    def test_more_tolerance_than_an_input_image_allows(self, client: httpx.Client) -> None:
        inputs = {"prompt": "p", "input_image": "https://example.com/a.png", "safety_tolerance": 3}
        response = self.refuse(client, json={"input": inputs})
        assert pointers(response) == ["/input/safety_tolerance"]
        assert "less than or equal to 2" in response.json()["detail"]

    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            ("data:image/png;base64,!!!", "base64"),
            ("data:image/png;base64,aGVsbG8=", "jpeg, png, gif or webp"),
            ("data:image/tiff;base64,aGVsbG8=", "pattern"),
            ("data:image/png,plain", "pattern"),
            ("data:image/png;base64,", "jpeg, png, gif or webp"),
        ],
    )
    def test_a_data_uri_that_is_no_picture(
        self, client: httpx.Client, uri: str, message: str
    ) -> None:
        response = self.refuse(client, json={"input": {"prompt": "p", "input_image": uri}})
        assert response.status_code == 422
        assert set(pointers(response)) == {"/input/input_image"}
        assert message in response.json()["detail"]

    def test_a_picture_and_another_fault_are_reported_together(self, client: httpx.Client) -> None:
        inputs = {"prompt": 1, "input_image": "data:image/png;base64,aGVsbG8="}
        assert set(pointers(self.refuse(client, json={"input": inputs}))) == {
            "/input/prompt",
            "/input/input_image",
        }

    def test_a_body_over_the_limit(self, client: httpx.Client) -> None:
        prompt = "x" * CONTRACT.max_body
        response = self.refuse(client, json={"input": {"prompt": prompt}})
        assert response.status_code == 413
        assert str(CONTRACT.max_body) in response.json()["detail"]

    def test_a_body_whose_length_is_not_announced_is_bounded_too(
        self, client: httpx.Client
    ) -> None:
        chunks = (b" " * 65536 for _ in range(CONTRACT.max_body // 65536 + 1))
        response = self.refuse(client, content=chunks, headers={"Content-Type": "application/json"})
        assert response.status_code == 413

    def test_json_nested_too_deep(self, client: httpx.Client) -> None:
        body = b'{"input":' * 5000 + b"1" + b"}" * 5000
        response = self.refuse(client, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400

    def test_a_model_that_is_not_there(self, client: httpx.Client) -> None:
        path = KONTEXT.replace("kontext-max", "kontext-mox")
        response = self.refuse(client, path=path, json={"input": {"prompt": "p"}})
        assert response.status_code == 404
        assert response.json()["detail"].startswith("The requested resource could not be found.")
        assert f"POST {KONTEXT}" in response.json()["detail"]

    @pytest.mark.parametrize("identifier", ["0" * 26, "nonsense", "a%2Fb", "…"])
    def test_a_prediction_that_is_not_there(self, client: httpx.Client, identifier: str) -> None:
        for response in (
            client.get(f"/replicate/v1/predictions/{identifier}"),
            client.post(f"/replicate/v1/predictions/{identifier}/cancel"),
        ):
            assert response.status_code == 404
            assert response.json()["status"] == 404

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [("GET", KONTEXT, "POST"), ("DELETE", "/replicate/v1/predictions", "GET, POST")],
    )
    def test_a_method_that_is_not_there(
        self, client: httpx.Client, method: str, path: str, allow: str
    ) -> None:
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, allow)
        assert response.json()["detail"].startswith(f'Method "{method}" not allowed.')

    @pytest.mark.parametrize("authorization", ["Token", "Basic YTpi", "Bearer", "abc"])
    def test_a_token_of_another_scheme(self, tenant: Tenant, authorization: str) -> None:
        response = httpx.get(
            tenant.base_url + "/v1/predictions", headers={"Authorization": authorization}
        )
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["title"] == "Unauthenticated"
        assert response.json()["detail"] == (
            "You did not pass a valid authentication token. Send Authorization: Bearer <token>."
        )

    def test_the_scheme_token_names_the_tenant_is_answered_and_written_down(
        self, server: MockServer
    ) -> None:
        tenant = server.tenant()
        headers = {"Authorization": f"Token {tenant.token}"}
        with httpx.Client(base_url=server.url, headers=headers) as client:
            prediction = create(client)
            assert client.get(prediction["urls"]["get"]).json()["status"] == "processing"
            assert client.post(KONTEXT, json={"input": {}}).status_code == 422
        assert [item["id"] for item in tenant.predictions()] == [prediction["id"]]
        received = [
            (item["kind"], item["fatal"], item["sent"]) for item in tenant.verdict()["violations"]
        ]
        assert received == [("authorization", False, '"Token"')] * 3 + [
            ("required", True, "nothing")
        ]
        assert tenant.token not in str(tenant.requests()).replace(tenant.token[:6], "")

    def test_a_strict_double_refuses_that_scheme(self) -> None:
        with MockServer(strict=True) as server:
            tenant = server.tenant()
            headers = {"Authorization": f"token {tenant.token}"}
            assert (
                httpx.get(server.base_url + "/v1/predictions", headers=headers).status_code == 401
            )
            assert tenant.verdict()["violations"][0]["pointer"] == "Authorization:"

    def test_no_token_is_the_anonymous_tenant(self, server: MockServer) -> None:
        assert httpx.get(server.base_url + "/v1/predictions").status_code == 200

    @pytest.mark.parametrize("prefer", ["wait=0", "wait=100", "wait=x", "return=minimal"])
    def test_a_preference_that_is_none(self, client: httpx.Client, prefer: str) -> None:
        response = self.refuse(client, json={"input": {"prompt": "p"}}, headers={"Prefer": prefer})
        assert pointers(response) == ["Prefer:"]


class TestUnknownFields:
    body: ClassVar = {"input": {"prompt": "p", "num_outputs": 1, "size": "1x1"}}

    def test_they_are_answered_echoed_and_written_down(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        response = client.post(KONTEXT, json=self.body)
        assert response.status_code == 200
        assert response.json()["input"]["num_outputs"] == 1
        (exchange,) = tenant.requests(violations=True)
        assert {fault["pointer"] for fault in exchange["violations"]} == {
            "/input/num_outputs",
            "/input/size",
        }
        assert not any(fault["fatal"] for fault in exchange["violations"])

    def test_beside_the_input_they_are_refused_as_upstream_refuses_them(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        response = client.post(KONTEXT, json={"input": {"seed": "x"}, "model": "flux"})
        assert response.status_code == 422
        assert response.json()["detail"].splitlines() == [
            "- input: prompt is required",
            "- Additional property model is not allowed",
            "- input.seed: Invalid type. Expected: integer, given: string",
        ]
        assert [field["field"] for field in response.json()["invalid_fields"]] == [
            "input",
            "",
            "input.seed",
        ]
        assert tenant.predictions() == []

    def test_a_strict_double_refuses_them(self) -> None:
        with MockServer(strict=True) as server:
            response = httpx.post(server.url + KONTEXT, json=self.body)
            assert response.status_code == 422
            assert set(pointers(response)) == {"/input/num_outputs", "/input/size"}
            response = httpx.get(server.base_url + "/v1/predictions?page=2")
            assert (response.status_code, pointers(response)) == (422, ["?page"])


class TestServerOptions:
    def test_require_auth_refuses_requests_without_a_token(self) -> None:
        with MockServer(require_auth=True) as server:
            assert httpx.get(server.base_url + "/v1/predictions").status_code == 401
            headers = {"Authorization": "Bearer any"}
            assert (
                httpx.get(server.base_url + "/v1/predictions", headers=headers).status_code == 200
            )
            assert httpx.get(server.url + "/openapi.json").status_code == 200

    def test_documented_urls_are_those_of_the_samples(self) -> None:
        with MockServer(urls="documented") as server, httpx.Client(base_url=server.url) as client:
            received = create(client)
            (sample,) = DOCUMENTS["flux-1.1-pro-ultra"]["response_examples"]
            for name, url in received["urls"].items():
                if name == "stream":
                    assert url == f"https://stream.replicate.com/v1/files/bcwr-{received['id']}"
                else:
                    assert url == sample["urls"][name].replace(sample["id"], received["id"])

    def test_foreign_urls_lead_to_a_decoy_that_refuses_and_writes_down(self) -> None:
        with MockServer(urls="foreign") as server, httpx.Client(base_url=server.url) as client:
            tenant = server.tenant()
            client.headers["Authorization"] = f"Bearer {tenant.token}"
            url = create(client)["urls"]["get"]
            assert not url.startswith(server.url)
            assert client.get(url).status_code == 401
            foreign = [
                exchange for exchange in tenant.requests() if exchange["arrived_at"] == "foreign"
            ]
            assert [exchange["request"]["path"] for exchange in foreign] == [httpx.URL(url).path]
            assert tenant.verdict()["ok"]

    @pytest.mark.parametrize("dialect", ["new-api", "gateway"])  # the former name is accepted too
    def test_the_gateways_error_dialect(self, dialect: Any) -> None:
        with MockServer(errors=dialect) as server, httpx.Client(base_url=server.url) as client:
            response = client.post(KONTEXT, json={"input": {"prompt": 1}})
            assert response.status_code == 422
            error = response.json()["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", "input.prompt")
            assert error["metadata"]["invalid_fields"][0]["pointer"] == "/input/prompt"
            response = client.get("/replicate/v1/predictions/" + "0" * 26)
            assert response.json()["error"]["message"].startswith("Invalid URL")

    def test_the_contract_is_served_as_it_is(self, server: MockServer) -> None:
        assert httpx.get(server.url + "/openapi.yaml").content == CONTRACT.source
        assert httpx.get(server.url + "/openapi.json").json() == CONTRACT.document


class TestTheList:
    def test_it_is_paged_with_cursors_newest_first(self, client: httpx.Client) -> None:
        ids = [create(client)["id"] for _ in range(250)]
        page = client.get("/replicate/v1/predictions").json()
        seen, pages = [], [page]
        while page["next"]:
            page = client.get(page["next"]).json()
            pages.append(page)
        for item in pages:
            seen += [prediction["id"] for prediction in item["results"]]
        assert seen == ids[::-1]
        assert [len(item["results"]) for item in pages] == [100, 100, 50]
        back = client.get(pages[2]["previous"]).json()
        assert [item["id"] for item in back["results"]] == ids[::-1][100:200]
        assert pages[0]["previous"] is None

    def test_it_can_be_asked_for_those_created_in_a_time(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.freeze("2025-01-01T00:00:00Z")
        ids = []
        for _ in range(150):
            ids.append(create(client)["id"])
            tenant.advance(1)
        half = {
            "created_after": "2025-01-01T00:00:10+00:00",
            "created_before": "2025-01-01T01:02:10+01:00",
        }
        page = client.get("/replicate/v1/predictions", params=half).json()
        seen = [item["id"] for item in page["results"]]
        assert page["previous"] is None
        page = client.get(page["next"]).json()
        seen += [item["id"] for item in page["results"]]
        assert seen == ids[10:130][::-1]
        assert page["next"] is None
        assert client.get(page["previous"]).json()["results"][0]["id"] == seen[0]
        assert client.get("/replicate/v1/predictions?source=web").json()["results"] == []
        assert tenant.verdict()["ok"]

    @pytest.mark.parametrize(
        "query",
        ["created_after=yesterday", "created_before=2025-01-01", "source=api", "created_after="],
    )
    def test_a_time_that_is_none_is_refused(self, client: httpx.Client, query: str) -> None:
        response = client.get(f"/replicate/v1/predictions?{query}")
        assert (response.status_code, pointers(response)) == (422, [f"?{query.partition('=')[0]}"])

    @pytest.mark.parametrize(
        "time",
        ["2025-12-31T23:59:60Z", "2025-01-01t00:00:00z", "2025-01-01T00:00:00.1234567890123Z"],
    )
    def test_an_odd_time_is_understood_or_refused(self, client: httpx.Client, time: str) -> None:
        assert client.get(f"/replicate/v1/predictions?created_after={time}").status_code in (
            200,
            422,
        )

    @pytest.mark.parametrize("cursor", ["nonsense", "YWZ0ZXIgeHh4", "%00"])
    def test_a_cursor_that_is_none_is_not_found(self, client: httpx.Client, cursor: str) -> None:
        response = client.get(f"/replicate/v1/predictions?cursor={cursor}")
        assert response.status_code == 404
        assert "cursor" in response.json()["detail"]


def test_variety_reaches_headers_timestamps_and_inner_objects(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.use("variety")
    created = client.post(ULTRA, json={"input": {"prompt": "a cat"}})
    result = client.get(f"/replicate/v1/predictions/{created.json()['id']}")
    assert created.headers["x-served-by"] == result.headers["x-served-by"] == "cache-7"
    assert re.fullmatch(r".*T\d\d:\d\d:\d\d\.\d{6}Z", result.json()["created_at"])
    assert "stream" not in result.json()["urls"]


def test_the_seed_2_0_is_the_seed_2(client: httpx.Client, tenant: Tenant) -> None:
    tenant.use({"wait": "final"})
    logs = []
    for seed in ("2", "2.0", "2e0"):
        body = f'{{"input": {{"prompt": "p", "seed": {seed}}}}}'
        received = client.post(
            ULTRA, content=body, headers={"Content-Type": "application/json", "Prefer": "wait"}
        )
        logs.append(received.json()["logs"])
    assert "Using seed: 2\n" in logs[0]
    assert logs == [logs[0]] * 3


def test_exchanges_are_numbered_as_they_arrive(client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze()
    waiting = threading.Thread(
        target=lambda: httpx.post(
            str(client.base_url) + ULTRA,
            json={"input": {"prompt": "p"}},
            headers={**client.headers, "Prefer": "wait"},
        )
    )
    waiting.start()
    while not tenant.predictions():
        pass
    client.get("/replicate/v1/predictions")
    assert [exchange["number"] for exchange in tenant.requests()] == [2], (
        "the first has no answer yet"
    )
    tenant.advance(10)
    waiting.join()
    received = [
        (exchange["number"], exchange["request"]["method"]) for exchange in tenant.requests()
    ]
    assert received == [(1, "POST"), (2, "GET")]
