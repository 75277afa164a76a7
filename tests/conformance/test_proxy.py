"""`mockserver proxy`: everything is passed on as it is, and both sides are held against the contract."""

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from replicate.client import Client

from mockserver import MockServer
from mockserver.conformance.forwarding import passed_on, without_hops
from mockserver.conformance.proxy import proxy_app
from mockserver.errors import MockServerError
from tests.conformance.gateways import PLANTED, Departing, standing
from tests.helpers.command import run
from tests.helpers.documents import KONTEXT, ULTRA
from tests.helpers.node import node, with_node
from tests.helpers.proxies import Raw, asking, proxying
from tests.helpers.share import first

pytestmark = pytest.mark.slow

RULES = ("MC701", "MC702", "MC703", "MC704", "MC706", "MC708", "MC709")
GOOD = {"input": {"prompt": "a lighthouse", "aspect_ratio": "3:2", "output_format": "png"}}


def live(client: httpx.Client, given: Any = GOOD) -> dict[str, Any]:
    """A prediction, created and read to its end."""
    told = client.post(ULTRA, json=given).json()
    for _ in range(4):
        told = client.get(f"/replicate/v1/predictions/{told['id']}").json()
    return dict(told)


def test_a_life_goes_through_and_both_sides_conform(server: MockServer) -> None:
    with proxying(server.url) as tenant, asking(tenant) as client:
        told = live(client)
        assert told["status"] == "succeeded"
        picture = client.get("/xezq/" + told["output"].partition("/xezq/")[2])
        assert picture.content[:4] == b"\x89PNG"
        verdict = tenant.verdict()
        assert (verdict["ok"], verdict["exchanges"], verdict["departures"]) == (True, 6, [])
        last = tenant.requests()[-1]
        assert (last["operation"], last["response"]["body_size"]) == (
            "getOutputFile",
            len(picture.content),
        )
        assert tenant.coverage()["statuses"]["met"] == {
            "starting": 1,
            "processing": 1,
            "succeeded": 3,
        }
        assert tenant.coverage()["transitions"]["met"] == {
            "starting → processing": 1,
            "processing → succeeded": 1,
        }


def test_answers_are_those_of_the_gateway_but_for_hops(server: MockServer) -> None:
    with proxying(server.url) as tenant, asking(tenant) as client:
        with httpx.Client(base_url=server.url, headers=dict(client.headers)) as direct:
            for path in (
                "/replicate/v1/predictions",
                "/nowhere",
                "/openapi.json",
                "/p/" + "0" * 26,
            ):
                through, straight = client.get(path), direct.get(path)
                assert (through.status_code, through.content) == (
                    straight.status_code,
                    straight.content,
                )
                kept = {name for name in straight.headers if name not in ("date", "connection")}
                assert {name: through.headers[name] for name in kept} == {
                    name: straight.headers[name] for name in kept
                }
        assert (
            server.tenant(tenant.token)
            .requests()[0]["request"]["headers"]["host"]
            .endswith(str(server.port))
        )


FURTHER = (
    *("creates without a prompt", "refuses in a shape of its own"),
    *("a square picture", "half a picture", "text for a picture", "a picture of another format"),
)
SOME_OF_EACH = [
    *(
        each
        for rule in RULES
        for each in [planted for planted in PLANTED if planted.rule == rule][:3]
    ),
    *(each for each in PLANTED if each.name in FURTHER),
]


@pytest.mark.parametrize("planted", first(4, SOME_OF_EACH), ids=lambda planted: planted.name)
def test_a_gateway_that_departs_is_told_of_exactly_and_the_client_gets_what_it_sent(
    server: MockServer, planted: Any
) -> None:
    with standing(Departing(server.url, planted.change, planted.prepare)) as gateway:
        with proxying(gateway.url) as tenant, asking(tenant) as client:
            created = client.post(ULTRA, json=GOOD)
            identifier = created.json().get("id")
            path = f"/replicate/v1/predictions/{identifier}"
            with httpx.Client(base_url=gateway.url, headers=dict(client.headers)) as direct:
                for each in (path, path, "/replicate/v1/predictions"):
                    through = client.get(each)
                    assert through.status_code == direct.get(each).status_code
            client.get("/replicate/v1/models/black-forest-labs/flux-kontext-max")
            client.get("/replicate/v1/predictions/" + "0" * 26)
            client.post(ULTRA, json={"input": {}})
            client.post(path + "/cancel")
            client.get(f"/xezq/{identifier}/output.png")
            verdict = tenant.verdict()
        found = {each["rule"] for each in verdict["departures"]}
        assert found == ({planted.rule} if planted.name != "half a picture" else set()), (
            "its head is all that is looked at"
        )
        assert tenant.token not in json.dumps(verdict)


