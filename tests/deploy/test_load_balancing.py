"""Many doubles behind HAProxy are as one: with the configuration that `mockserver shards` writes, on real processes."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest
import trustme

from mockserver import Tenant
from mockserver.backend.files import signature_of
from tests.helpers.cluster import (
    HAPROXY,
    Client,
    Cluster,
    Double,
    cluster,
    free_port,
    small_pictures,
    with_haproxy,
)
from tests.helpers.command import run
from tests.helpers.documents import KONTEXT, ULTRA
from tests.helpers.receiver import Receiver

pytestmark = [pytest.mark.thorough, pytest.mark.slow, with_haproxy]

BODY = {"input": {"prompt": "p"}}
UPLOAD = b'--b\r\nContent-Disposition: form-data; name="content"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--\r\n'
LIST = "/replicate/v1/predictions"
PATIENCE = 30.0  # seconds, for what takes a few at most


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three"), 3) as running:
        yield running


def paths_of(told: dict[str, Any]) -> dict[str, str]:
    """The paths of a prediction's URLs."""
    return {name: re.sub("^https?://[^/]+", "", url) for name, url in told["urls"].items()}


def a_life(url: str, token: str, hook: str) -> list[tuple[Any, bytes]]:
    """All that a tenant's client sees: predictions in every way, files, a frozen clock, faults on the wire."""
    client = Client(url, token)
    seen: list[tuple[Any, bytes]] = []

    def see(method: str, path: str, value: object = None, **headers: str) -> Any:
        status, body = client.ask(method, path, value, **headers)
        seen.append(
            (
                status,
                re.sub(
                    rb"\d{4}-\d\d-\d\dT[\d:.]+Z|id: \d+", b"<time>", body.replace(url.encode(), b"")
                ),
            )
        )
        return json.loads(body) if body.startswith(b"{") and status in (200, 201) else None

    told = see("POST", KONTEXT, BODY)
    urls = paths_of(told)
    see("GET", urls["get"])
    ended = see("GET", urls["get"])
    for path in (urls["web"], urls["stream"], ended["output"].removeprefix(url), LIST):
        see("GET", path)
    see("POST", ULTRA, BODY, Prefer="wait=5")
    see("POST", KONTEXT, {**BODY, "webhook": hook, "webhook_events_filter": ["completed"]})
    file = see(
        "POST", "/replicate/v1/files", UPLOAD, Content_Type="multipart/form-data; boundary=b"
    )
    place = paths_of(file)["get"]
    see("GET", place + "/download")
    see("DELETE", place)

    see("PUT", "/__admin/clock", {"mode": "frozen", "now": "2026-01-01T00:00:00Z"})
    frozen = paths_of(see("POST", KONTEXT, BODY))
    see("GET", frozen["get"])
    see("POST", "/__admin/clock/advance", {"seconds": 3.9})
    see("GET", frozen["get"])
    see("POST", frozen["cancel"])

    faults = [
        {"cut": 0.5},
        {"disconnect": "close"},
        {"status": 502, "page": "html"},
        {"body": "empty"},
        {"drip": 0.01},
    ]
    see("PUT", "/__admin/scenario", {"faults": {"createPrediction": faults}})
    for _ in faults:
        see("POST", KONTEXT, BODY)
    see("GET", "/nowhere")
    see("GET", LIST)
    see("GET", "/__admin/verdict")
    client.close()
    return seen


@pytest.mark.parametrize("number", range(6))
def test_a_signed_url_leads_to_the_file_without_a_token(three: Cluster, number: int) -> None:
    client, nobody = Client(three.url, f"files-{number}"), Client(three.url, "")
    uploading = {"Content_Type": "multipart/form-data; boundary=b"}
    file = json.loads(client.ask("POST", "/replicate/v1/files", UPLOAD, **uploading)[1])
    secret = json.loads(client.ask("GET", "/replicate/v1/webhooks/default/secret")[1])["key"]
    signed = {"owner": "me", "expiry": "99999999999"}
    signed["signature"] = signature_of(secret, "me", file["id"], signed["expiry"])
    path = paths_of(file)["get"] + "/download"
    assert nobody.ask("GET", f"{path}?{urlencode(signed)}") == (200, b"hi")
    assert client.ask("GET", path) == (200, b"hi")
    client.close()
    nobody.close()


