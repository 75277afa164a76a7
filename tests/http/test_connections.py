"""HTTP/1.1 beneath the API: how requests follow one another on a connection, and when it ends."""

import asyncio
import contextlib
import http.client
import io
import json
import re
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mockserver import MockServer, Tenant
from mockserver.backend.backend import Backend
from mockserver.clock import SECOND
from mockserver.http.connection import MAX_FIELDS, MAX_HEAD, HttpConnection
from mockserver.server.app import App
from tests.helpers.documents import CONTRACT, ULTRA
from tests.helpers.wires import Wire, connect, new_app, settled

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


def get(path: str, **headers: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Line:
    """A connection, and the answers that arrive on it."""

    def __init__(self, server: MockServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> http.client.HTTPResponse:
        """The next answer, read."""
        parsed = http.client.HTTPResponse(self.socket)
        parsed.fp.close()
        parsed.fp = self._file
        parsed.begin()
        parsed.fp = io.BufferedReader(
            io.BytesIO(self._file.read(int(parsed.headers["content-length"])))
        )
        return parsed

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
    line.send(
        post() + get("/openapi.json") + get("/nowhere") + post() + get("/__admin/health") + post()
    )
    responses = [line.response() for _ in range(6)]
    assert [response.status for response in responses] == [200, 200, 404, 200, 200, 200]
    bodies = [json.loads(response.read()) for response in responses]
    assert [body.get("status") for body in bodies] == [
        "starting",
        None,
        404,
        "starting",
        "ok",
        "starting",
    ]
    assert "openapi" in bodies[1]
    line.send(post())
    assert line.response().status == 200


@pytest.mark.slow
def test_thousands_sent_ahead_are_answered_in_their_order_and_others_between(
    line: Line, client: httpx.Client
) -> None:
    line.send(post())
    known = json.loads(line.response().read())["id"]
    kinds = [
        (get(f"/replicate/v1/predictions/{known}"), 200),
        (get("/nowhere"), 404),
        (get(ULTRA), 405),
        (post(), 200),
    ]
    line.send(b"".join(request for request, _ in kinds) * 1_000)
    assert client.get(f"/replicate/v1/predictions/{known}").status_code == 404, (
        "another tenant's question"
    )
    for number in range(4_000):
        assert line.response().status == kinds[number % 4][1]


@pytest.mark.parametrize(
    "last", [post(Connection="close"), get("/replicate/v1/predictions", Connection="close")]
)
@pytest.mark.parametrize("more", [b"", post()], ids=["", "and more"])
def test_a_client_that_says_close_is_hung_up_on_after_its_answer(
    line: Line, last: bytes, more: bytes
) -> None:
    line.send(last + more)
    response = line.response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert line.ended(), "what comes after the last request is not answered"


def test_a_client_of_http_1_0_is_hung_up_on_after_its_answer(line: Line) -> None:
    line.send(post("1.0"))
    assert (line.response().status, line.ended()) == (200, True)


def test_a_body_is_asked_for_where_the_client_waits_for_that(line: Line) -> None:
    head, _, body = post(Expect="100-continue").partition(b"\r\n\r\n")
    line.send(head + b"\r\n\r\n")
    assert line.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(body)
    assert line.response().status == 200


def test_an_offer_to_upgrade_is_passed_over(line: Line) -> None:
    """Java's client offers HTTP/2 with each first request."""
    for _ in range(2):
        line.send(
            post(
                Connection="Upgrade, HTTP2-Settings",
                Upgrade="h2c",
                HTTP2_Settings="AAEAAEAAAAIAAAAB",
            )
        )
        assert line.response().status == 200


OFFERS = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
    "Upgrade:h2c\r\nconnection: upgrade",
    "Connection: HTTP2-Settings\r\nConnection: Upgrade\r\nUPGRADE:  h2c ",
    "CONNECTION:\tUPGRADE\r\nuPGRADE: h2c, websocket",
]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_after_an_offer_to_upgrade_is_read_wherever_it_is_cut(offer: str) -> None:
    request = post().replace(b"Host: x", f"Host: x\r\n{offer}".encode())
    whole = conversation(request)
    assert whole[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole[2][0]["request"]["body"] == json.loads(BODY)
    assert "h2c" in whole[2][0]["request"]["headers"]["upgrade"]
    for place in range(1, len(request), 3):
        assert conversation(*cut(request, place)) == whole, place
    assert conversation(*(bytes([byte]) for byte in request)) == whole


def chunked(body: bytes, trailers: str = "") -> bytes:
    head = f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers.encode())


def test_trailers_are_no_headers() -> None:
    trailers = "Authorization: Bearer r8_somebody\r\nX-Mock-Scenario: failed\r\nHost: y\r\n"
    request = chunked(BODY, trailers)
    for pieces in (
        [request],
        cut(request, request.index(b"Authorization")),
        [bytes([byte]) for byte in request],
    ):
        sent, _, (exchanges,) = conversation(*pieces)
        assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (exchanges["scenario"], exchanges["request"]["headers"].keys()) == (
            "succeeded",
            {"host", "content-type", "transfer-encoding"},
        )


@pytest.mark.parametrize("piece", ["X-Y: z\r\n", "x"])
def test_trailers_without_end_are_refused(piece: str) -> None:
    sent, closed, _ = conversation(chunked(BODY, piece * (2 * MAX_HEAD // len(piece)))[:-2])
    assert closed
    assert sent.startswith(b"HTTP/1.1 431 ")


def test_headers_without_end_are_refused() -> None:
    sent, closed, exchanges = conversation(
        get("/nowhere", **{f"x-{number}": "y" for number in range(MAX_FIELDS)})
    )
    assert (closed, exchanges) == (True, [])
    assert sent.startswith(b"HTTP/1.1 431 ")
    assert conversation(
        get("/nowhere", **{f"x-{number}": "y" for number in range(MAX_FIELDS - 1)})
    )[0].startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        chunked(BODY)[:-7] + b"zz\r\n",
    ],
)
@pytest.mark.parametrize("prefer", ["respond-async", "wait"], ids=["", "waiting"])
def test_garbage_is_refused_after_all_that_came_before_it_is_answered(
    garbage: bytes, prefer: str
) -> None:
    before = post(Prefer=prefer) + get("/nowhere")
    sent, closed, exchanges = conversation(before + garbage)
    assert re.findall(rb"HTTP/1.1 (\d+)", sent) == [b"200", b"404", b"400"]
    assert (closed, len(exchanges)) == (True, 2)
    assert conversation(before, garbage) == (sent, closed, exchanges)


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", 1, 200),
        ("1.1", 0, 400),
        ("1.1", 2, 400),
        ("1.0", 0, 200),
        ("1.0", 1, 200),
        ("1.0", 2, 400),
    ],
)
def test_a_request_has_one_host(version: str, hosts: int, status: int) -> None:
    request = post(version).replace(b"Host: x\r\n", b"Host: x\r\n" * hosts)
    sent, _, (exchanges,) = conversation(request)
    assert exchanges["response"]["status"] == status
    assert sent.startswith(b"HTTP/1.1 %d " % status)
    assert [violation["pointer"] for violation in exchanges["violations"]] == (
        ["Host:"] if status == 400 else []
    )
    admin = get("/__admin/health").replace(b"Host: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\n" * hosts)
    if version == "1.1":
        assert conversation(admin)[0].startswith(b"HTTP/1.1 %d " % (403 if hosts == 0 else status))


