"""Clients that behave badly, in great numbers: the double goes on answering the others, and holds on to little."""

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import Iterator

import httpx
import pytest

from mockserver import MockServer, Tenant
from mockserver.backend.deliveries import Delivery
from mockserver.backend.journal import MAX_RECORDED_BODY
from mockserver.backend.store import Bounds, Store
from mockserver.clock import Clock
from mockserver.contract.violations import MAX_DESCRIPTION, MAX_VIOLATIONS
from mockserver.http.connection import MAX_HEAD
from tests.helpers.documents import ULTRA
from tests.helpers.predictions import prediction

BODY = json.dumps({"input": {"prompt": "a cat"}}).encode()


def crowd() -> int:
    """How many connections there are room for: each is open at both ends, in this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(2000, soft // 4)


def connect(server: MockServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


@pytest.fixture
def connections() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def responses(client: httpx.Client) -> bool:
    created = client.post(ULTRA, content=BODY, headers={"Content-Type": "application/json"})
    picture = client.get(f"/replicate/v1/predictions/{created.json()['id']}")
    return (created.status_code, picture.json()["status"]) == (200, "processing")


def held(client: httpx.Client) -> dict[str, int]:
    store: dict[str, int] = client.get("/__admin/health").json()["store"]
    return store


def test_a_body_that_a_decoy_was_sent_in_pieces_is_let_go() -> None:
    piece, head = b"x" * 1000, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n"
    with MockServer(urls="foreign") as server, httpx.Client(base_url=server.url) as client:
        created = client.post(ULTRA, json={"input": {"prompt": "a cat"}}).json()
        foreign = httpx.URL(created["urls"]["get"])
        with socket.create_connection((foreign.host, foreign.port), timeout=20) as line:
            line.sendall(head + b"x" * 2000)
            assert line.recv(4096)
            before = held(client)["bytes_under_way"]
            line.sendall(head + piece)
            while held(client)["bytes_under_way"] == before:
                pass
            line.sendall(piece)
            assert line.recv(4096)
            assert held(client)["bytes_under_way"] == before


def test_idle_connections(
    server: MockServer, client: httpx.Client, connections: contextlib.ExitStack
) -> None:
    for _ in range(crowd()):
        connections.enter_context(connect(server))
    assert responses(client)


@pytest.mark.parametrize(
    "begun",
    [
        b"POST ",
        f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\n".encode(),
        f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n".encode()
        + BODY,
        f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode(),
    ],
    ids=["method", "head", "body", "chunk"],
)
def test_senders_that_stop_in_the_middle(
    server: MockServer, client: httpx.Client, connections: contextlib.ExitStack, begun: bytes
) -> None:
    before = held(client)["predictions"]
    for _ in range(200):
        connections.enter_context(connect(server)).sendall(begun)
    assert responses(client)
    assert held(client)["predictions"] == before + 1, "nothing has come of what was never finished"


def test_streams_that_nobody_reads(
    server: MockServer, tenant: Tenant, client: httpx.Client, connections: contextlib.ExitStack
) -> None:
    tenant.freeze()
    created = client.post(ULTRA, content=BODY, headers={"Content-Type": "application/json"}).json()
    path = "/" + created["urls"]["stream"].split("/", 3)[3]
    for _ in range(300):
        connections.enter_context(connect(server)).sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
    assert client.get(f"/replicate/v1/predictions/{created['id']}").json()["status"] == "starting"
    assert [event["status"] for event in tenant.advance(4)] == ["processing", "succeeded"]


def test_waiting_creates(
    server: MockServer, tenant: Tenant, client: httpx.Client, connections: contextlib.ExitStack
) -> None:
    tenant.freeze()
    head = [
        f"POST {ULTRA} HTTP/1.1",
        "Host: x",
        "Prefer: wait",
        f"Authorization: Bearer {tenant.token}",
    ]
    head += ["Content-Type: application/json", f"Content-Length: {len(BODY)}", "", ""]
    waiting = [connections.enter_context(connect(server)) for _ in range(300)]
    for waiter in waiting:
        waiter.sendall("\r\n".join(head).encode() + BODY)
    while len(tenant.predictions()) < 300:
        pass
    other = server.tenant()
    with httpx.Client(
        base_url=other.url, headers={"Authorization": f"Bearer {other.token}"}, verify=False
    ) as stranger:
        assert responses(stranger)
    tenant.advance(4)
    for waiter in waiting:
        assert waiter.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_answers_that_nobody_reads(
    server: MockServer, client: httpx.Client, connections: contextlib.ExitStack
) -> None:
    """Requests one behind the other on a connection whose answers are never taken."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(20):
        pushing = connections.enter_context(connect(server))
        pushing.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100):
                pushing.send(request)
    assert responses(client)


