"""Every fault, as a plain client meets it on the wire."""

import contextlib
import json
import re
import socket
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import httpx
import pytest

from mockserver import MockServer, Tenant
from mockserver.coverage import FAULT_KINDS
from tests.documents import KONTEXT

BODY = json.dumps({"input": {"prompt": "a lighthouse"}}).encode()


def create(client: httpx.Client) -> httpx.Response:
    return client.post(KONTEXT, json={"input": {"prompt": "a lighthouse"}})


def use(tenant: Tenant, operation: str, *faults: dict[str, Any] | None) -> None:
    tenant.use({"faults": {operation: list(faults)}})


@contextlib.contextmanager
def sent(tenant: Tenant) -> Any:
    """A raw connection over which a create has been sent."""
    with socket.create_connection(("127.0.0.1", int(tenant.url.rpartition(":")[2])), timeout=10) as raw:
        head = [f"POST {KONTEXT} HTTP/1.1", "Host: double", f"Authorization: Bearer {tenant.token}"]
        head += ["Content-Type: application/json", f"Content-Length: {len(BODY)}", "", ""]
        raw.sendall("\r\n".join(head).encode() + BODY)
        yield raw


def received(raw: socket.socket) -> bytes:
    """All that arrives until the other side ends or resets the connection."""
    data = b""
    while chunk := raw.recv(65536):
        data += chunk
    return data


@pytest.fixture(autouse=True)
def undisturbed(server: MockServer, capfd: pytest.CaptureFixture[str]) -> Any:
    """Whatever was done to one client, others are served, and nothing is said on standard error."""
    yield
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer bystander"}) as bystander:
        assert create(bystander).status_code == 200
    assert capfd.readouterr().err == ""


class TestHttpErrors:
    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504])
    @pytest.mark.parametrize("dialect", ["upstream", "gateway"])
    def test_an_error_has_the_shape_of_the_api(
        self, client: httpx.Client, tenant: Tenant, status: int, dialect: str
    ) -> None:
        tenant.use({"faults": {"createPrediction": [{"status": status, "detail": "Told so."}]}, "errors": dialect})
        answer = create(client)
        assert answer.status_code == status
        body = answer.json()
        assert (body["detail"] if dialect == "upstream" else body["error"]["message"]) == "Told so."
        assert create(client).status_code == 200

    def test_without_a_sentence_of_its_own_it_has_the_contracts(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"status": 402})
        assert create(client).json()["title"] == "Insufficient credit"

    def test_a_proxy_answers_with_a_page(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"status": 502, "page": "html"})
        answer = create(client)
        assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
        assert "<h1>502 Bad Gateway</h1>" in answer.text

    def test_an_error_may_have_no_body(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"status": 429, "page": "empty"})
        answer = create(client)
        assert (answer.status_code, answer.content) == (429, b"")

    @pytest.mark.parametrize(("given", "told"), [(1, "1"), (0.5, "0.5"), (86400, "86400"), ("soon", "soon")])
    def test_retry_after_is_sent_in_seconds_or_as_it_stands(
        self, client: httpx.Client, tenant: Tenant, given: float | str, told: str
    ) -> None:
        use(tenant, "createPrediction", {"status": 429, "retry_after": given})
        answer = create(client)
        assert answer.headers["retry-after"] == told
        if not isinstance(given, str):
            assert answer.json()["retry_after"] == given

    def test_retry_after_may_be_an_http_date(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"status": 503, "retry_after_date": 60})
        answer = create(client)
        wait = parsedate_to_datetime(answer.headers["retry-after"]) - parsedate_to_datetime(answer.headers["date"])
        assert 58 <= wait.total_seconds() <= 62

    def test_an_error_before_the_commit_leaves_no_prediction_one_after_it_does(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, "createPrediction", {"status": 500}, {"status": 500, "after": "commit"})
        assert create(client).status_code == 500
        assert tenant.predictions() == []
        assert create(client).status_code == 500
        assert len(tenant.predictions()) == 1
        assert [exchange["committed"] for exchange in tenant.requests()] == [False, True]


class TestConnections:
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_closed_connection_brings_nothing(self, tenant: Tenant, after: str | None) -> None:
        use(tenant, "createPrediction", {"disconnect": "close", **({"after": after} if after else {})})
        with sent(tenant) as raw:
            assert received(raw) == b""
        assert len(tenant.predictions()) == (1 if after else 0)

    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_reset_connection_is_reset(self, tenant: Tenant, after: str | None) -> None:
        use(tenant, "createPrediction", {"disconnect": "reset", **({"after": after} if after else {})})
        with sent(tenant) as raw, pytest.raises(ConnectionResetError):
            received(raw)
        assert len(tenant.predictions()) == (1 if after else 0)

    def test_the_journal_tells_of_the_answer_that_never_came(self, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"disconnect": "reset", "after": "commit"})
        with sent(tenant) as raw, pytest.raises(ConnectionResetError):
            received(raw)
        (exchange,) = tenant.requests()
        assert exchange["fault"] == {"disconnect": "reset", "after": "commit"}
        assert (exchange["response"]["status"], exchange["committed"]) == (0, True)
        assert exchange["prediction"] == tenant.predictions()[0]["id"]


