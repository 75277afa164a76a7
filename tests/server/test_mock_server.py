"""The double from Python: MockServer, Tenant, and scenarios built in code."""

import asyncio
import dataclasses
import inspect
import json
import socket
import subprocess
import sys
import threading

import httpx
import pytest

import mockserver
from mockserver import (
    AdminError,
    AsyncTenant,
    Body,
    Fault,
    MockServer,
    MockServerError,
    Scenario,
    Step,
    Tenant,
)
from mockserver.backend.backend import Options
from mockserver.cli.serve import serve
from mockserver.client import RunningServer
from mockserver.server.app import Settings
from tests.helpers.documents import KONTEXT


def create(url: str, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.post(url + KONTEXT, json={"input": {"prompt": "p"}}, headers=headers)


def test_its_settings_are_those_of_the_server_and_flags_of_serve() -> None:
    options = {field.name for field in dataclasses.fields(Options)}
    assert Settings.__annotations__.keys() == options - {"scenario"}
    assert options <= {parameter.name for parameter in serve.params}


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="stricter"):
        MockServer(stricter=True)  # type: ignore[call-arg]


def test_requests_with_tokens_that_it_did_not_open_are_listed_once_under_either_name() -> None:
    with MockServer() as server:
        create(server.url, server.tenant().token)
        create(server.url, "of-its-own")
        line = "of-…: POST " + KONTEXT
        assert server.unattributed_requests() == [line]
        create(server.url, "of-its-own")
        assert server.strays() == [line]
        assert server.unattributed_requests() == []


def test_it_answers_when_with_returns_and_is_gone_afterwards() -> None:
    with MockServer() as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.base_url == server.url + "/replicate"
        assert create(server.url, "t").status_code == 200
    assert not [thread for thread in threading.enumerate() if thread.name == "mockserver"]
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # the port is free again


def test_several_run_at_once_and_know_nothing_of_each_other() -> None:
    with MockServer() as one, MockServer() as other:
        identifier = create(one.url, "t").json()["id"]
        assert httpx.get(f"{other.base_url}/v1/predictions/{identifier}").status_code == 404


def test_it_ends_at_once_while_a_client_is_connected() -> None:
    with httpx.Client() as client, MockServer() as server:
        client.get(server.url + "/openapi.json")


def test_a_port_in_use_is_told() -> None:
    with MockServer() as server, pytest.raises(MockServerError, match="Address already in use"):
        MockServer(port=server.port).__enter__()


def test_its_settings_are_those_of_serve() -> None:
    with pytest.raises(MockServerError, match="did you mean nsfw"):
        MockServer(scenario="nfsw")
    with MockServer(
        scenario=Scenario(lifecycle=(Step("aborted"),)), clock="frozen", require_auth=True
    ) as server:
        assert create(server.url, "").status_code == 401
        told = create(server.url, "t").json()
        assert (told["status"], told["created_at"]) == ("aborted", "2025-01-01T00:00:00.000Z")


def test_each_tenant_has_a_token_of_its_own_unless_one_is_given(server: MockServer) -> None:
    tokens = {server.tenant().token for _ in range(10)}
    assert len(tokens) == 10
    assert all(token.startswith("test-") for token in tokens)
    assert server.tenant("mine").token == "mine"
    anonymous = server.tenant("")
    create(server.url, "")
    assert len(anonymous.predictions()) == 1


def test_a_tenant_is_opened_as_wished(server: MockServer) -> None:
    tenant = server.tenant(scenario="aborted", clock="frozen")
    assert tenant.scenario()["name"] == "aborted"
    create(server.url, tenant.token)
    assert [event["status"] for event in tenant.advance(1)] == ["aborted"]


def test_a_scenario_is_built_in_code(tenant: Tenant) -> None:
    mine = Scenario(
        name="mine",
        lifecycle=(Step("starting", 0.1), Step("failed", error="broken")),
        faults={"createPrediction": (Fault(status=429, retry_after=2), None)},
        body=Body(extra={"queue_position": 3}),
    )
    tenant.use(mine)
    assert tenant.scenario() == json.loads(json.dumps(mine.as_json()))
    assert create(tenant.url, tenant.token).headers["retry-after"] == "2"
    assert create(tenant.url, tenant.token).json()["queue_position"] == 3
    tenant.use(None)
    assert tenant.scenario()["name"] == "succeeded"