def test_departures_fail_the_verdict_and_warnings_do_not(server: MockServer) -> None:
    for name, ok in (("another prompt", False), ("an unknown property", True)):
        planted = next(each for each in PLANTED if each.name == name)
        with (
            standing(Departing(server.url, planted.change)) as gateway,
            proxying(gateway.url) as tenant,
        ):
            with asking(tenant) as client:
                assert client.post(ULTRA, json=GOOD).json()["status"] == "starting"
            verdict = tenant.verdict()
            assert (verdict["ok"], len(verdict["departures"])) == (ok, 1)
            ended = run("verdict", "--url", tenant.url, "--quiet")
            assert ended.returncode == int(not ok)
            assert (planted.rule in ended.stdout) == (not ok)


def test_what_clients_do_wrong_is_passed_on_and_written_down(server: MockServer) -> None:
    with proxying(server.url) as tenant, asking(tenant) as client:
        assert client.post(ULTRA, json={"input": {"prompt": 7}}).status_code == 422
        assert client.get("/replicate/v1/prediction").status_code == 404
        verdict = tenant.verdict()
        assert [each["pointer"] for each in verdict["violations"]] == ["/input/prompt"]
        assert [each["path"] for each in verdict["unmatched"]] == ["/replicate/v1/prediction"]
        assert len(server.tenant(tenant.token).requests(violations=True)) == 1


def test_strict_refuses_what_is_forbidden_before_it_costs_anything(server: MockServer) -> None:
    with proxying(server.url, strict=True) as tenant, asking(tenant) as client:
        bodies: list[Any] = [{"input": {}}, {"input": {"prompt": "p", "unknown": 1}}]
        for body in bodies:
            refused = client.post(ULTRA, json=body)
            assert (refused.status_code, refused.json()["title"]) == (
                422,
                "Input validation failed",
            )
        broken = client.post(ULTRA, content=b"{", headers={"content-type": "application/json"})
        assert broken.status_code == 400
        assert server.tenant(tenant.token).requests() == []
        assert tenant.verdict()["violating_exchanges"] == 3
        assert client.post(ULTRA, json=GOOD).status_code == 200


def test_the_lid_on_creates_holds_also_for_those_made_at_once(server: MockServer) -> None:
    with proxying(server.url, max_creates=3) as tenant:

        async def create(client: httpx.AsyncClient) -> int:
            return (await client.post(tenant.url + KONTEXT, json=GOOD)).status_code

        async def many() -> list[int]:
            headers = {"Authorization": f"Bearer {tenant.token}"}
            async with httpx.AsyncClient(headers=headers) as client:
                return await asyncio.gather(*(create(client) for _ in range(12)))

        with asking(tenant) as client:
            assert client.post(ULTRA, json={"input": {}}).status_code == 422, (
                "one that is refused costs nothing"
            )
            statuses = asyncio.run(many())
            assert sorted(statuses) == [200] * 3 + [402] * 9
            refused = client.post(ULTRA, json=GOOD)
            assert "--max-creates" in refused.json()["detail"]
        assert len(server.tenant(tenant.token).predictions()) == 3


CREATES = (
    ULTRA,
    ULTRA + "/",
    ULTRA.replace("/v1/", "//v1/"),
    ULTRA.replace("/v1/", "/./v1/"),
    ULTRA.replace("/v1/", "/x/../v1/"),
    ULTRA.replace("/v1/", "/%2e/v1/"),
    ULTRA.replace("predictions", "PREDICTIONS"),
    ULTRA.replace("predictions", "%70redictions"),
    ULTRA.replace("predictions", "%2570redictions"),
    ULTRA.replace("ultra/", "ultra%2f"),
    ULTRA.replace("ultra/", "ultra;v=1/"),
    ULTRA.replace("flux-1.1-pro-ultra", "flux-dev"),
    "/replicate/v1/predictions/../predictions",
    "/replicate/v1/deployments/me/mine/predictions",
    "/replicate/v1/models/me/mine/versions/1/trainings",
    "/replicate/v1/trainings",
    "/v1/predictions",
)


