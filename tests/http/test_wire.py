"""Every fault on every operation, as a raw socket sees it, and as the journal tells it.

On both schemes, with pictures from the API's origin and from one of their own, and in each of the ways in which requests
come. `make test` plays a share of them, `make test-wire` all.
"""

import contextlib
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from mockserver import MockServer, Tenant
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import ScenarioError
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.share import first

pytestmark = pytest.mark.slow

CONTRACT = Contract.load()
CATALOGUE = Catalogue(CONTRACT)
CREATE = CONTRACT.by_id["createFluxKontextMaxPrediction"]
TIMEOUT = 10  # seconds after which what a test waits for is not coming
SILENCE = 0.02  # seconds in which a response that is stalled does not go on

Json = dict[str, Any]

FAULTS: list[Json] = [
    {"status": 503},
    {"status": 503, "after": "commit"},
    {"disconnect": "reset"},
    {"disconnect": "close"},
    {"disconnect": "reset", "after": "commit"},
    {"disconnect": "close", "after": "commit"},
    {"cut": 0.5},
    {"cut": 0},
    {"stall": 0.5},
    {"drip": 0.02},
    {"body": "malformed"},
    {"body": "empty"},
    {"delay": 0.01},
    {"delay": 0.01, "after": "commit"},
]


@dataclass(frozen=True)
class Seen:
    """What came over a socket; `ended` is `whole`, `closed`, `reset` or `silent`, `announced` the Content-Length."""

    status: int
    body: bytes
    announced: int
    ended: str


ORIGINS: dict[str, tuple[bool, Literal["same", "separate"]]] = {
    "http, one origin": (False, "same"),
    "http, a file host": (False, "separate"),
    "https, one origin": (True, "same"),
    "https, a file host": (True, "separate"),
}
WAYS = ("alone", "kept alive", "pipelined", "HTTP/1.0", "in pieces")
SHARE = [  # each origin and each way at least once
    ("http, one origin", "kept alive"),
    ("https, a file host", "in pieces"),
    ("http, one origin", "alone"),
    ("http, a file host", "pipelined"),
    ("https, one origin", "HTTP/1.0"),
]
ALL = [(origin, way) for origin in ORIGINS for way in WAYS]
PROBE = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(
    scope="module",
    params=ALL if os.environ.get("WIRE") == "all" else first(1, SHARE),
    ids=": ".join,
)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[MockServer, str]]:
    """A double, and the way in which requests come to it."""
    origin, way = request.param
    tls, files_origin = ORIGINS[origin]
    with MockServer(tls=tls, files_origin=files_origin) as server:
        yield server, way


def legal_faults(operation: Operation) -> list[Json]:
    """The faults that a scenario may have for an operation."""
    match = []
    for fault in FAULTS:
        with contextlib.suppress(ScenarioError):
            CATALOGUE.parse({"faults": {operation.operation_id: [fault]}})
            match.append(fault)
    return match


def test_each_operation_has_its_faults_and_no_others() -> None:
    legal = {operation.operation_id: legal_faults(operation) for operation in CONTRACT.operations}
    assert len(legal["createFluxKontextMaxPrediction"]) == len(FAULTS)
    assert [fault for fault in legal["deleteFile"] if "after" in fault] == [
        f for f in FAULTS if "after" in f
    ]
    assert [fault for fault in legal["getPrediction"] if "after" in fault] == []
    assert all(
        {"status": 503} in faults and {"disconnect": "reset"} in faults for faults in legal.values()
    )