def test_bodies_beyond_every_limit(server: MockServer, client: httpx.Client) -> None:
    before = held(client)
    huge = connect(server)
    with huge, contextlib.suppress(ConnectionError):
        huge.sendall(
            f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(200):  # megabytes
            huge.sendall(piece)
    assert responses(client)
    after = held(client)
    assert after["bytes"] - before["bytes"] < 2 * MAX_RECORDED_BODY


@pytest.mark.parametrize(
    "piece", [b"x" * 10_000, b"x\r\nX-Y: x" * 1000], ids=["one header", "many headers"]
)
def test_heads_beyond_every_limit(
    server: MockServer, client: httpx.Client, connections: contextlib.ExitStack, piece: bytes
) -> None:
    endless = connections.enter_context(connect(server))
    with contextlib.suppress(ConnectionError):
        endless.sendall(f"GET {ULTRA} HTTP/1.1\r\nHost: x\r\nX-Y: ".encode())
        for _ in range(10_000):  # 100 megabytes
            endless.sendall(piece)
        pytest.fail("a head without end was read")
    assert responses(client)


def test_a_head_that_is_too_large_is_told_so(
    server: MockServer, connections: contextlib.ExitStack
) -> None:
    asking = connections.enter_context(connect(server))
    asking.sendall(b"GET / HTTP/1.1\r\nX-Y: " + b"x" * MAX_HEAD)
    refusal = b"".join(iter(lambda: asking.recv(4096), b""))
    assert refusal.startswith(b"HTTP/1.1 431 ")
    assert b"more than 65536 bytes" in refusal


def test_nesting_without_end(client: httpx.Client) -> None:
    for opening in (b"[", b'{"input":'):
        refused = client.post(
            ULTRA, content=opening * 50_000, headers={"Content-Type": "application/json"}
        )
        assert refused.status_code == 400
        assert "nested more than 200 levels deep" in refused.json()["detail"]
    assert responses(client)


@pytest.mark.parametrize("levels", [3, 200, 201, 255, 500, 900, 990, 5_000])
def test_nesting_is_taken_up_to_a_limit_and_shown_everywhere(
    client: httpx.Client, levels: int
) -> None:
    lists = b"[" * (levels - 2) + b"]" * (levels - 2)
    created = client.post(
        ULTRA,
        content=b'{"input": {"prompt": "a", "x": %b}}' % lists,
        headers={"Content-Type": "application/json"},
    )
    steered = client.put("/__admin/scenario", content=b'{"a": {"b": %b}}' % lists)
    if levels <= 200:
        assert (created.status_code, steered.status_code) == (200, 422)
    else:
        assert (created.status_code, steered.status_code) == (400, 400)
        assert "nested more than 200 levels deep" in created.json()["detail"]
        assert "nested more than 200 levels deep" in steered.json()["detail"]
    for path in ("requests", "verdict", "predictions", "coverage"):
        assert client.get(f"/__admin/{path}").status_code == 200
    assert client.get("/replicate/v1/predictions").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": {"prompt": "a", **{f"k{number}": 1 for number in range(500)}}}, 200),
        ({"input": {"prompt": 7, **{f"k{number}": 1 for number in range(500)}}}, 422),
        ({"input": {"prompt": "a"}, "webhook_events_filter": ["x"] * 500}, 422),
        ({"input": {"prompt": "a"}, "webhook_events_filter": ["x"] * 90_000}, 422),
        ({"input": {"prompt": "a"}, "webhook_events_filter": ["x"] * 200_000}, 400),
        ({"input": {"prompt": "a", **{f"k{number}": 1 for number in range(20_000)}}}, 422),
    ],
    ids=[
        "unknown",
        "unknown and wrong",
        "wrong",
        "wrong and vast",
        "too vast to be read",
        "unknown and vast",
    ],
)
def test_of_faults_without_end_some_are_told(
    client: httpx.Client, body: dict[str, object], status: int
) -> None:
    response = client.post(ULTRA, json=body)
    assert response.status_code == status
    (exchange,) = client.get("/__admin/requests?limit=1").json()["requests"]
    assert 1 <= len(exchange["violations"]) <= MAX_VIOLATIONS + 1
    assert (
        max(
            len(text)
            for violation in exchange["violations"]
            for text in map(str, violation.values())
        )
        <= MAX_DESCRIPTION
    )
    assert len(response.content) < 100_000