def recording(paths: list[str]) -> Raw:
    """A gateway that answers 201, and notes the request lines' paths of its POSTs."""

    def created(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["content-length"] or 0))
        paths.append(handler.requestline.split()[1])
        handler.send_response(201)
        handler.send_header("content-length", "2")
        handler.send_header("content-type", "application/json")
        handler.end_headers()
        handler.wfile.write(b"{}")

    return Raw(created)


def post_raw(url: str, path: str) -> int:
    """The status of a create whose path no library has touched."""
    body = json.dumps(GOOD)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            "Authorization: Bearer of-a-raw-client\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("strict", [False, True])
def test_no_spelling_of_a_create_passes_the_limit(strict: bool) -> None:
    reached: list[str] = []
    options = {"max_creates": 0, "strict": strict}
    with recording(reached) as gateway, proxying(gateway.url, **options) as tenant:
        statuses = {path: post_raw(tenant.url, path) for path in CREATES}
    assert reached == []
    assert set(statuses.values()) == ({402, 404} if strict else {402})


def test_each_spelling_of_a_create_counts_and_reaches_the_gateway_as_it_was_sent() -> None:
    reached: list[str] = []
    with recording(reached) as gateway, proxying(gateway.url, max_creates=17) as tenant:
        assert {post_raw(tenant.url, path) for path in CREATES} == {201}
        assert post_raw(tenant.url, ULTRA) == 402
    # BaseHTTPRequestHandler itself does not change the request line.
    assert reached == list(CREATES)


def test_other_posts_of_the_contract_are_no_creates() -> None:
    reached: list[str] = []
    identifier = "0" * 26
    others = [
        f"/replicate/v1/predictions/{identifier}/cancel",
        f"/replicate//v1/predictions/{identifier}/CANCEL/",
        "/replicate/v1/files",
    ]
    with recording(reached) as gateway, proxying(gateway.url, max_creates=0) as tenant:
        assert {post_raw(tenant.url, path) for path in others} == {201}
    assert reached == others


def test_strict_refuses_what_no_operation_takes() -> None:
    reached: list[str] = []
    with (
        recording(reached) as gateway,
        proxying(gateway.url, strict=True) as tenant,
        asking(tenant) as client,
    ):
        unknown = client.get("/replicate/v1/hardware")
        assert (unknown.status_code, unknown.json()["status"]) == (404, 404)
        assert client.delete(ULTRA).status_code == 405
    assert reached == []


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A gateway that sends the same bytes to every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if not connection.recv(65536):
                        return
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = listener.getsockname()
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            socket.create_connection(address).close()
            thread.join()


def test_a_304_may_name_the_length_of_what_it_stands_for() -> None:
    answer = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n'
    with answering(answer) as url, proxying(url) as tenant, asking(tenant) as client:
        for _ in range(2):  # the connection stays of use
            response = client.get(f"/xezq/{'1' * 26}/output.jpg")
            assert (response.status_code, response.headers["etag"]) == (304, '"x"')


def test_chunks_are_believed_and_not_a_content_length_beside_them() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 5\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    with answering(answer) as url, proxying(url) as tenant, asking(tenant) as client:
        response = client.get("/replicate/v1/predictions")
        assert (response.status_code, response.content) == (200, b"{}")
        assert response.headers.get("content-length") != "5"


@pytest.mark.parametrize("path", ["/replicate/v1/predictions", "/elsewhere"])
def test_a_status_that_cannot_be_sent_on_is_a_502_and_a_departure(path: str) -> None:
    answer = b"HTTP/1.1 600 Odd\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with answering(answer) as url, proxying(url) as tenant, asking(tenant) as client:
        response = client.get(path)
        assert (response.status_code, response.json()["status"]) == (502, 502)
        assert "answered 600" in response.json()["detail"]
        departures = tenant.verdict()["departures"]
        assert [departure["rule"] for departure in departures] == ["MC701"]


def test_options_of_the_whole_server_are_forwarded() -> None:
    answer = b"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"
    with answering(answer) as url, proxying(url) as tenant:
        address = ("127.0.0.1", int(tenant.url.rpartition(":")[2]))
        with socket.create_connection(address, 20) as connection:
            connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 ")