def test_two_hundred_tenants_live_as_on_one_server(three: Cluster, tmp_path: Path) -> None:
    tokens = [f"tenant-{number}" for number in range(199)] + ["with+plus, and comma"]
    alone, receiver = Double("--contract", str(small_pictures(tmp_path))), Receiver()
    try:
        alone.wait_until_ready()
        with ThreadPoolExecutor(4) as pool:
            apart = list(pool.map(lambda token: a_life(three.url, token, receiver.url), tokens))
            together = list(
                pool.map(lambda token: a_life(alone.url, token, receiver.url), tokens[::4])
            )
        assert apart[::4] == together, "the same bytes"
        usual = [status for status, _ in together[0]]
        for token, seen in zip(tokens, apart, strict=True):
            assert [status for status, _ in seen] == usual, token
        told = [receiver.next() for _ in (*apart, *together)]
        assert {event["status"] for event in told} == {"succeeded"}
        assert len({event["id"] for event in told}) == len(tokens)
    finally:
        alone.close()
        receiver.close()
    shares = Counter(three.servers_of(tokens).values())
    assert shares.keys() == {double.address for double in three.doubles}
    assert min(shares.values()) > 200 * 0.15


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer t{}",
        "bearer t{}",
        "BEARER   t{}",
        "Bearer t{},u",
        "Bearer t {} u",
        "Bearer Größe{}",
        "",
    ],
)
def test_doubles_and_load_balancer_agree_whose_request_it_is(
    three: Cluster, authorization: str, number: int
) -> None:
    """What is asked without a token is found, wherever the token has led the create."""
    with closing(HTTPConnection("127.0.0.1", three.port, timeout=20)) as connection:
        sent = (
            {"Authorization": authorization.format(number).encode("latin-1")}
            if authorization
            else {}
        )
        connection.request(
            "POST", KONTEXT, json.dumps(BODY), {"Content-Type": "application/json", **sent}
        )
        told = json.load(connection.getresponse())
        for path, headers in ((paths_of(told)["web"], {}), (paths_of(told)["get"], sent)):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert (response.status, told["id"] in response.read().decode()) == (200, True)