class TestBodies:
    @pytest.mark.parametrize("share", [0, 0.5, 0.99])
    def test_a_cut_body_is_short_of_its_length(self, tenant: Tenant, share: float) -> None:
        use(tenant, "createPrediction", {"cut": share})
        with sent(tenant) as raw:
            head, _, body = received(raw).partition(b"\r\n\r\n")
        promised = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        assert len(body) == int(promised * share)
        assert len(tenant.predictions()) == 1

    def test_clients_notice_the_cut(self, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"cut": 0.5})
        connection = HTTPConnection(tenant.url.removeprefix("http://"))
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {tenant.token}"}
        connection.request("POST", KONTEXT, BODY, headers)
        with pytest.raises(IncompleteRead):
            connection.getresponse().read()
        connection.close()

    def test_a_stalled_body_comes_in_part_and_then_no_further(self, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"stall": 0.5})
        with sent(tenant) as raw:
            data = b""
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 300:
                data += raw.recv(65536)
            raw.settimeout(0.2)
            with pytest.raises(TimeoutError):
                raw.recv(1)

    def test_a_dripping_body_comes_whole_in_pieces(self, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"drip": 0.2})
        headers = {"Authorization": f"Bearer {tenant.token}"}
        with httpx.stream("POST", tenant.url + KONTEXT, json=json.loads(BODY), headers=headers) as answer:
            pieces = list(answer.iter_raw())
        assert len(pieces) > 3
        assert json.loads(b"".join(pieces))["status"] == "starting"

    def test_a_malformed_body_is_whole_http_and_no_json(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"body": "malformed"})
        answer = create(client)
        assert answer.status_code == 200
        assert len(answer.content) == int(answer.headers["content-length"])
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        assert create(client).json()["status"] == "starting"

    def test_an_empty_body_is_empty(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"body": "empty"})
        answer = create(client)
        assert (answer.status_code, answer.content) == (200, b"")


class TestDelays:
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_delayed_answer_comes_no_sooner(self, client: httpx.Client, tenant: Tenant, after: str | None) -> None:
        use(tenant, "createPrediction", {"delay": 0.15, **({"after": after} if after else {})})
        answer = create(client)
        assert answer.json()["status"] == "starting"
        assert answer.elapsed.total_seconds() >= 0.15

    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_client_that_leaves_in_the_meantime_has_a_prediction_only_after_the_commit(
        self, client: httpx.Client, tenant: Tenant, after: str | None
    ) -> None:
        use(tenant, "createPrediction", {"delay": 60, **({"after": after} if after else {})})
        with pytest.raises(httpx.ReadTimeout):
            client.post(KONTEXT, json=json.loads(BODY), timeout=0.2)
        while not tenant.requests():
            pass  # the double notices that the client is gone
        assert len(tenant.predictions()) == (1 if after else 0)

    def test_a_delay_goes_with_another_fault(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"delay": 0.1, "status": 503})
        answer = create(client)
        assert answer.status_code == 503
        assert answer.elapsed.total_seconds() >= 0.1


class TestScripts:
    def test_faults_are_consumed_in_order_one_per_exchange_then_all_is_normal(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, "createPrediction", {"status": 429}, None, {"status": 503, "times": 2}, None, {"status": 500})
        assert [create(client).status_code for _ in range(8)] == [429, 200, 503, 503, 200, 500, 200, 200]

    def test_an_endless_fault_does_not_end(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", None, {"status": 503, "times": "always"})
        assert [create(client).status_code for _ in range(5)] == [200, 503, 503, 503, 503]

    def test_each_operation_has_its_own_and_a_star_stands_for_the_rest(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use({"faults": {"getPrediction": [{"status": 502}], "*": [None, {"status": 500}]}})
        identifier = create(client).json()["id"]
        get = f"/replicate/v1/predictions/{identifier}"
        told = [client.get(get), client.post(get + "/cancel"), client.get("/replicate/v1/predictions"), client.get(get)]
        assert [answer.status_code for answer in told] == [502, 500, 200, 200]

    def test_a_single_model_can_be_meant(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createFlux11ProUltraPrediction", {"status": 500})
        assert create(client).status_code == 200
        assert client.post(KONTEXT.replace("kontext-max", "1.1-pro-ultra"), json=json.loads(BODY)).status_code == 500

    def test_laying_a_scenario_down_anew_starts_its_faults_anew(self, client: httpx.Client, tenant: Tenant) -> None:
        for _ in range(2):
            use(tenant, "createPrediction", {"status": 500})
            assert [create(client).status_code for _ in range(2)] == [500, 200]

    def test_the_verdict_lists_the_faults_never_met(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, "createPrediction", {"status": 500}, None, {"status": 503, "times": 2})
        create(client)
        assert [unused["number"] for unused in tenant.verdict()["unused_faults"]] == [2]
        for _ in range(3):
            create(client)
        assert tenant.verdict()["unused_faults"] == []

    def test_every_kind_of_fault_has_been_shown_here(self) -> None:
        here = Path(__file__).read_text()
        assert [kind for kind in FAULT_KINDS if f'{{"{kind}": ' not in here] == []