def test_a_gateway_that_is_not_there_is_a_502_that_says_why() -> None:
    with proxying("http://127.0.0.1:9") as tenant, asking(tenant) as client:
        answer = client.get("/replicate/v1/predictions")
        assert (answer.status_code, answer.json()["status"]) == (502, 502)
        assert "no answer from 127.0.0.1" in answer.json()["detail"]
        assert tenant.verdict()["departures"] == []


def test_an_answer_that_breaks_off_breaks_off_for_the_client_too() -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100000")
        handler.send_header("content-type", "image/png")
        handler.end_headers()
        handler.wfile.write(b"x" * 50_000)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    with Raw(half) as gateway, proxying(gateway.url) as tenant, asking(tenant) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(f"/xezq/{'0' * 26}/output.png")
        assert tenant.verdict()["departures"] == []


def test_a_stream_arrives_as_it_is_sent() -> None:
    go_on = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.flush()
            go_on.wait(20)
        handler.wfile.write(b"0\r\n\r\n")

    with (
        Raw(drip) as gateway,
        proxying(gateway.url) as tenant,
        asking(tenant) as client,
        client.stream("GET", "/v1/files/bcwr-" + "0" * 26) as response,
    ):
        pieces = response.iter_raw()
        assert next(pieces) == b"data: 1\n\n", "the first event is there before the second is sent"
        go_on.set()
        assert b"".join(pieces) == b"data: 2\n\n"


def test_a_client_that_leaves_cancels_what_it_asked_for() -> None:
    asked, left = threading.Event(), threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        handler.connection.settimeout(20)
        if handler.connection.recv(1) == b"":
            left.set()
        handler.close_connection = True

    with Raw(wait) as gateway, proxying(gateway.url) as tenant:
        host, port = tenant.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /replicate/v1/predictions HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(20)
        assert left.wait(20), "the gateway is told"