def test_a_request_has_at_most_one_authorization(line: Line, server: MockServer) -> None:
    first, last = server.tenant(), server.tenant()
    several = (
        f"Host: x\r\nAuthorization: Bearer {first.token}\r\nAuthorization: Bearer {last.token}\r\n"
    )
    line.send(post().replace(b"Host: x\r\n", several.encode()))
    response = line.response()
    assert response.status == 400
    assert "at most one Authorization header" in json.loads(response.read())["detail"]
    recorded = [*first.requests(), *last.requests()]
    assert [exchange["violations"][0]["pointer"] for exchange in recorded] == ["Authorization:"]

    for method, path in (("GET", "/__admin/requests"), ("POST", "/__admin/reset")):
        host = several.replace("Host: x", "Host: 127.0.0.1")
        line.send(f"{method} {path} HTTP/1.1\r\n{host}\r\n".encode())
        response = line.response()
        assert response.status == 400
        assert "at most one Authorization header" in json.loads(response.read())["detail"]


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_request_for_no_path_is_in_the_journal(method: str) -> None:
    sent, _, (exchanges,) = conversation(f"{method} * HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert sent.startswith(b"HTTP/1.1 404 ")
    assert (
        exchanges["request"]["method"],
        exchanges["request"]["path"],
        exchanges["operation"],
    ) == (
        method,
        "*",
        None,
    )


def test_a_client_of_http_1_0_gets_no_chunks(
    server: MockServer, tenant: Tenant, line: Line
) -> None:
    headers = {"Authorization": f"Bearer {tenant.token}"}
    created = httpx.post(server.url + ULTRA, json=json.loads(BODY), headers=headers).json()
    path = created["urls"]["stream"].removeprefix(server.url)
    line.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = b"".join(iter(lambda: line.socket.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b": hi\n\nevent: ")
    assert body.endswith(b"event: done\ndata: {}\n\n")


def test_what_is_not_http_is_told_so(line: Line) -> None:
    line.send(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert (line.response().status, line.ended()) == (400, True)


def test_idle_connections_are_closed_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mockserver.http.connection.KEEP_ALIVE", 0.05)

    async def play() -> None:
        app = new_app()
        (busy, waiting), (_, silent), (used, answered) = (connect(app) for _ in range(3))
        busy.data_received(post(Prefer="wait"))
        used.data_received(post())
        await settled()
        assert answered.sent.startswith(b"HTTP/1.1 200 ")
        await silent.ended.wait()
        await answered.ended.wait()
        assert not waiting.closed
        (tenant,) = app.backend.store.tenants()
        await app.backend.advance(tenant, 10 * SECOND)
        await settled()
        assert b'"output":"http' in waiting.sent
        await waiting.ended.wait()

    asyncio.run(play())


def connected() -> tuple[App, HttpConnection, Wire]:
    """A new double, and a connection to it."""
    app = new_app()
    return app, *connect(app)


def conversation(*pieces: bytes) -> tuple[bytes, bool, list[dict[str, Any]]]:
    """What a new double sends when it receives these pieces, whether it hangs up, and what its journals say of it."""

    async def converse() -> tuple[bytes, bool, list[dict[str, Any]]]:
        app, connection, wire = connected()
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
            await settled()
        for tenant in app.backend.store.tenants():
            await app.backend.advance(tenant, 10 * SECOND)
        await settled()
        closed = wire.closed
        connection.connection_lost(None)
        await settled()
        exchanges = [
            exchange.as_json()
            for tenant in app.backend.store.tenants()
            for exchange in tenant.journal
        ]
        for exchange in exchanges:
            del exchange["received_at"]
        return bytes(wire.sent), closed, exchanges

    return asyncio.run(converse())


def cut(data: bytes, *places: int) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


HEADS = st.sampled_from(
    [
        "Connection: close",
        "connection:keep-alive",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Transfer-Encoding: chunked",
        "Content-Length: 5",
        "Content-Length: x",
        "Authorization: Bearer r8_somebody",
        "AUTHORIZATION:Bearer   r8_somebody  ",
        "Host: elsewhere:1",
        "Prefer: wait=1",
        "Cancel-After: 10s",
        "Cancel-After: soon",
        "X-Mock-Scenario: failed",
        "X-Mock-Scenario: nonsense",
        "X-Mock-Scenario: rate-limited",
        "X-Empty:",
        "X-Folded: a\r\n b",
        "X-Bytes: \xe9",
        "X Space: a",
        "Upgrade : h2c",
        "UPGRADE: h2c",
        "Connection: Upgrade, HTTP2-Settings",
        "connection:\tUPGRADE",
        "Upward: a",
        ": nameless",
        "no colon",
    ]
)


@given(
    line=st.sampled_from(
        [
            f"POST {ULTRA} HTTP/1.1",
            f"POST {ULTRA} HTTP/1.0",
            f"POST {ULTRA}?a=b HTTP/1.1",
            f"POST {ULTRA.replace('flux', '%66lux')} HTTP/1.1",
            f"POST /{ULTRA} HTTP/1.1",
            f"POST http://x{ULTRA} HTTP/1.1",
            f"PUT {ULTRA} HTTP/1.1",
            f"GET {ULTRA} HTTP/1.1",
            "GET * HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            f"BREW {ULTRA} HTTP/1.1",
            "GET /replicate/v1/predictions/nothing HTTP/1.1",
            "HEAD /replicate/v1/predictions HTTP/1.1",
            "GET /__admin/health HTTP/1.1",
            f"POST {ULTRA}",
        ]
    ),
    more=st.lists(HEADS, max_size=3),
    body=st.sampled_from(
        [BODY, b"", b"{", b'{"input": {}}', b'{"input": {"prompt": "[mock:failed]"}}']
    ),
    places=st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=4),
)
@settings(deadline=None)
@example(
    line="GET /replicate/v1/predictions/a HTTP/1.1",
    more=["Connection: close"],
    body=b"",
    places=[90],
)
@example(line=f"POST {ULTRA} HTTP/1.1", more=["Expect: 100-continue"], body=BODY, places=[400])
@example(
    line=f"POST {ULTRA} HTTP/1.1",
    more=["Connection: Upgrade", "Upgrade: h2c"],
    body=BODY,
    places=[190],
)
@example(
    line=f"POST {ULTRA} HTTP/1.1",
    more=["Upgrade: h2c", "Connection: Upgrade"],
    body=BODY,
    places=[179],
)
def test_however_a_request_arrives_in_pieces_its_answer_is_the_same(
    line: str, more: list[str], body: bytes, places: list[int]
) -> None:
    usual = ["Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([line, *usual, *more, "", ""]).encode("latin-1") + body
    sent, closed, exchanges = conversation(request)
    assert conversation(*cut(request, *places)) == (sent, closed, exchanges)
    assert not sent.startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Note: ",
        b"GET /__admin/health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
        % len(post()),
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        % (ULTRA.encode(), len(post())),
        b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % ULTRA.encode(),
    ],
    ids=["a header", "a body that nobody reads", "a body", "a chunk"],
)
def test_what_looks_like_a_request_within_another_is_none(begun: bytes) -> None:
    sent, closed, exchanges = conversation(begun + post())
    assert conversation(begun, post()) == (sent, closed, exchanges)
    assert all(exchange["response"]["status"] >= 400 for exchange in exchanges)


@pytest.mark.slow
@given(places=st.lists(st.integers(min_value=1, max_value=1500), max_size=6))
@settings(deadline=None)
def test_however_requests_arrive_together_their_answers_are_the_same(places: list[int]) -> None:
    apart = [
        post(),
        get("/nowhere"),
        post(Authorization="Bearer r8_somebody"),
        post(Prefer="wait"),
        post(),
    ]
    together = b"".join(apart)
    sent, closed, exchanges = conversation(*cut(together, *places))
    assert (sent, closed, exchanges) == conversation(*apart)
    assert len(exchanges) == 5
    assert sent.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("scenario", ["succeeded", "outage"])
def test_a_head_has_no_body_under_a_fault_either(scenario: str) -> None:
    path = CONTRACT.by_id["headOutputFile"].path.format(prediction_id="a" * 26, output_format="png")
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nX-Mock-Scenario: {scenario}\r\n\r\n".encode()
    sent, _, exchanges = conversation(request)
    assert sent.startswith(b"HTTP/1.1 503 " if scenario == "outage" else b"HTTP/1.1 404 ")
    assert sent.endswith(b"\r\n\r\n")
    assert len(exchanges) == 1


def test_a_client_that_hangs_up_ends_all_that_it_has_asked_for() -> None:
    async def converse() -> None:
        app, connection, wire = connected()
        connection.data_received(post(Prefer="wait") + post(Prefer="wait") + post())
        await settled()
        connection.connection_lost(None)
        await settled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (wire.sent, app.backend.store.counts()["predictions"]) == (b"", 1)

    asyncio.run(converse())


def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them() -> None:
    async def converse() -> None:
        _, connection, wire = connected()
        connection.pause_writing()
        connection.data_received(post())
        await settled()
        assert wire.sent == b""
        connection.resume_writing()
        await settled()
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        connection.connection_lost(None)

    asyncio.run(converse())


@pytest.mark.parametrize(("arrived", "answered"), [(0, False), (50, False), (len(post()), True)])
def test_as_the_double_stops_a_request_is_answered_if_and_only_if_it_is_carried_out(
    arrived: int, answered: bool
) -> None:
    async def converse() -> None:
        app, connection, wire = connected()
        connection.data_received(post()[:arrived])
        connection.shutdown()
        connection.data_received(post()[arrived:])
        await settled()
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n") is answered
        assert wire.closed
        assert app.backend.store.counts()["predictions"] == answered
        connection.connection_lost(None)

    asyncio.run(converse())


@pytest.mark.parametrize("place", [0, 50])
def test_a_failure_within_is_answered_500(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError("planted")

    monkeypatch.setattr(Backend, "create", broken)
    sent, closed, exchanges = conversation(*cut(post(), place))
    assert sent.startswith(
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\n"
    )
    assert (closed, exchanges) == (True, [])


def test_a_failure_leaves_the_answer_before_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def converse() -> bytes:
        _, connection, wire = connected()
        connection.data_received(get("/replicate/v1/predictions/nothing"))
        connection.data_received(post())
        await settled()
        connection.connection_lost(None)
        return bytes(wire.sent)

    monkeypatch.setattr(Backend, "create", None)
    sent = asyncio.run(converse())
    assert re.findall(rb"HTTP/1.1 (\d+)", sent) == [b"404", b"500"]
