"""HTTP/1.1 beneath the API: how requests follow one another on a connection, and when it ends."""

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from mockserver import MockServer, Tenant
from tests.documents import ULTRA

BODY = json.dumps({"input": {"prompt": "a cat"}}).encode()


def post(version: str = "1.1", **headers: str) -> bytes:
    lines = [
        f"POST {ULTRA} HTTP/{version}",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + BODY


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


class Line:
    """A connection, and the answers that arrive on it."""

    def __init__(self, server: MockServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> http.client.HTTPResponse:
        """The next answer, read."""
        found = http.client.HTTPResponse(self.socket)
        found.fp.close()
        found.fp = self._file
        found.begin()
        found.fp = io.BufferedReader(io.BytesIO(self._file.read(int(found.headers["content-length"]))))
        return found

    def ended(self) -> bool:
        """Whether the double hangs up before it sends more; waits for one or the other."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def line(server: MockServer) -> Iterator[Line]:
    with contextlib.closing(Line(server)) as opened:
        yield opened


def test_an_answer_comes_in_one_piece(line: Line) -> None:
    line.send(post())
    head, _, body = line.socket.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["status"] == "starting"


def test_requests_sent_together_are_answered_in_their_order(line: Line) -> None:
    line.send(post() + get("/openapi.json") + get("/nowhere") + post() + get("/__admin/health") + post())
    answers = [line.answer() for _ in range(6)]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200, 200]
    assert [answer.read()[:14] for answer in answers[:2]] != [answers[3].read()[:14], answers[4].read()[:14]]
    line.send(post())
    assert line.answer().status == 200


def test_thousands_sent_ahead_are_answered_in_their_order_and_others_between(line: Line, client: httpx.Client) -> None:
    line.send(post())
    known = json.loads(line.answer().read())["id"]
    kinds = [(get(f"/replicate/v1/predictions/{known}"), 200), (get("/nowhere"), 404), (get(ULTRA), 405), (post(), 200)]
    line.send(b"".join(request for request, _ in kinds) * 1_000)
    assert client.get(f"/replicate/v1/predictions/{known}").status_code == 404, "another tenant's question"
    for number in range(4_000):
        assert line.answer().status == kinds[number % 4][1]


def test_a_client_that_says_close_is_hung_up_on_after_its_answer(line: Line) -> None:
    line.send(post(Connection="close") + post())
    answer = line.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert line.ended(), "what comes after the last request is not answered"


def test_a_client_of_http_1_0_is_hung_up_on_after_its_answer(line: Line) -> None:
    line.send(post("1.0"))
    assert (line.answer().status, line.ended()) == (200, True)


def test_a_body_is_asked_for_where_the_client_waits_for_that(line: Line) -> None:
    head, _, body = post(Expect="100-continue").partition(b"\r\n\r\n")
    line.send(head + b"\r\n\r\n")
    assert line.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(body)
    assert line.answer().status == 200


def test_an_offer_to_upgrade_is_passed_over(line: Line) -> None:
    """Java's client offers HTTP/2 with each first request."""
    for _ in range(2):
        line.send(post(Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAEAAEAAAAIAAAAB"))
        assert line.answer().status == 200


def test_what_is_not_http_is_told_so(line: Line) -> None:
    line.send(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert (line.answer().status, line.ended()) == (400, True)


def test_idle_connections_are_closed_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mockserver.server.KEEP_ALIVE", 0.05)
    with MockServer() as server, contextlib.ExitStack() as stack:
        busy, silent, used = (stack.enter_context(contextlib.closing(Line(server))) for _ in range(3))
        tenant: Tenant = server.tenant(clock="frozen")
        busy.send(post(Authorization=f"Bearer {tenant.token}", Prefer="wait"))
        used.send(post())
        assert used.answer().status == 200
        assert silent.ended()
        assert used.ended()
        tenant.advance(10)
        assert json.loads(busy.answer().read())["status"] == "succeeded"
        assert busy.ended()