def test_what_is_forgotten_is_followed_no_more() -> None:
    async def crowd_out() -> tuple[int, int]:
        store = Store(1, Clock, Bounds(predictions_per_tenant=3))
        tenant = store.tenant("t")
        for _ in range(10):
            held = prediction(tenant)
            store.put(tenant, held)
            tenant.activity.spawn(held.id, asyncio.sleep(3600))
        await asyncio.sleep(0)
        left = len(asyncio.all_tasks()) - 1
        store.forget("t")
        await asyncio.sleep(0)
        return left, len(asyncio.all_tasks()) - 1

    assert asyncio.run(crowd_out()) == (3, 0)


def test_deliveries_are_bounded_and_count_among_what_is_held() -> None:
    store = Store(1, Clock)
    tenant = store.tenant("t")
    for number in range(20):
        attempt = Delivery(
            "start",
            "p",
            "http://127.0.0.1",
            "m",
            0,
            number,
            200,
            None,
            True,
            True,
            b"x" * 1024 * 1024,
        )
        store.record_delivery(tenant, attempt)
    assert [delivery.attempt for delivery in tenant.deliveries] == [17, 18, 19]
    assert (
        3 * 1024 * 1024
        < tenant.deliveries.bytes
        < tenant.meter.bytes
        == store.counts()["bytes"]
        < 4 * 1024 * 1024
    )


def test_receivers_that_are_silent_keep_nobody_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, MockServer() as server:
        client = httpx.Client(
            base_url=server.url, headers={"Authorization": "Bearer r8_somebody"}, timeout=15
        )
        with_webhook = {
            "input": {"prompt": "a"},
            "webhook": f"http://127.0.0.1:{silent.getsockname()[1]}/",
        }
        for _ in range(100):
            assert client.post(ULTRA, json=with_webhook).status_code == 200
        created = client.post(
            ULTRA, json={"input": {"prompt": "a"}}, headers={"Prefer": "wait"}
        ).json()
        assert client.get(created["output"]).status_code == 200
        client.close()


@pytest.mark.parametrize(
    "path",
    [
        "/favicon.ico",
        "/robots.txt",
        "/apple-touch-icon.png",
        "/apple-touch-icon-120x120-precomposed.png",
        "/.well-known/appspecific/com.chrome.devtools.json",
    ],
)
def test_what_only_browsers_ask_for_is_not_recorded(path: str) -> None:
    with MockServer() as server:
        assert httpx.get(server.url + path).status_code == 404
        assert httpx.get(server.url + "/__admin/requests").json()["recorded"] == 0
