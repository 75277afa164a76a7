"""Whatever follows a prediction ends when the prediction, or its tenant, is forgotten."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from mockserver import MockServer, Tenant
from mockserver.backend.store import Bounds
from tests.helpers.command import serving
from tests.helpers.documents import KONTEXT
from tests.helpers.receiver import Receiver

PATIENCE = 10  # seconds after which what a test waits for is not coming
BODY = {"input": {"prompt": "p"}}


@pytest.fixture
def frozen(server: MockServer) -> Iterator[httpx.Client]:
    tenant = server.tenant(clock="frozen")
    headers = {"Authorization": f"Bearer {tenant.token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE) as client:
        yield client


def tenant_of(client: httpx.Client) -> Tenant:
    return Tenant(str(client.base_url), client.headers["Authorization"].removeprefix("Bearer "))


def in_background(act: Callable[[], Any]) -> Future[Any]:
    done: Future[Any] = Future()
    threading.Thread(target=lambda: done.set_result(act()), daemon=True).start()
    return done


def created(tenant: Tenant) -> dict[str, Any]:
    """The prediction that somebody else is creating."""
    while not (held := tenant.predictions()):
        pass
    return held[0]


def test_a_create_that_waits_is_answered_as_far_as_it_has_come(frozen: httpx.Client) -> None:
    waiting = in_background(lambda: frozen.post(KONTEXT, json=BODY, headers={"Prefer": "wait"}))
    prediction = created(tenant_of(frozen))
    tenant_of(frozen).reset()
    response = waiting.result(PATIENCE)
    assert (response.status_code, response.json()["id"]) == (200, prediction["id"])
    assert response.json()["status"] == "starting"
    assert frozen.get(f"/replicate/v1/predictions/{prediction['id']}").status_code == 404


def test_a_stream_comes_to_its_end(frozen: httpx.Client) -> None:
    url = frozen.post(KONTEXT, json=BODY).json()["urls"]["stream"]
    with frozen.stream("GET", url) as response:
        lines = response.iter_lines()
        assert next(lines) == ": hi"
        tenant_of(frozen).reset()
        assert [line for line in lines if line] == []


@pytest.mark.parametrize("forget", ["reset", "evict"])
def test_under_autojump_nothing_spins(server: MockServer, receiver: Receiver, forget: str) -> None:
    """Time passes at once there, so one that follows what is no longer kept would never let anybody else act."""
    tenant = server.tenant()
    tenant.use({"faults": {"createPrediction": [{"delay": 0.2}]}})
    headers = {"Authorization": f"Bearer {tenant.token}", "Prefer": "wait"}
    body = {**BODY, "webhook": receiver.url}
    waiting = in_background(
        lambda: httpx.post(server.url + KONTEXT, json=body, headers=headers, timeout=PATIENCE)
    )
    while tenant.verdict()["unused_faults"]:
        pass  # the create has not begun yet
    if forget == "reset":
        tenant.reset()
    else:
        server.call_in_loop(lambda backend: backend.store.forget(tenant.token))
    assert waiting.result(PATIENCE).status_code == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE):
        assert server.tenant().verdict()["exchanges"] == 0, "it answers others"


def test_a_stream_behind_a_picture_that_nobody_reads_keeps_nobody_waiting(
    server: MockServer,
) -> None:
    tenant = server.tenant()
    headers = {"Authorization": f"Bearer {tenant.token}"}
    body = {"input": {"prompt": "p", "output_format": "png"}}
    finished = httpx.post(
        server.url + KONTEXT, json=body, headers={**headers, "Prefer": "wait"}
    ).json()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as unread:
        for url in [finished["output"]] * 3 + [finished["urls"]["stream"]]:
            unread.sendall(f"GET /{url.split('/', 3)[3]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert unread.recv(1)
        tenant.reset()
        assert server.tenant().verdict()["exchanges"] == 0, "it answers others"
        assert unread.recv(100)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_thousand_others_end_what_is_under_way_and_the_server_ends_when_told(
    receiver: Receiver,
) -> None:
    with serving("--clock", "frozen") as (process, url):
        body = {**BODY, "webhook": receiver.url}
        headers = {"Authorization": "Bearer the-first", "Prefer": "wait"}
        waiting = in_background(
            lambda: httpx.post(url + KONTEXT, json=body, headers=headers, timeout=PATIENCE)
        )
        created(Tenant(url, "the-first"))
        with httpx.Client(base_url=url) as client:
            for number in range(Bounds().tenants):
                client.get(
                    "/replicate/v1/predictions", headers={"Authorization": f"Bearer other-{number}"}
                )
        assert waiting.result(PATIENCE).json()["status"] == "starting"
        process.terminate()
        assert process.wait(PATIENCE) == 0
