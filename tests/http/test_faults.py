"""Each fault on the wire, as a plain client sees it: status line, bytes, and how the connection ends."""

import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

import httpx
import pytest

from mockserver import AdminError, Body, Fault, MockServer, Scenario, Step, Tenant
from mockserver.contract.contract import Contract
from mockserver.scenarios.catalogue import Catalogue

CONTRACT = Contract.load()
CREATE = CONTRACT.by_id["createFluxKontextMaxPrediction"]
ULTRA = CONTRACT.by_id["createFlux11ProUltraPrediction"]
LIST = "/replicate/v1/predictions"
FILES = "/replicate/v1/files"
BODY = json.dumps({"input": {"prompt": "a lighthouse"}}).encode()
FOREVER = 30  # seconds; no test waits for them to pass
DEADLINE = 10  # seconds after which what a test waits for is not coming
EARLY = 0.005  # seconds by which the event loop's coarse timers may fire too soon

Json = dict[str, Any]


def use(
    tenant: Tenant, *faults: Json | None, operation: str = "createPrediction", **rest: Any
) -> None:
    tenant.use({"faults": {operation: list(faults)}, **rest})


def create(client: httpx.Client, path: str = CREATE.path) -> httpx.Response:
    return client.post(path, content=BODY, headers={"Content-Type": "application/json"})


def until(condition: Callable[[], Any]) -> Any:
    """What a condition comes to, once it comes to something."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if match := condition():
            return match
    raise AssertionError("it did not come true in time")


def met_everything(tenant: Tenant) -> bool:
    """Whether each fault has been met: from the moment that its exchange begins."""
    return not tenant.verdict()["unused_faults"]


class Wire:
    """A bare TCP connection of one tenant."""

    def __init__(self, raw: socket.socket, tenant: Tenant) -> None:
        self.raw = raw
        self._tenant = tenant

    def send(self, method: str = "POST", path: str = CREATE.path, body: bytes = BODY) -> None:
        head = [
            f"{method} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self._tenant.token}",
        ]
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        self.raw.sendall("\r\n".join(head).encode() + body)

    def head(self) -> tuple[bytes, bytes]:
        """The head of the answer, and what of its body came with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.raw.recv(65536)
            assert chunk, "the connection ended within the head"
            data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest

    def rest(self) -> list[bytes]:
        """What arrives until the other side ends the connection, read by read."""
        return list(iter(lambda: self.raw.recv(65536), b""))


@contextlib.contextmanager
def wire(tenant: Tenant) -> Iterator[Wire]:
    with socket.create_connection(
        ("127.0.0.1", int(tenant.url.rpartition(":")[2])), timeout=DEADLINE
    ) as raw:
        yield Wire(raw, tenant)


def length_in(head: bytes) -> int:
    match = re.search(rb"(?im)^content-length: (\d+)", head)
    assert match
    return int(match[1])


def ask(connection: HTTPConnection) -> HTTPResponse:
    connection.request("GET", LIST, headers={"Authorization": "Bearer bystander"})
    response = connection.getresponse()
    response.read()
    return response