class TestWhatIsBroken:
    """Faults on the wire, as a client of the load balancer meets them: on a fresh connection, and on one in use."""

    @pytest.fixture(params=["fresh", "in use"])
    def line(self, three: Cluster, request: pytest.FixtureRequest) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", three.port)) as line:
            line.settimeout(20)
            if request.param == "in use":
                line.sendall(b"GET /__admin/scenario HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert json.loads(read_response(line)[1])["name"] == "succeeded"
            yield line

    @pytest.fixture
    def tenant(self, three: Cluster, request: pytest.FixtureRequest) -> Tenant:
        return Tenant(three.url, request.node.name)

    @pytest.mark.parametrize("kind", ["close", "reset"])
    @pytest.mark.parametrize("after", [None, "commit"])
    def test_a_connection_that_is_broken_off_is_closed_without_an_answer(
        self, line: socket.socket, tenant: Tenant, kind: str, after: str | None
    ) -> None:
        tenant.use(
            {
                "faults": {
                    "createPrediction": [
                        {"disconnect": kind, **({"after": after} if after else {})}
                    ]
                }
            }
        )
        line.sendall(post(tenant.token))
        assert line.recv(1) == b"", "closed, not reset and not 502: HAProxy has no reset to pass on"
        (exchange,) = tenant.requests()
        assert exchange["fault"]["disconnect"] == kind, "the journal says which it was"
        assert len(tenant.predictions()) == (after == "commit"), "and the create was not sent again"

    def test_a_body_that_is_cut_is_cut(self, line: socket.socket, tenant: Tenant) -> None:
        tenant.use({"faults": {"createPrediction": [{"cut": 0.5}]}})
        line.sendall(post(tenant.token))
        announced, body = read_response(line)
        assert len(body) == announced // 2

    def test_a_body_that_stalls_stalls(self, line: socket.socket, tenant: Tenant) -> None:
        tenant.use({"faults": {"createPrediction": [{"stall": 0.5}]}})
        line.sendall(post(tenant.token))
        line.settimeout(0.5)
        announced, body = read_response(line)
        assert len(body) == announced // 2

    def test_a_body_that_drips_comes_in_pieces(self, line: socket.socket, tenant: Tenant) -> None:
        tenant.use({"faults": {"createPrediction": [{"drip": 0.3}]}})
        line.sendall(post(tenant.token))
        pieces: list[bytes] = []
        announced, body = read_response(line, pieces)
        assert len(body) == announced
        assert len(pieces) > 3


def post(token: str, *headers: str) -> bytes:
    body = json.dumps(BODY)
    head = [
        f"POST {KONTEXT} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*head, *headers, f"Content-Length: {len(body)}", "", body]).encode()


def read_response(line: socket.socket, pieces: list[bytes] | None = None) -> tuple[int, bytes]:
    """The length that a response announces, and as much of its body as comes."""
    data, announced = b"", -1
    while announced < 0 or len(data) < announced:
        try:
            piece = line.recv(65536)
        except TimeoutError:
            break
        if not piece:
            break
        if pieces is not None:
            pieces.append(piece)
        data += piece
        if announced < 0 and b"\r\n\r\n" in data:
            head, _, data = data.partition(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head.lower())
            assert found
            announced = int(found[1])
    return announced, data


class TestWhatLasts:
    """Waits and streams, which are silent while a clock is frozen."""

    @pytest.fixture
    def tenant(self, three: Cluster, request: pytest.FixtureRequest) -> Iterator[Tenant]:
        tenant = Tenant(three.url, request.node.name)
        tenant.freeze()
        yield tenant
        tenant.reset()

    def test_the_events_of_a_stream_arrive_one_by_one(self, three: Cluster, tenant: Tenant) -> None:
        client = three.client(tenant.token)
        urls = paths_of(client.json("POST", KONTEXT, BODY))
        with socket.create_connection(("127.0.0.1", three.port), timeout=20) as line:
            line.sendall(f"GET {urls['stream']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            heard = b""
            for seconds, expected in [(0, b": hi"), (0.5, b"event: logs"), (4, b"event: done")]:
                tenant.advance(seconds)
                while expected not in heard:
                    piece = line.recv(65536)
                    assert piece
                    heard += piece

    def test_a_create_that_waits_is_answered_when_time_has_passed(
        self, three: Cluster, tenant: Tenant
    ) -> None:
        with socket.create_connection(("127.0.0.1", three.port), timeout=20) as line:
            line.sendall(post(tenant.token, "Prefer: wait"))
            until(tenant.predictions)
            tenant.advance(10)
            assert b'"output":"' in read_response(line)[1]

    def test_a_client_that_hangs_up_has_hung_up_on_the_double(
        self, three: Cluster, tenant: Tenant
    ) -> None:
        with socket.create_connection(("127.0.0.1", three.port), timeout=20) as line:
            line.sendall(post(tenant.token, "Prefer: wait"))
            until(tenant.predictions)
            assert tenant.requests() == [], "it is still under way"
        until(tenant.requests)


def until(holds: Callable[[], Any]) -> None:
    """Ask until something holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE


class TestManyAsOne:
    def test_what_concerns_all_says_that_one_of_them_answers(self, three: Cluster) -> None:
        everybody = Tenant(three.url, "")
        for path in ("/verdict?all=true", "/tenants", "/coverage?all=true", "/health"):
            assert everybody.call("GET", path)["server_count"] == 3
            assert "server_count" not in Tenant(three.doubles[0].url, "").call("GET", path)
        for path in ("/verdict", "/coverage", "/requests"):
            assert "server_count" not in everybody.call("GET", path)

    def test_the_verdict_command_adds_them_up_and_takes_no_part_for_the_whole(
        self, three: Cluster
    ) -> None:
        tenants = {
            three.server_of(f"judged-{number}"): f"judged-{number}" for number in count_until(three)
        }
        for token in tenants.values():
            three.client(token).json("POST", KONTEXT, BODY)
            three.client(token).ask("GET", f"/nowhere/{len(token)}")
        every = [word for double in three.doubles for word in ("--url", double.url)]
        ended = run("verdict", *every)
        assert ended.returncode == 1
        assert ended.stdout.count("/nowhere/") >= 3
        ended = run("verdict", "--url", three.url)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"{three.url} is a load balancer in front of 3 doubles" in ended.stderr
        token = tenants[three.doubles[0].address]
        alone = run("verdict", "--url", three.url, "--token", token)
        assert (alone.returncode, alone.stdout.count("/nowhere/")) == (1, 1)


def count_until(three: Cluster) -> Iterator[int]:
    """Numbers, until the tenants that are called after them are on every double."""
    met: set[str] = set()
    for number in count():
        if len(met) == len(three.doubles):
            return
        met.add(three.server_of(f"judged-{number}"))
        yield number


def test_tls_ends_at_the_load_balancer(tmp_path: Path) -> None:
    authority, file = trustme.CA(), tmp_path / "tls.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    with cluster(
        tmp_path, 1, "--public-url", "https://127.0.0.1:1", shards=("--tls-cert", str(file))
    ) as running:
        tenant = Tenant(running.url.replace("http:", "https:"), "t", tls=context)
        assert tenant.call("GET", "/health")["status"] == "ok"


class Load:
    """Tenants at work, each in a thread, until the `with` block ends. `work` takes turns, and tells what failed."""

    def __init__(self, work: Callable[[int], list[str]], threads: int) -> None:
        self.failed: dict[int, list[str]] = {number: [] for number in range(threads)}
        self._done: Counter[int] = Counter()
        self._turn = threading.Condition()
        self._over = threading.Event()
        self._work = work
        self._threads = [
            threading.Thread(target=self._go_on, args=(number,)) for number in self.failed
        ]

    def _go_on(self, number: int) -> None:
        while not self._over.is_set():
            failed = self._work(number)
            with self._turn:
                self.failed[number] += failed
                self._done[number] += not failed
                self._turn.notify_all()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, turns: int = 5) -> None:
        """Wait until each has done so many turns more, in which nothing failed."""
        with self._turn:
            wanted = {number: self._done[number] + turns for number in self.failed}
            gone_on = self._turn.wait_for(
                lambda: all(self._done[number] >= least for number, least in wanted.items()),
                PATIENCE,
            )
        assert gone_on, self.failed


def a_turn(client: Client) -> list[str]:
    """A picture from its create to its page; what failed on the way."""
    failed = []
    status, body = client.ask("POST", KONTEXT, BODY)
    if status != 200:
        return [f"create: {status!r} {body.decode()}"]
    urls = paths_of(json.loads(body))
    for name in ("get", "get", "web", "stream"):
        status, body = client.ask("GET", urls[name])
        if status != 200:
            failed.append(f"{name}: {status!r} {body.decode()}")
    return failed


def test_a_double_that_is_killed_is_noticed_by_its_own_tenants_alone(tmp_path: Path) -> None:
    with cluster(tmp_path, 3) as running:
        tokens = [f"tenant-{number}" for number in range(12)]
        clients = [running.client(token) for token in tokens]
        first = [client.json("POST", KONTEXT, BODY)["id"] for client in clients]
        where = list(running.servers_of(tokens).values())
        victim = next(double for double in running.doubles if double.address == where[0])
        with Load(lambda number: a_turn(clients[number]), len(tokens)) as load:
            load.go_on()
            victim.process.kill()
            load.go_on()
        for number, token in enumerate(tokens):
            if where[number] != victim.address:
                assert load.failed[number] == []
                assert running.server_of(token) == where[number]
                continue
            assert running.server_of(token) != victim.address
            assert len(load.failed[number]) <= 5, "one turn was under way"
            for failure in load.failed[number]:
                assert re.match(
                    "create: 'closed'|(get|web|stream): ('closed'|'cut'|404 .* no prediction )",
                    failure,
                )
            status, body = clients[number].ask("GET", f"{LIST}/{first[number]}")
            assert status == 200 or "This token has no prediction" in body.decode()
            clients[number].ask("POST", "/__admin/reset")
            assert clients[number].json("POST", KONTEXT, BODY)["id"] == first[number], (
                "it begins anew, as it began"
            )


@pytest.mark.thorough
def test_a_double_that_is_added_takes_its_share_and_no_more(tmp_path: Path) -> None:
    with cluster(tmp_path, 3) as running:
        tokens = [f"tenant-{number}" for number in range(200)]
        before = running.servers_of(tokens)
        added = Double("--contract", str(small_pictures(tmp_path)))
        added.wait_until_ready()
        running.doubles.append(added)
        clients = [running.client(token) for token in tokens[:6]]
        with Load(lambda number: a_turn(clients[number]), len(clients)) as load:
            load.go_on()
            running.load()
            load.go_on()
        after = running.servers_of(tokens)
        moved = {token for token in tokens if before[token] != after[token]}
        assert {after[token] for token in moved} == {added.address}
        assert 200 * 0.10 < len(moved) < 200 * 0.45, "about a quarter"
        for number, failed in load.failed.items():
            assert failed == [] or tokens[number] in moved


@pytest.mark.thorough
def test_a_double_that_drains_loses_nothing(tmp_path: Path) -> None:
    numbers = count()

    def a_fresh_tenant(_: int) -> list[str]:
        client = Client(running.url, f"tenant-{next(numbers)}")
        failed = a_turn(client)
        client.close()
        return failed

    with cluster(tmp_path, 3, "--drain", "2") as running:
        leaving = running.doubles[0]
        old = next(
            token for token in map(str, count()) if running.server_of(token) == leaving.address
        )
        with Load(a_fresh_tenant, 6) as load:
            load.go_on()
            leaving.process.terminate()
            until(lambda: next_new(running, numbers) != leaving.address)
            assert running.server_of(old) == leaving.address, "whoever is under way is served"
            assert leaving.process.wait(timeout=30) == 0
            load.go_on()
        assert [failure for failures in load.failed.values() for failure in failures] == []
        assert running.server_of(old) != leaving.address


def next_new(running: Cluster, numbers: Iterator[int]) -> str:
    return running.server_of(f"new-{next(numbers)}")


PAGE = (Path(__file__).parent.parent.parent / "docs" / "shards.md").read_text()


@pytest.mark.thorough
def test_what_the_page_shows_runs(tmp_path: Path) -> None:
    start, verdict = re.findall(
        r"^<!-- tested by: tests/deploy/test_load_balancing.py -->\n```sh\n(.*?)^```$",
        PAGE,
        re.M | re.S,
    )
    one, other, front = free_port(), free_port(), free_port()

    def here(text: str) -> str:
        text = text.replace("3590", str(one)).replace("3591", str(other))
        return text.replace(" > haproxy.cfg", f" --listen 127.0.0.1:{front} > haproxy.cfg")

    path = f"{Path(sys.executable).parent}:{Path(str(HAPROXY)).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    shell = ["bash", "-e", "-c"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*shell, here(start)],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as running,
    ):
        try:
            until(lambda: all(map(listens, (one, other, front))))
            client = Client(f"http://127.0.0.1:{front}", "t")
            until(lambda: client.ask("POST", KONTEXT, BODY)[0] == 200)
            client.close()
            judged = subprocess.run(
                [*shell, here(verdict)], env=environment, capture_output=True, text=True
            )
            assert (judged.returncode, judged.stderr) == (0, "")
            assert (
                f"1 exchanges with http://127.0.0.1:{one}, http://127.0.0.1:{other} "
                in judged.stdout
            )
        finally:
            os.killpg(running.pid, signal.SIGKILL)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