def test_a_wrong_scenario_built_in_code_is_refused(tenant: Tenant) -> None:
    with pytest.raises(AdminError, match="/lifecycle/0/status: 'done' is not a status"):
        tenant.use(Scenario(lifecycle=(Step("done"),)))


def test_time_is_steered(tenant: Tenant) -> None:
    assert tenant.freeze("2031-01-01T00:00:00Z")["now"] == "2031-01-01T00:00:00.000Z"
    create(tenant.url, tenant.token)
    assert [event["status"] for event in tenant.advance(0.4)] == ["processing"]
    assert [event["status"] for event in tenant.advance(3.5)] == ["succeeded"]
    assert tenant.set_clock("real", speed=1000)["speed"] == 1000
    tenant.reset()
    assert tenant.predictions() == []
    assert tenant.call("GET", "/clock")["mode"] == "autojump"


def test_a_running_server_is_steered_by_its_address(server: MockServer) -> None:
    elsewhere = RunningServer(server.url + "/")
    tenant = elsewhere.tenant()
    assert tenant.base_url == elsewhere.base_url == server.base_url
    assert tenant.token != elsewhere.tenant().token
    create(server.url, tenant.token)
    assert tenant.verdict()["exchanges"] == 1
    assert tenant.coverage()["operations"]["met"] == {"createFluxKontextMaxPrediction": 1}


def test_no_server_and_another_server_are_told_apart() -> None:
    with pytest.raises(
        AdminError, match=r"no double answers at http://127\.0\.0\.1:1: .*; is it running\?"
    ):
        Tenant("http://127.0.0.1:1", "t").verdict()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def response() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
                )

        thread = threading.Thread(target=response)
        thread.start()
        with pytest.raises(AdminError, match="does not answer as a mockserver does"):
            Tenant(f"http://127.0.0.1:{listener.getsockname()[1]}", "t").verdict()
        thread.join()


def test_the_package_exposes_exactly_what_it_says() -> None:
    assert mockserver.__all__ == sorted(mockserver.__all__)
    for name in mockserver.__all__:
        assert getattr(mockserver, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mockserver.nonsense


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = (
        "starlette",
        "uvicorn",
        "jsonschema_rs",
        "orjson",
        "msgspec",
        "yaml",
        "PIL",
        "hypothesis",
        "schemathesis",
    )
    code = f"import sys, mockserver, mockserver.pytest_plugin; print([n for n in {heavy!r} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_coroutine_that_receives_the_webhooks_itself_advances_the_clock(
    server: MockServer,
) -> None:
    tenant = server.tenant(clock="frozen")
    came: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        came.append(head.split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(receive, "127.0.0.1", 0) as receiver:
            port = receiver.sockets[0].getsockname()[1]
            body = {"input": {"prompt": "p"}, "webhook": f"http://127.0.0.1:{port}/hook"}
            headers = {"Authorization": f"Bearer {tenant.token}"}
            async with httpx.AsyncClient(
                base_url=server.url, headers=headers, timeout=20
            ) as client:
                await client.post(KONTEXT, json=body)
            happened = await tenant.as_async().advance(10)
            assert [event["status"] for event in happened] == ["processing", "succeeded"]
            assert [delivery["event"] for delivery in await tenant.as_async().webhooks()][
                -1
            ] == "completed"

    asyncio.run(test())
    assert came[0] == b"POST /hook HTTP/1.1"


def test_a_tenant_s_asynchronous_twin_has_its_methods() -> None:
    def methods(kind: type) -> dict[str, str]:
        public = [
            (name, value)
            for name, value in vars(kind).items()
            if callable(value) and not name.startswith("_")
        ]
        return {name: str(inspect.signature(value)) for name, value in public}

    assert methods(AsyncTenant) == {
        name: signature
        for name, signature in methods(Tenant).items()
        if name not in ("call", "as_async")
    }
