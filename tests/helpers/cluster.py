"""Doubles behind HAProxy, with the configuration that `mockserver shards` writes."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command import COMMAND
from tests.helpers.documents import CONTRACT

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
with_haproxy = pytest.mark.skipif(
    HAPROXY is None, reason="no HAProxy on this machine; apt-get install haproxy"
)


def small_pictures(folder: Path) -> Path:
    """The contract, with pictures that are drawn in no time."""
    document = {
        **CONTRACT.document,
        "x-mock-picture": {**CONTRACT.document["x-mock-picture"], "sizes": [[32, 32]]},
    }
    file = folder / "small.json"
    file.write_text(json.dumps(document))
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Double:
    """A double in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [*COMMAND, "serve", "--port", "0", "--seed", "1", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.address = self.url.removeprefix("http://")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Client:
    """A client of the API with a token, over one connection that is opened anew when it has been closed.

    It speaks plain `http.client`: thousands of requests are to take no time.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=20)

    def ask(
        self, method: str, path: str, value: object = None, **headers: str
    ) -> tuple[int | str, bytes]:
        """Status and body; in the place of the status, `cut` or `closed` if the answer was broken off."""
        body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        public = path.startswith(("/p/", "/xezq/", "/v1/files/"))
        sent = (
            {}
            if public
            else {
                **self.headers,
                **{name.replace("_", "-"): text for name, text in headers.items()},
            }
        )
        try:
            self._connection.request(method, path.removeprefix(self.url), body, sent)
            response = self._connection.getresponse()
            return response.status, response.read()
        except IncompleteRead as reason:
            self._connection.close()
            return "cut", reason.partial
        except (HTTPException, OSError):
            self._connection.close()
            return "closed", b""

    def json(self, method: str, path: str, value: object = None, **headers: str) -> Any:
        status, body = self.ask(method, path, value, **headers)
        assert status in (200, 201), (method, path, status, body)
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()


class Cluster:
    """Some doubles behind one load balancer."""

    def __init__(self, folder: Path, doubles: Sequence[Double], *arguments: str) -> None:
        self.folder = folder
        self.doubles = list(doubles)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._clients: list[Client] = []
        self._log = (folder / "haproxy.log").open("a")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.load()

    def load(self) -> None:
        """Have the load balancer use the doubles that there are; one that runs hands over to another."""
        assert HAPROXY is not None
        servers = ",".join(double.address for double in self.doubles)
        listen = f"127.0.0.1:{self.port}"
        command = [*COMMAND, "shards", "--servers", servers, "--listen", listen, *self._arguments]
        file = self.folder / f"haproxy-{len(self._processes)}.cfg"
        file.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        predecessor = ["-sf", str(self._processes[-1].pid)] if self._processes else []
        command = [HAPROXY, "-db", "-f", str(file), *predecessor]
        self._processes.append(subprocess.Popen(command, stdout=self._log, stderr=self._log))
        if predecessor:
            self._processes[-2].wait(timeout=20)
        while True:
            assert self._processes[-1].poll() is None, (self.folder / "haproxy.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                continue
            return

    def server_of(self, token: str) -> str:
        """The address of the double that a tenant is led to."""
        return self.servers_of([token])[token]

    def servers_of(self, tokens: Iterable[str]) -> dict[str, str]:
        """The addresses of the doubles that tenants are led to."""
        found: dict[str, str] = {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            for token in tokens:
                connection.request(
                    "GET", "/__admin/clock", headers={"Authorization": f"Bearer {token}"}
                )
                response = connection.getresponse()
                response.read()
                found[token] = str(response.headers["X-Mock-Server"])
        return found

    def client(self, token: str) -> Client:
        """A client of the load balancer, which is closed with it."""
        self._clients.append(Client(self.url, token))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.kill()
            process.wait()
        for double in self.doubles:
            double.close()
        self._log.close()


@contextmanager
def cluster(
    folder: Path, count: int, *arguments: str, shards: Sequence[str] = ()
) -> Iterator[Cluster]:
    """So many doubles behind a load balancer; `arguments` are those of each double, `shards` those of the command."""
    doubles = [Double("--contract", str(small_pictures(folder)), *arguments) for _ in range(count)]
    for double in doubles:
        double.wait_until_ready()
    running = Cluster(folder, doubles, *shards)
    try:
        yield running
    finally:
        running.close()