def test_a_long_upload_and_a_long_picture_go_through_whole() -> None:
    taken: list[int] = []
    long = b"0123456789abcdef" * 400_000

    def echo(handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        taken.append(len(body))
        handler.send_response(201)
        handler.send_header("content-type", "image/png")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with Raw(echo) as gateway, proxying(gateway.url) as tenant, asking(tenant) as client:
        answer = client.post(
            "/replicate/v1/files", content=long, headers={"content-type": "multipart/form-data"}
        )
        assert answer.content == long
        assert taken == [len(long)]
        (seen,) = tenant.requests()
        assert (seen["request"]["body_size"], seen["response"]["body_size"]) == (
            len(long),
            len(long),
        )


def test_a_body_in_chunks_is_passed_on(server: MockServer) -> None:
    with proxying(server.url) as tenant, asking(tenant) as client:
        pieces = [json.dumps(GOOD).encode()[at : at + 9] for at in range(0, 100, 9)]
        answer = client.post(
            ULTRA, content=iter(pieces), headers={"content-type": "application/json"}
        )
        assert answer.json()["input"]["prompt"] == "a lighthouse"


def test_compressed_answers_are_passed_on_as_they_are_and_judged() -> None:
    def squeeze(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["accept-encoding"])
        body = gzip.compress(b'{"previous": null, "results": []}')
        handler.send_response(200)
        for name, value in (("content-type", "application/json"), ("content-encoding", "gzip")):
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    seen: list[str] = []
    with Raw(squeeze) as gateway, proxying(gateway.url) as tenant, asking(tenant) as client:
        answer = client.get(
            "/replicate/v1/predictions", headers={"accept-encoding": "br, gzip;q=0.8, zstd"}
        )
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.json() == {"previous": None, "results": []}
        assert seen == ["gzip;q=0.8"]
        assert [each["pointer"] for each in tenant.verdict()["departures"]] == ["/next"]


def test_cookies_and_tokens_of_one_client_do_not_reach_another() -> None:
    def remember(handler: BaseHTTPRequestHandler) -> None:
        seen.append(
            (
                handler.headers["cookie"],
                handler.headers["authorization"],
                handler.headers["x-mock-admin-token"],
            )
        )
        handler.send_response(404)
        handler.send_header("set-cookie", "session=of-the-first")
        handler.send_header("content-length", "0")
        handler.end_headers()

    seen: list[Any] = []
    with Raw(remember) as gateway, proxying(gateway.url) as tenant:
        for headers in ({"Authorization": "Bearer first", "X-Mock-Admin-Token": "s"}, {}):
            httpx.get(tenant.url + "/anything", headers=headers)
    assert seen == [(None, "Bearer first", None), (None, None, None)]


def test_urls_lead_back_through_the_proxy_if_asked(server: MockServer) -> None:
    with proxying(server.url, rewrite_urls=True) as tenant, asking(tenant) as client:
        told = client.post(ULTRA, json=GOOD).json()
        assert all(url.startswith(tenant.url + "/") for url in told["urls"].values())
        assert client.get(told["urls"]["get"]).json()["status"] == "processing"
        assert "event: done" in client.get(told["urls"]["stream"]).text
        assert client.post(told["urls"]["cancel"]).json()["status"] == "succeeded"
        assert len(tenant.requests()) == 4
        assert tenant.verdict()["ok"]


def test_urls_of_another_origin_lead_back_too_and_without_the_token(server: MockServer) -> None:
    with MockServer() as behind, standing(Departing(behind.url, None)) as streams:

        def lead_away(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
            if asked.role in ("create", "get") and answer.good:
                answer.value["urls"]["get"] = "https://api.example/v1/predictions/x"
                answer.value["urls"]["stream"] = streams.url + "/v1/files/bcwr-elsewhere"

        with (
            standing(Departing(server.url, lead_away)) as gateway,
            proxying(gateway.url, rewrite_urls=True) as tenant,
            asking(tenant) as client,
        ):
            told = client.post(ULTRA, json=GOOD).json()
            assert client.get(told["urls"]["get"]).json()["status"] == "processing"
            client.get(told["urls"]["stream"])
            warned = {(each["rule"], each["severity"]) for each in tenant.verdict()["departures"]}
            assert warned == {("MC708", "warning")}
        (asked,) = streams.asked
        assert asked.path == "/v1/files/bcwr-elsewhere"
        assert "authorization" not in asked.headers


def test_the_official_python_client_runs_unmodified(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0")
    with proxying(server.url) as tenant:
        client = Client(base_url=tenant.base_url, api_token=tenant.token)
        output = client.run(
            "black-forest-labs/flux-1.1-pro-ultra", input={"prompt": "a lighthouse"}
        )
        assert str(output).endswith("/output.jpg")
        created = client.models.predictions.create(
            "black-forest-labs/flux-kontext-max", input={"prompt": "p"}
        )
        created.cancel()
        created.reload()
        assert created.status == "canceled"
        assert len(client.predictions.list().results) == 2
        client._client.close()
        verdict = tenant.verdict()
        assert (verdict["ok"], verdict["departures"], verdict["violations"]) == (True, [], [])


@pytest.mark.thorough
@with_node
def test_the_official_npm_client_runs_unmodified(server: MockServer) -> None:
    with proxying(server.url, rewrite_urls=True) as tenant:
        for program in ("run", "poll", "stream", "cancel", "list", "model"):
            node(tenant, "replicate.mjs", program)
        node(tenant, "replicate.mjs", "files", PICTURE="a picture")
        verdict = tenant.verdict()
        assert (verdict["ok"], verdict["departures"], verdict["violations"]) == (True, [], [])
        assert verdict["exchanges"] >= 15


CLIENT = """
import json, os, urllib.request
def ask(path, value=None):
    body = None if value is None else json.dumps(value).encode()
    headers = {"Authorization": "Bearer " + os.environ["REPLICATE_API_TOKEN"], "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(os.environ["REPLICATE_BASE_URL"] + path, body, headers)) as found:
        return json.load(found)
ask("/v1/models/black-forest-labs/flux-1.1-pro-ultra/predictions", {"input": {"prompt": "p"}})
"""


def test_a_command_runs_against_the_gateway_and_both_are_judged(
    server: MockServer, tmp_path: Path
) -> None:
    har = tmp_path / "run.har"
    token = {"REPLICATE_API_TOKEN": "a-token-of-the-proxy"}
    command = ("--", sys.executable, "-c", CLIENT)
    good = run("run", "--proxy", server.url, "--har", str(har), *command, **token)
    assert (good.returncode, good.stderr) == (0, "mockserver: 1 exchange, 1 tenant: ok\n")
    assert len(json.loads(har.read_text())["log"]["entries"]) == 1
    assert "a-token-of-the-proxy" not in har.read_text()
    planted = next(each for each in PLANTED if each.name == "another prompt")
    with standing(Departing(server.url, planted.change)) as gateway:
        bad = run("run", "--proxy", gateway.url, *command, **token)
    assert bad.returncode == 1
    assert (
        "the gateway answered what the contract does not allow (1):\n  - a-toke…: MC706 POST"
        in bad.stderr
    )
    assert (
        run("run", "--proxy", server.url, "--max-creates", "0", *command, **token).returncode == 1
    )
    lonely = run("run", "--max-creates", "1", *command)
    assert (lonely.returncode, lonely.stderr) == (
        2,
        "mockserver: --max-creates requires --proxy URL\n",
    )


def test_a_gateway_that_answers_nothing_is_2() -> None:
    swallowing = "import os, urllib.request as r\ntry: r.urlopen(os.environ['REPLICATE_BASE_URL'] + '/v1/predictions')\nexcept OSError: pass"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    ended = run("run", "--proxy", nobody, "--", sys.executable, "-c", swallowing)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"mockserver: {nobody} answered nothing, so nothing was tested\n",
    )


def test_the_command_serves_until_it_is_stopped(server: MockServer, tmp_path: Path) -> None:
    ready, har = tmp_path / "ready.json", tmp_path / "proxy.har"
    command = [sys.executable, "-m", "mockserver", "proxy", server.url, "--port", "0"]
    files = ["--ready-file", str(ready), "--har", str(har)]
    with subprocess.Popen([*command, *files], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert process.stdout.readline().startswith(f"proxy of {server.url} · contract ")
        assert json.loads(ready.read_text())["url"] == url
        assert httpx.get(url + "/replicate/v1/predictions").status_code == 200
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert len(json.loads(har.read_text())["log"]["entries"]) == 1
    assert not ready.exists()


def test_the_proxy_speaks_https_to_clients_that_take_nothing_else(
    server: MockServer, tmp_path: Path
) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "mockserver", "proxy", server.url, "--port", "0", "--tls"]
    command += ["--tls-name", "proxy.example", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        facts = json.loads(ready.read_text())
        assert lines[0] == f"mockserver listening on {facts['url']}\n"
        assert facts["url"].startswith("https://127.0.0.1:")
        assert lines[2].endswith(f": {facts['ca_file']}\n")
        trusted = ssl.create_default_context(cafile=facts["ca_file"])
        response = httpx.get(f"{facts['url']}/replicate/v1/predictions", verify=trusted)
        assert response.status_code == 200
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert not ready.exists()


def test_a_command_is_given_https_in_front_of_the_gateway(server: MockServer) -> None:
    script = "import os; assert os.environ['REPLICATE_BASE_URL'].startswith('https://')"
    flags = ("--tls", "--allow-empty", "--proxy", server.url)
    ended = run("run", *flags, "--", sys.executable, "-c", script)
    assert ended.returncode == 0


def test_a_gateway_without_tls_is_refused() -> None:
    with pytest.raises(MockServerError, match="without TLS"):
        proxy_app("http://gateway.example")
    assert (
        proxy_app("http://gateway.example", insecure=True).gateway.url == "http://gateway.example"
    )
    ended = run("proxy", "http://gateway.example")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


def test_a_certificate_is_verified() -> None:
    with MockServer(tls=True) as double:
        with proxying(double.url) as tenant, asking(tenant) as client:
            assert (
                "CERTIFICATE_VERIFY_FAILED"
                in client.get("/replicate/v1/predictions").json()["detail"]
            )
        with (
            proxying(double.url, gateway_ca=Path(str(double.ca_file))) as tenant,
            asking(tenant) as client,
        ):
            assert client.get("/replicate/v1/predictions").status_code == 200


def test_hop_by_hop_headers_are_not_passed_on() -> None:
    headers = [
        (b"Connection", b"close, X-Only"),
        (b"X-Only", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"TE", b"x"),
    ]
    kept = [(b"X-Other", b"2"), (b"Host", b"here"), (b"Accept-Encoding", b"br")]
    assert passed_on([*headers, *kept]) == [(b"x-other", b"2"), (b"accept-encoding", b"identity")]
    assert without_hops([(b"upgrade", b"h2c"), (b"content-length", b"1")]) == [
        (b"content-length", b"1")
    ]