def connect(server: MockServer, url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    raw = socket.create_connection((parts.hostname, parts.port or 0), timeout=TIMEOUT)
    if parts.scheme == "https":
        trusting = ssl.create_default_context(cafile=server.ca_file)
        return trusting.wrap_socket(raw, server_hostname=parts.hostname, suppress_ragged_eofs=False)
    return raw


def exchange(
    server: MockServer, url: str, way: str, request: bytes, method: str, stall: bool
) -> Seen:
    """Send one request, and read what comes; of a stalled response what there is. Others before and after it are answered.

    Those are for no operation and nobody's, so that they are in no journal that is looked at.
    """
    with connect(server, url) as line:
        if way == "kept alive":
            line.sendall(PROBE)
            assert Reader(line).response("GET", stall=False).status == 404
        if way == "in pieces":
            for start in range(0, len(request), 7):
                line.sendall(request[start : start + 7])
        else:
            line.sendall(request + PROBE if way == "pipelined" else request)
        reader = Reader(line)
        seen = reader.response(method, stall)
        if seen.ended == "whole" and way in ("kept alive", "pipelined"):
            if way == "kept alive":
                line.sendall(PROBE)
            assert reader.response("GET", stall=False).status == 404
        elif seen.ended == "whole" and way == "HTTP/1.0":
            assert reader.response("GET", stall=False).ended in ("closed", "whole")
        return seen


class Reader:
    """Reads one response after another from a connection."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._data = b""

    def response(self, method: str, stall: bool) -> Seen:
        """The next response; `stall` tells that it may stop in its middle."""
        while True:
            head, end, body = self._data.partition(b"\r\n\r\n")
            announced = announced_in(head)
            if stall and end and len(body) >= announced // 2:
                self._line.settimeout(SILENCE)
            size = length(head, body, method) if end else None
            if size is not None and not stall:
                self._data = body[size:]
                return Seen(status_in(head), body[:size], announced, "whole")
            try:
                piece = self._line.recv(65536)
            except TimeoutError:
                return Seen(status_in(head), body, announced, "silent")
            except (
                ConnectionResetError,
                ssl.SSLEOFError,
            ):  # TLS ends with an alert, unless the connection breaks off
                return Seen(status_in(head), body, announced, "reset")
            if not piece:
                until_closed = (
                    end
                    and not announced
                    and b"content-length" not in head
                    and b"chunked" not in head
                )
                return Seen(status_in(head), body, announced, "whole" if until_closed else "closed")
            self._data += piece


def length(head: bytes, body: bytes, method: str) -> int | None:
    """Bytes of a body that has come whole; None if it has not."""
    if method == "HEAD" or status_in(head) in (204, 304):
        return 0
    if b"transfer-encoding: chunked" in head:
        end = body.find(b"0\r\n\r\n")
        return None if end < 0 else end + 5
    if b"content-length" not in head:
        return None  # it ends with the connection
    return announced_in(head) if len(body) >= announced_in(head) else None


def status_in(head: bytes) -> int:
    return int(head.split(b" ")[1]) if head else 0


def announced_in(head: bytes) -> int:
    match = re.search(rb"(?im)^content-length: (\d+)", head)
    return int(match[1]) if match else 0


def upload_form() -> tuple[bytes, str]:
    body = b'--x\r\nContent-Disposition: form-data; name="content"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    return body, "multipart/form-data; boundary=x"


class Client:
    """What a client needs to use every operation: a prediction that has succeeded, and a file."""

    def __init__(self, server: MockServer, way: str) -> None:
        self.server = server
        self.way = way
        self.tenant: Tenant = server.tenant()
        self.ids: dict[str, str] = {}
        self._authorized = {"Authorization": f"Bearer {self.tenant.token}"}
        result = self._create()
        self.output = result["output"]
        self.ids = {
            "prediction_id": result["id"],
            "output_format": self.output.rpartition(".")[2],
            "model_owner": str(CREATE.model).partition("/")[0],
            "model_name": str(CREATE.model).partition("/")[2],
            "version_id": CREATE.version,
        }

    def _create(self) -> Json:
        seen = self.use(CREATE, {}, Prefer="wait")
        result: Json = json.loads(seen.body)
        assert result["output"]
        return result

    def add_file(self) -> None:
        seen = self.use(CONTRACT.by_id["uploadFile"], {})
        self.ids["file_id"] = json.loads(seen.body)["id"]

    def use(self, operation: Operation, fault: Json, **headers: str) -> Seen:
        """Send a valid request of an operation."""
        headers |= self._authorized if not operation.public or operation.role == "download" else {}
        body = b""
        if operation.role == "create":
            named = {} if operation.model else {"version": CREATE.model}
            body, headers["Content-Type"] = (
                json.dumps({"input": {"prompt": "p"}, **named}).encode(),
                "application/json",
            )
        elif operation.role == "upload":
            body, headers["Content-Type"] = upload_form()
        url = self.server.url + operation.path.format(**self.ids)
        if operation.role == "deliver":
            url = self.output
        parts = urlsplit(url)
        version = "1.0" if self.way == "HTTP/1.0" else "1.1"
        lines = [f"{operation.method} {parts.path} HTTP/{version}", f"Host: {parts.netloc}"]
        lines += [
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        request = "\r\n".join(lines).encode() + body
        return exchange(self.server, url, self.way, request, operation.method, "stall" in fault)


@pytest.mark.parametrize(
    "operation", CONTRACT.operations, ids=lambda operation: operation.operation_id
)
def test_every_fault_reaches_the_wire_and_the_journal(
    place: tuple[MockServer, str], operation: Operation
) -> None:
    client = Client(*place)
    for fault in legal_faults(operation):
        client.add_file()
        client.tenant.use({"faults": {operation.operation_id: [fault]}})
        seen = client.use(operation, fault)
        received = client.tenant.requests()[-1]
        assert (received["operation"], received["fault"]) == (operation.operation_id, fault), fault
        assert received["response"]["status"] == seen.status, fault
        assert received["committed"] is (
            operation.commits and ("after" in fault or not prevents(fault))
        ), fault
        assert how_it_ended(fault, seen, operation), (
            fault,
            seen.ended,
            seen.announced,
            len(seen.body),
        )


def prevents(fault: Json) -> bool:
    return "status" in fault or "disconnect" in fault


def how_it_ended(fault: Json, seen: Seen, operation: Operation) -> bool:
    """Whether a response came, or did not, as its fault has it."""
    whole = seen.ended == "whole" and (
        operation.method == "HEAD" or len(seen.body) >= seen.announced
    )
    match fault:
        case {"disconnect": "reset"}:
            return (seen.ended, seen.status) == ("reset", 0)
        case {"disconnect": "close"}:
            return (seen.ended, seen.status) == ("closed", 0)
        case {"cut": share}:
            return (
                seen.ended == "closed"
                and len(seen.body) == int(seen.announced * share) < seen.announced
            )
        case {"stall": share}:
            return (
                seen.ended == "silent"
                and len(seen.body) == int(seen.announced * share) < seen.announced
            )
        case {"status": status}:
            return whole and seen.status == status
        case {"body": "empty"}:
            return whole and seen.announced == 0
        case {"body": "malformed"}:
            return whole and 0 < seen.announced == len(seen.body)
    return whole and 200 <= seen.status < 300