@pytest.fixture(autouse=True)
def undisturbed(
    server: MockServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Whatever befalls one client: another's open connection goes on, new ones are taken, nothing is on stderr.

    What uvicorn logs would be on stderr outside pytest, which takes it aside.
    """
    bystander = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    newcomer = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    with contextlib.closing(bystander), contextlib.closing(newcomer):
        ask(bystander)
        same = bystander.sock
        yield
        assert ask(bystander).status == 200
        assert bystander.sock is same
        assert ask(newcomer).status == 200
    assert capfd.readouterr().err == ""
    assert logged(caplog.get_records("call")) == []


def logged(records: list[logging.LogRecord]) -> list[str]:
    return [
        record.getMessage() for record in records if record.name.startswith(("uvicorn", "asyncio"))
    ]


ERRORS = sorted(status for status in CREATE.responses if status >= 400)


class TestErrorStatus:
    @pytest.mark.parametrize("dialect", ["replicate", "new-api"])
    @pytest.mark.parametrize("status", ERRORS)
    def test_it_has_the_shape_that_the_contract_gives_it_in_each_dialect(
        self, client: httpx.Client, tenant: Tenant, status: int, dialect: str
    ) -> None:
        use(tenant, {"status": status}, errors=dialect)
        response = create(client)
        assert response.status_code == status
        assert (
            CREATE.check_response(status, response.headers["content-type"], response.json()) == []
        )
        assert response.json().keys() & {"detail", "error"} == {
            "detail" if dialect == "replicate" else "error"
        }
        assert tenant.predictions() == []
        assert create(client).status_code == 200

    @pytest.mark.parametrize(
        ("status", "dialect", "body"),
        [
            (402, "replicate", {"title": "Insufficient credit", "status": 402}),
            (
                404,
                "replicate",
                {"detail": "The requested resource could not be found.", "status": 404},
            ),
            (429, "replicate", {"status": 429, "retry_after": 1}),
            (401, "new-api", {"message": "无效的令牌", "type": "new_api_error", "code": ""}),
            (
                502,
                "new-api",
                {"type": "upstream_error", "param": "", "code": "bad_response_status_code"},
            ),
        ],
    )
    def test_without_a_sentence_of_its_own_it_has_the_contracts(
        self, client: httpx.Client, tenant: Tenant, status: int, dialect: str, body: Json
    ) -> None:
        use(tenant, {"status": status}, errors=dialect)
        sent = create(client).json()
        value = sent if dialect == "replicate" else sent["error"]
        assert {name: value[name] for name in body} == body

    def test_a_title_and_a_sentence_of_its_own_replace_the_contracts(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 402, "title": "Free time limit reached", "detail": "Pay."}, None)
        assert create(client).json() == {
            "title": "Free time limit reached",
            "detail": "Pay.",
            "status": 402,
        }

    def test_an_edge_says_it_in_a_line_of_text(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"status": 404, "page": "text"}, {"status": 503, "page": "text", "chance": 1})
        value = [create(client) for _ in range(2)]
        assert [(response.status_code, response.text) for response in value] == [
            (404, "response 404 (backend NotFound)"),
            (503, "response 503 (backend ServiceUnavailable)"),
        ]
        assert {response.headers["content-type"] for response in value} == {"text/plain"}

    def test_a_refused_token_is_a_problem_document_as_recorded(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 401})
        assert create(client).headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("dialect", ["replicate", "new-api"])
    def test_its_detail_is_told_word_for_word(
        self, client: httpx.Client, tenant: Tenant, dialect: str
    ) -> None:
        message = 'Come back "later": ünïcode, 您好 & <b>.'
        use(tenant, {"status": 500, "detail": message}, errors=dialect)
        sent = create(client).json()
        assert (sent["detail"] if dialect == "replicate" else sent["error"]["message"]) == message

    def test_its_detail_is_told_word_for_word_beside_a_retry_after_too(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429, "detail": "Resets in ~30s.", "retry_after": 1})
        assert create(client).json()["detail"] == "Resets in ~30s."

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_page_is_a_proxys(self, client: httpx.Client, tenant: Tenant, status: int) -> None:
        use(tenant, {"status": status, "page": "html"})
        response = create(client)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/html")
        assert CREATE.check_response(status, "text/html", response.text) == []
        assert f"<title>{status} " in response.text
        with pytest.raises(json.JSONDecodeError):
            response.json()

    def test_an_empty_page_has_neither_body_nor_type(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429, "page": "empty", "retry_after": 3})
        response = create(client)
        assert (response.status_code, response.content, response.headers["content-length"]) == (
            429,
            b"",
            "0",
        )
        assert "content-type" not in response.headers
        assert response.headers["retry-after"] == "3"

    def test_the_page_of_the_api_is_the_usual_one(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 500, "page": "api"}, {"status": 500})
        assert create(client).json() == create(client).json()

    def test_a_405_says_what_is_allowed(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"status": 405})
        assert create(client).headers.get("allow") == "POST"

    @pytest.mark.parametrize("after", [None, "commit"])
    def test_it_leaves_a_prediction_behind_only_after_the_commit(
        self, client: httpx.Client, tenant: Tenant, after: str | None
    ) -> None:
        use(tenant, {"status": 500} if after is None else {"status": 500, "after": "commit"})
        assert create(client).status_code == 500
        assert len(tenant.predictions()) == (0 if after is None else 1)
        assert tenant.requests()[0]["committed"] is (after is not None)

    def test_a_cancel_that_fails_after_the_commit_has_canceled(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(
            tenant,
            {"status": 503},
            {"status": 503, "after": "commit"},
            operation="cancelPrediction",
        )
        path = f"{LIST}/{create(client).json()['id']}/cancel"
        assert client.post(path).status_code == 503
        assert tenant.predictions()[0]["status"] == "starting"
        assert client.post(path).status_code == 503
        assert tenant.predictions()[0]["status"] == "canceled"


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("retry_after", "sent"),
        [(0, "0"), (1, "1"), (0.5, "0.5"), (30, "30"), (2.25, "2.25"), (86400, "86400")],
    )
    def test_seconds_are_sent_as_a_number(
        self, client: httpx.Client, tenant: Tenant, retry_after: float, sent: str
    ) -> None:
        use(tenant, {"status": 429, "retry_after": retry_after})
        response = create(client)
        assert response.headers["retry-after"] == sent
        assert response.json()["retry_after"] == retry_after

    @pytest.mark.parametrize(
        "retry_after", ["soon", "-1", "1,5", "Fri, 31 Feb 2025 99:00:00 GMT", '"1"', "1 ; s"]
    )
    def test_a_string_is_sent_as_it_stands_readable_or_not(
        self, client: httpx.Client, tenant: Tenant, retry_after: str
    ) -> None:
        use(tenant, {"status": 503, "retry_after": retry_after})
        assert create(client).headers["retry-after"] == retry_after

    @pytest.mark.parametrize("retry_after", ["1\r\nX-Injected: y", "1\n", "ü"])
    def test_a_string_that_is_no_header_is_refused(self, tenant: Tenant, retry_after: str) -> None:
        with pytest.raises(AdminError, match="/faults/createPrediction/0/retry_after"):
            use(tenant, {"status": 503, "retry_after": retry_after})

    def test_a_date_is_an_http_date_that_many_seconds_from_now(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 503, "retry_after_date": 60})
        before = time.time()
        sent = create(client).headers["retry-after"]
        after = time.time()
        assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", sent)
        assert (
            before + 60 <= parsedate_to_datetime(sent).timestamp() <= after + 61
        )  # whole seconds, rounded up

    def test_none_is_sent_unless_it_is_asked_for(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429})
        assert "retry-after" not in create(client).headers

    @pytest.mark.parametrize("requested", [{"retry_after_date": 30}, {"retry_after": "30"}])
    def test_the_body_does_not_name_an_earlier_time_than_the_header(
        self, client: httpx.Client, tenant: Tenant, requested: Json
    ) -> None:
        use(tenant, {"status": 429, **requested})
        body = create(client).json()
        assert body.get("retry_after", 30) >= 29
        assert "~1s" not in body["detail"]


class TestDelay:
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_the_answer_comes_whole_and_no_sooner(
        self, client: httpx.Client, tenant: Tenant, after: str | None
    ) -> None:
        use(tenant, {"delay": 0.05} if after is None else {"delay": 0.05, "after": "commit"})
        start = time.monotonic()
        response = create(client)
        assert time.monotonic() - start >= 0.05 - EARLY
        assert (response.status_code, response.json()["status"]) == (200, "starting")
        assert len(tenant.predictions()) == 1

    @pytest.mark.parametrize(
        "fault", [{"status": 503}, {"body": "malformed"}, {"cut": 0.5}, {"disconnect": "close"}]
    )
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_it_goes_before_any_other_fault(
        self, tenant: Tenant, fault: Json, after: str | None
    ) -> None:
        use(tenant, {"delay": 0.05, **fault, **({"after": after} if after else {})})
        start = time.monotonic()
        with wire(tenant) as bare:
            bare.send()
            bare.raw.recv(65536)
        assert time.monotonic() - start >= 0.05 - EARLY

    def test_a_client_that_leaves_before_a_plain_delay_ends_has_no_prediction(
        self, tenant: Tenant
    ) -> None:
        use(tenant, {"delay": FOREVER})
        with wire(tenant) as bare:
            bare.send()
            until(lambda: met_everything(tenant))
            assert tenant.predictions() == []
        (exchange,) = until(tenant.requests)
        assert (exchange["committed"], exchange["response"]["status"]) == (False, 0)
        assert tenant.predictions() == []

    def test_a_client_that_leaves_during_a_delay_after_the_commit_has_one(
        self, tenant: Tenant
    ) -> None:
        use(tenant, {"delay": FOREVER, "after": "commit"})
        with wire(tenant) as bare:
            bare.send()
            (before,) = until(tenant.predictions)
            bare.raw.settimeout(0.05)
            with pytest.raises(TimeoutError):
                bare.raw.recv(1)
        assert [item["id"] for item in tenant.predictions()] == [before["id"]]
        assert tenant.requests()[0]["committed"] is True


class TestDisconnect:
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_close_is_an_end_before_the_first_byte(
        self, tenant: Tenant, after: str | None
    ) -> None:
        use(
            tenant,
            {"disconnect": "close"}
            if after is None
            else {"disconnect": "close", "after": "commit"},
        )
        with wire(tenant) as bare:
            bare.send()
            assert bare.raw.recv(1) == b""
        assert len(tenant.predictions()) == (0 if after is None else 1)

    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_reset_is_a_reset(self, tenant: Tenant, after: str | None) -> None:
        use(
            tenant,
            {"disconnect": "reset"}
            if after is None
            else {"disconnect": "reset", "after": "commit"},
        )
        with wire(tenant) as bare:
            bare.send()
            with pytest.raises(ConnectionResetError):
                bare.raw.recv(1)
        assert len(tenant.predictions()) == (0 if after is None else 1)

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_a_connection_that_has_served_before_is_ended_too(
        self, tenant: Tenant, how: str
    ) -> None:
        use(tenant, None, {"disconnect": how})
        with wire(tenant) as bare:
            bare.send()
            head, body = bare.head()
            while len(body) < length_in(head):
                body += bare.raw.recv(65536)
            bare.send()
            with (
                pytest.raises(ConnectionResetError) if how == "reset" else contextlib.nullcontext()
            ):
                assert bare.raw.recv(1) == b""
        assert len(tenant.predictions()) == 1

    def test_the_journal_tells_of_the_answer_that_never_came(self, tenant: Tenant) -> None:
        use(tenant, {"disconnect": "reset", "after": "commit"})
        with wire(tenant) as bare:
            bare.send()
            with pytest.raises(ConnectionResetError):
                bare.raw.recv(1)
        (exchange,) = tenant.requests()
        assert exchange["fault"] == {"disconnect": "reset", "after": "commit"}
        assert (exchange["response"]["status"], exchange["response"]["body"]) == (0, None)
        assert exchange["prediction"] == tenant.predictions()[0]["id"]

    def test_a_lost_cancel_has_canceled_only_after_the_commit(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        lost = {"disconnect": "close"}
        use(tenant, lost, {**lost, "after": "commit"}, operation="cancelPrediction")
        path = f"{LIST}/{create(client).json()['id']}/cancel"
        for expected in ("starting", "canceled"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.post(path)
            assert tenant.predictions()[0]["status"] == expected

    @pytest.mark.parametrize("operation", ["uploadFile", "deleteFile"])
    def test_files_can_be_lost_after_the_commit_too(
        self, client: httpx.Client, tenant: Tenant, operation: str
    ) -> None:
        use(tenant, {"disconnect": "close", "after": "commit"}, operation=operation)
        with contextlib.suppress(httpx.RemoteProtocolError):
            uploaded = client.post(FILES, files={"content": ("a.txt", b"a", "text/plain")}).json()
            client.delete(f"{FILES}/{uploaded['id']}")
        assert len(client.get(FILES).json()["results"]) == (1 if operation == "uploadFile" else 0)


class TestCut:
    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
    def test_fewer_bytes_come_than_were_promised_and_then_the_end(
        self, tenant: Tenant, share: float
    ) -> None:
        use(tenant, {"cut": share})
        with wire(tenant) as bare:
            bare.send()
            head, body = bare.head()
            body += b"".join(bare.rest())
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(body) == int(length_in(head) * share)
        assert len(body) < length_in(head)
        assert len(tenant.predictions()) == 1

    def test_a_client_that_counts_notices(self, tenant: Tenant) -> None:
        use(tenant, {"cut": 0.5})
        connection = HTTPConnection(tenant.url.removeprefix("http://"), timeout=DEADLINE)
        with contextlib.closing(connection):
            headers = {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {tenant.token}",
            }
            connection.request("POST", CREATE.path, BODY, headers)
            with pytest.raises(IncompleteRead):
                connection.getresponse().read()

    def test_a_picture_can_be_cut_as_well(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"cut": 0.5}, operation="getOutputFile", lifecycle=[{"status": "succeeded"}])
        output = create(client).json()["output"]
        with pytest.raises(
            httpx.RemoteProtocolError, match="without sending complete message body"
        ):
            client.get(output)
        assert client.get(output).content.startswith(b"\x89PNG")


class TestStall:
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_head_and_part_of_the_body_come_and_then_nothing_until_the_client_hangs_up(
        self, tenant: Tenant, share: float
    ) -> None:
        use(tenant, {"stall": share})
        with wire(tenant) as bare:
            bare.send()
            head, body = bare.head()
            wanted = int(length_in(head) * share)
            while len(body) < wanted:
                body += bare.raw.recv(65536)
            bare.raw.settimeout(0.1)
            with pytest.raises(TimeoutError):
                bare.raw.recv(1)
        assert len(body) == wanted < length_in(head)
        assert len(tenant.predictions()) == 1
        assert tenant.requests()[0]["fault"] == {"stall": share}

    def test_others_are_served_in_the_meantime(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"stall": 0.5})
        with wire(tenant) as bare:
            bare.send()
            bare.head()
            assert create(client).json()["status"] == "starting"


class TestDrip:
    def test_the_body_comes_whole_in_several_reads_over_the_time_said(self, tenant: Tenant) -> None:
        use(tenant, {"drip": 0.3})
        start = time.monotonic()
        with wire(tenant) as bare:
            bare.send()
            head, body = bare.head()
            pieces = [body] if body else []
            while sum(map(len, pieces)) < length_in(head):
                pieces.append(bare.raw.recv(65536))
        assert time.monotonic() - start >= 0.25  # the last piece is not waited after
        assert len(pieces) > 2
        assert json.loads(b"".join(pieces))["status"] == "starting"

    def test_a_client_that_leaves_half_way_has_a_prediction(self, tenant: Tenant) -> None:
        use(tenant, {"drip": FOREVER})
        with wire(tenant) as bare:
            bare.send()
            head, body = bare.head()
            assert len(body) < length_in(head)
        assert len(tenant.predictions()) == 1


class TestBody:
    def test_a_malformed_one_is_whole_http_and_broken_json(self, tenant: Tenant) -> None:
        use(tenant, {"body": "malformed"})
        connection = HTTPConnection(tenant.url.removeprefix("http://"), timeout=DEADLINE)
        with contextlib.closing(connection):
            headers = {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {tenant.token}",
            }
            connection.request("POST", CREATE.path, BODY, headers)
            response = connection.getresponse()
            body = response.read()
            assert (response.status, response.headers["content-type"]) == (200, "application/json")
            assert len(body) == int(response.headers["content-length"]) > 0
            with pytest.raises(json.JSONDecodeError):
                json.loads(body)
            same = connection.sock
            connection.request("POST", CREATE.path, BODY, headers)
            assert json.loads(connection.getresponse().read())["status"] == "starting"
            assert connection.sock is same
        assert len(tenant.predictions()) == 2

    def test_an_empty_one_is_of_no_length(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"body": "empty"})
        response = create(client)
        assert (response.status_code, response.content, response.headers["content-length"]) == (
            200,
            b"",
            "0",
        )
        assert len(tenant.predictions()) == 1
        assert create(client).json()["status"] == "starting"

    def test_a_look_whose_answer_is_spoilt_was_a_look(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"body": "malformed"}, operation="getPrediction")
        path = f"{LIST}/{create(client).json()['id']}"
        assert client.get(path).status_code == 200
        assert client.get(path).json()["status"] == "succeeded"


class TestScripts:
    def test_faults_are_met_in_order_one_per_exchange_and_then_all_is_normal(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429}, {"status": 500}, {"status": 503})
        assert [create(client).status_code for _ in range(5)] == [429, 500, 503, 200, 200]

    def test_null_stands_for_an_exchange_without_one(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, None, {"status": 429}, None, None, {"status": 500})
        assert [create(client).status_code for _ in range(6)] == [200, 429, 200, 200, 500, 200]

    def test_times_repeats_one(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"status": 429, "times": 3}, {"status": 500, "times": 1})
        assert [create(client).status_code for _ in range(5)] == [429, 429, 429, 500, 200]

    def test_always_does_not_end(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, None, {"status": 503, "times": "always"})
        assert [create(client).status_code for _ in range(12)] == [200] + [503] * 11

    def test_every_kind_may_follow_every_other_on_the_wire(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(
            tenant,
            {"disconnect": "reset"},
            {"body": "empty"},
            {"cut": 0.5},
            {"status": 500},
            {"disconnect": "close"},
        )
        met = []
        for _ in range(6):
            try:
                met.append(str(create(client).status_code))
            except httpx.TransportError as trouble:
                met.append(type(trouble).__name__)
        assert met == [
            "ReadError",
            "200",
            "RemoteProtocolError",
            "500",
            "RemoteProtocolError",
            "200",
        ]
        assert len(tenant.predictions()) == 3

    def test_a_star_stands_for_each_operation_without_a_list_of_its_own(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use(
            {
                "faults": {
                    "getPrediction": [{"status": 502}],
                    "*": [None, {"status": 500, "times": 2}],
                }
            }
        )
        get = f"{LIST}/{create(client).json()['id']}"
        requested = [
            ("GET", get),
            ("POST", get + "/cancel"),
            ("GET", get),
            ("GET", LIST),
            ("GET", LIST),
        ]
        met = [client.request(method, path).status_code for method, path in requested]
        assert met == [502, 500, 200, 500, 200]

    def test_an_operations_own_list_comes_before_that_of_its_kind(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        tenant.use(
            {
                "faults": {
                    ULTRA.operation_id: [{"status": 500}],
                    "createPrediction": [{"status": 502}],
                }
            }
        )
        met = [
            create(client, path).status_code
            for path in (ULTRA.path, CREATE.path, ULTRA.path, CREATE.path)
        ]
        assert met == [500, 502, 200, 200]

    def test_creates_of_all_models_share_the_list_of_their_kind(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429}, {"status": 500})
        assert [create(client, path).status_code for path in (ULTRA.path, CREATE.path)] == [
            429,
            500,
        ]

    def test_steering_and_unknown_paths_use_none_up(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 503}, operation="*")
        assert (client.get("/nowhere").status_code, client.get("/__admin/health").status_code) == (
            404,
            200,
        )
        assert client.get(LIST).status_code == 503

    def test_what_another_tenant_meets_uses_none_up(
        self, server: MockServer, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 429})
        other = server.tenant(scenario="rate-limited")
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {other.token}"}
        ) as stranger:
            assert [create(item).status_code for item in (stranger, client, stranger, client)] == [
                429,
                429,
                200,
                200,
            ]

    def test_the_journal_and_the_coverage_name_what_was_met(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        faults = [{"status": 429, "retry_after": 1}, None, {"body": "empty"}, {"delay": 0.01}]
        use(tenant, *faults)
        for _ in faults:
            create(client)
        assert [exchange["fault"] for exchange in tenant.requests()] == faults
        coverage = tenant.coverage()["faults"]
        assert coverage["met"] == {"status": 1, "body": 1, "delay": 1}
        assert coverage["never"] == ["disconnect", "cut", "stall", "drip"]

    def test_the_verdict_lists_what_was_not(self, client: httpx.Client, tenant: Tenant) -> None:
        use(tenant, {"status": 429}, None, {"status": 500, "times": 2}, {"cut": 0.5})
        create(client)
        create(client)
        assert [unused["number"] for unused in tenant.verdict()["unused_faults"]] == [2, 3]
        create(client)
        assert [unused["number"] for unused in tenant.verdict()["unused_faults"]] == [
            2,
            3,
        ]  # met once of twice
        create(client)
        (left,) = tenant.verdict()["unused_faults"]
        assert left == {"operation": "createPrediction", "number": 3, "fault": {"cut": 0.5}}

    def test_a_fault_is_not_used_up_by_an_operation_that_cannot_show_it(
        self, client: httpx.Client, tenant: Tenant
    ) -> None:
        use(tenant, {"status": 402}, operation="*")  # listPredictions has no 402
        assert client.get(LIST).status_code == 200
        assert len(tenant.verdict()["unused_faults"]) == 1 or create(client).status_code == 402

    @pytest.mark.parametrize(
        "fault", [{"cut": 0.5}, {"body": "malformed"}, {"delay": 0.05, "after": "commit"}]
    )
    def test_a_stream_does_not_go_unharmed_through_a_fault_that_is_written_down_for_it(
        self, client: httpx.Client, tenant: Tenant, fault: Json
    ) -> None:
        use(tenant, None, fault, operation="*")
        stream = create(client).json()["urls"]["stream"]
        start = time.monotonic()
        with contextlib.suppress(httpx.RemoteProtocolError):
            text = client.get(stream).text
            late = time.monotonic() - start >= 0.05 - EARLY and "delay" in fault
            assert tenant.requests()[-1]["fault"] is None or late or "event: done" not in text

    @pytest.mark.parametrize("operation", ["headOutputFile", "deleteFile"])
    @pytest.mark.parametrize(
        "fault", [{"cut": 0.5}, {"stall": 0.5}, {"drip": 0.05}, {"body": "malformed"}]
    )
    def test_a_fault_of_the_body_is_refused_for_an_operation_that_never_has_one(
        self, tenant: Tenant, operation: str, fault: Json
    ) -> None:
        with pytest.raises(AdminError, match=f"/faults/{operation}/0: .*body"):
            use(tenant, fault, operation=operation)

    def test_they_can_be_given_as_python_values(self, client: httpx.Client, tenant: Tenant) -> None:
        script = (Fault(status=429, retry_after=2), None, Fault(body="empty", times=2))
        faults: dict[str, tuple[Fault | None, ...]] = {"createPrediction": script}
        tenant.use(
            Scenario(
                faults=faults,
                lifecycle=(Step("succeeded"),),
                body=Body(extra={"queue_position": 1}),
            )
        )
        responses = [create(client) for _ in range(5)]
        assert [(response.status_code, bool(response.content)) for response in responses] == [
            *[(429, True), (200, True), (200, False), (200, False), (200, True)]
        ]
        assert responses[0].headers["retry-after"] == "2"
        assert (responses[-1].json()["status"], responses[-1].json()["queue_position"]) == (
            "succeeded",
            1,
        )


class TestLeaving:
    @pytest.mark.parametrize("fault", [{"stall": 0.5}, {"delay": FOREVER}, {"drip": FOREVER}])
    def test_a_server_that_ends_while_a_fault_lasts_says_nothing(
        self, fault: Json, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        # The server ends first, while its client still waits.
        with contextlib.ExitStack() as stack, MockServer() as short:
            tenant = short.tenant()
            use(tenant, fault)
            stack.enter_context(wire(tenant)).send()
            until(lambda: met_everything(tenant))
        message = logged(caplog.records)
        caplog.clear()
        assert (capfd.readouterr().err, message) == ("", [])


def test_every_field_of_a_fault_and_every_value_of_its_enums_is_shown_here() -> None:
    here = Path(__file__).read_text()
    fields = Catalogue(CONTRACT).schema["$defs"]["fault"]["properties"]
    wanted = [f'"{name}": ' for name in fields]
    wanted += [
        f'"{name}": "{value}"' for name, field in fields.items() for value in field.get("enum", ())
    ]
    assert [text for text in wanted if text not in here] == []


def test_a_date_to_come_back_at_is_one_of_the_tenant_s_time_where_that_stands_still(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze("2030-01-01T00:00:00Z")
    tenant.use({"faults": {"createPrediction": [{"status": 429, "retry_after_date": 5}] * 2}})
    assert (
        client.post(ULTRA.path, content=BODY, headers={"Content-Type": "application/json"}).headers[
            "retry-after"
        ]
        == "Tue, 01 Jan 2030 00:00:05 GMT"
    )
    tenant.advance(60)
    assert (
        client.post(ULTRA.path, content=BODY, headers={"Content-Type": "application/json"}).headers[
            "retry-after"
        ]
        == "Tue, 01 Jan 2030 00:01:05 GMT"
    )


def test_a_delay_may_stand_in_the_body_alone(client: httpx.Client, tenant: Tenant) -> None:
    use(tenant, {"status": 429, "retry_after": 5, "header": False})
    response = create(client)
    assert response.json()["retry_after"] == 5
    assert "~5s" in response.json()["detail"]
    assert "retry-after" not in response.headers


def test_so_may_that_of_a_limit(client: httpx.Client, tenant: Tenant) -> None:
    tenant.use({"limits": {"createPrediction": {"per_minute": 6, "left": 0, "header": False}}})
    response = create(client)
    assert (response.status_code, response.json()["retry_after"]) == (429, 10)
    assert "retry-after" not in response.headers
    assert response.headers["ratelimit-remaining"] == "0"


def raw_response(tenant: Tenant) -> bytes:
    """All that a server sends in response to a create, before it closes."""
    address = httpx.URL(tenant.base_url)
    head = f"POST {CREATE.path} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {tenant.token}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(BODY)}\r\n\r\n"
    with socket.create_connection((address.host, address.port or 80), timeout=DEADLINE) as raw:
        raw.sendall(head.encode() + BODY)
        return b"".join(iter(lambda: raw.recv(65536), b""))


def test_json_may_be_sent_in_chunks_without_a_length(client: httpx.Client, tenant: Tenant) -> None:
    tenant.use({"chunked": True})
    head, _, body = raw_response(tenant).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-length" not in head.lower()
    assert len(re.findall(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)) == 3, "two chunks, and the last"
    assert create(client).json()["status"] == "starting"


def test_names_of_headers_may_be_spelled_as_by_other_servers(tenant: Tenant) -> None:
    tenant.use({"header_names": "title", "headers": {"x-request-cost": "0"}})
    head = raw_response(tenant).partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert {b"Content-Type", b"Content-Length", b"X-Request-Cost"} <= set(names)
    assert all(name == name.title() for name in names)
