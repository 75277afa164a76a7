"""What clients can make the double hold is counted at /__admin/health, within a tenth of what the process takes, and bounded."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mockserver import Tenant
from tests.helpers.command import run, serving
from tests.helpers.documents import KONTEXT, ULTRA

MEGABYTE = 1024 * 1024
FILES = "/replicate/v1/files"
TENTH = 0.1
SLACK = (
    12 * MEGABYTE
)  # what a process takes by the way, for a request under way and for its own tables

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/statm").exists(),
        reason="this system does not say what a process takes",
    ),
]


class Double:
    """A double in a process of its own, and what it says it holds."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid, self.url = pid, url
        self.client = httpx.Client(base_url=url, timeout=60)
        self.port = int(url.rpartition(":")[2])
        self.ask("warm")
        self._before = self.resident(), self.counted()

    def ask(self, token: str) -> None:
        body = {"input": {"prompt": "p"}}
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait"}
        created = self.client.post(ULTRA, json=body, headers=headers).json()
        assert self.client.get(created["output"]).status_code == 200

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        lines = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        return int(lines["VmRSS"].split()[0]) * 1024

    def store(self) -> dict[str, int]:
        counts: dict[str, int] = self.client.get("/__admin/health").json()["store"]
        return counts

    def counted(self) -> int:
        return self.store()["bytes"]

    def assert_counted(self, least: int) -> None:
        """Make sure that what has come since is counted within a tenth, and that it is as much as it should be."""
        grown, counted = self.resident() - self._before[0], self.counted() - self._before[1]
        assert grown > least - SLACK, f"only {grown / MEGABYTE:.1f} MB have come"
        assert abs(grown - counted) < TENTH * max(grown, counted) + SLACK, (
            f"{grown / MEGABYTE:.1f} MB held, {counted / MEGABYTE:.1f} counted"
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    # What is freed is given back at once, so that what the process takes is what is held.
    tidy = {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    with serving(*getattr(request, "param", []), cwd=None, **tidy) as (process, url):
        double = Double(process.pid, url)
        yield double
        double.client.close()


def authorized(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer tenant-{number:05d}"}


def upload(double: Double, size: int, number: int = 0) -> Any:
    sent = double.client.post(
        FILES, files={"content": ("a", b"x" * size)}, headers=authorized(number)
    )
    return sent.json()


@pytest.mark.thorough
def test_creates(double: Double) -> None:
    for number in range(3000):
        body = {"input": {"prompt": f"{number} " + "p" * 10_000}}
        double.client.post(ULTRA, json=body, headers=authorized(number % 20))
    double.assert_counted(60 * MEGABYTE)


@pytest.mark.thorough
def test_tenants_with_scenarios(double: Double) -> None:
    faults = [{"status": 429, "detail": "d" * 20, "retry_after": number} for number in range(400)]
    for number in range(200):
        scenario = {"faults": {"createPrediction": faults, "getPrediction": faults}}
        assert (
            double.client.put(
                "/__admin/scenario", json=scenario, headers=authorized(number)
            ).status_code
            == 200
        )
    double.assert_counted(30 * MEGABYTE)


@pytest.mark.thorough
def test_files(double: Double) -> None:
    for number in range(12):
        upload(double, 10 * MEGABYTE, number)
    double.assert_counted(120 * MEGABYTE)


@pytest.mark.thorough
def test_pictures_of_long_prompts(double: Double) -> None:
    for number in range(10):
        body = {"input": {"prompt": f"{number}" * 5 * MEGABYTE, "output_format": "png"}}
        created = double.client.post(
            KONTEXT, json=body, headers={**authorized(1), "Prefer": "wait"}
        ).json()
        assert double.client.get(created["output"]).status_code == 200
        Tenant(double.url, "tenant-00001").reset()
    double.assert_counted(0)


@pytest.mark.thorough
def test_uploads_that_stop(double: Double) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            line = stack.enter_context(double.connect())
            line.sendall(
                f"POST {FILES} HTTP/1.1\r\nHost: x\r\nContent-Length: {60 * MEGABYTE}\r\n\r\n".encode()
            )
            line.sendall(b"x" * 50 * MEGABYTE)
        double.ask("others")
        double.assert_counted(200 * MEGABYTE)
    while double.store()["bytes_under_way"] > MEGABYTE:
        pass


@pytest.mark.thorough
def test_downloads_that_nobody_reads_even_of_what_is_deleted(double: Double) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            file = upload(double, 40 * MEGABYTE)
            for _ in range(4):
                line = stack.enter_context(double.connect())
                path = f"{FILES}/{file['id']}/download"
                line.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tenant-00000\r\n\r\n".encode()
                )
                assert line.recv(1) == b"H"
            double.assert_counted(40 * MEGABYTE)
            assert (
                double.client.delete(f"{FILES}/{file['id']}", headers=authorized(0)).status_code
                == 204
            )
        double.assert_counted(120 * MEGABYTE)
    while double.store()["bytes_under_way"] > MEGABYTE:
        pass


def test_trailers_without_end(double: Double) -> None:
    body = json.dumps({"input": {"prompt": "p"}}).encode()
    head = f"POST {ULTRA} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with double.connect() as line, contextlib.suppress(ConnectionError):
        line.sendall(head.encode() + b"%x\r\n%b\r\n0\r\n" % (len(body), body))
        for _ in range(200):
            line.sendall(b"X-Y: z\r\n" * 128 * 1024)
    double.assert_counted(0)


def test_heads_that_stop(double: Double) -> None:
    head = f"GET {ULTRA} HTTP/1.1\r\nHost: x\r\n".encode() + b"".join(
        b"x-%d: %b\r\n" % (n, b"y" * 200) for n in range(250)
    )
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(double.connect()).sendall(head)
        double.ask("others")
        double.assert_counted(15 * MEGABYTE)


@pytest.mark.parametrize("double", [["--max-memory", "64M"]], indirect=True)
def test_what_is_over_the_bound_is_refused_or_forgotten(double: Double) -> None:
    assert double.store()["max_bytes"] == 64 * MEGABYTE
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            line = stack.enter_context(double.connect())
            line.sendall(
                f"POST {FILES} HTTP/1.1\r\nHost: x\r\nContent-Length: {60 * MEGABYTE}\r\n\r\n".encode()
            )
            with contextlib.suppress(OSError):
                line.sendall(b"x" * 15 * MEGABYTE)
        refused = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            line.settimeout(2)
            refused = line.recv(4096)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"There is no room for the body" in refused
        assert double.counted() < 64 * MEGABYTE
    for number in range(30):
        upload(double, 5 * MEGABYTE, number)
        assert double.counted() < 64 * MEGABYTE
    assert double.store()["evicted_tenants"] > 0
    assert double.client.get("/__admin/requests", headers=authorized(29)).json()["recorded"] == 1


@pytest.mark.parametrize(
    ("size", "message"),
    [("1M", "is too little"), ("lots", "'lots' is not a size such as 512M"), ("-1", "not a size")],
)
def test_a_bound_that_is_none_is_refused(size: str, message: str) -> None:
    ended = run("serve", "--port", "0", f"--max-memory={size}")
    assert ended.returncode == 2
    assert message in ended.stderr
