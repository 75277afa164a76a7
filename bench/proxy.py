"""Measure the proxy: the latency it adds, and its memory while a large picture passes.

python bench/proxy.py [--rounds N]
"""

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PICTURE = 50 * 1024 * 1024  # bytes
REQUESTS = 500
CREATE = "/replicate/v1/models/black-forest-labs/flux-kontext-max/predictions"
BODY = json.dumps({"input": {"prompt": "a lighthouse"}})
HEADERS = {"Authorization": "Bearer a-token-of-the-bench", "Content-Type": "application/json"}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[str, int]]:
    """A `mockserver` process: its address and id."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        command = [
            sys.executable,
            "-m",
            "mockserver",
            *arguments,
            "--port",
            "0",
            "--ready-file",
            str(ready),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                while not ready.exists():
                    time.sleep(0.01)
                yield json.loads(ready.read_text())["url"], process.pid
            finally:
                process.terminate()


class Files(BaseHTTPRequestHandler):
    """A file host with one long picture."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "image/png")
        self.send_header("content-length", str(PICTURE))
        self.end_headers()
        for _ in range(PICTURE // 65536):
            self.wfile.write(b"x" * 65536)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def files() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def milliseconds(url: str, method: str, path: str, body: str | None) -> list[float]:
    """How long each of some requests takes, on one connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    took = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        connection.request(method, path, body, HEADERS)
        connection.getresponse().read()
        took.append((time.perf_counter() - began) * 1000)
    connection.close()
    return took


def megabytes(pid: int, name: str) -> float:
    """Of a process's memory, in MB: VmRSS now, or VmHWM at its highest."""
    match = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert match
    return int(match[1]) / 1024


def overhead(rounds: int) -> None:
    with running("serve") as (double, _), running("proxy", double) as (proxy, _):
        print("| request | straight, ms | through the proxy, ms | more, ms |\n|---|---:|---:|---:|")
        connection = http.client.HTTPConnection(urlsplit(double).netloc)
        connection.request("POST", CREATE, BODY, HEADERS)
        path = f"/replicate/v1/predictions/{json.load(connection.getresponse())['id']}"
        for name, method, where, body in (
            ("create", "POST", CREATE, BODY),
            ("read", "GET", path, None),
        ):
            straight, through = [], []
            for _ in range(rounds):
                straight += milliseconds(double, method, where, body)
                through += milliseconds(proxy, method, where, body)
            one, two = statistics.median(straight), statistics.median(through)
            print(f"| {name} | {one:.2f} | {two:.2f} | {two - one:.2f} |")


def memory() -> None:
    with files() as host, running("proxy", host) as (proxy, pid):
        milliseconds(proxy, "GET", "/__admin/health", None)
        before = megabytes(pid, "VmRSS")
        connection = http.client.HTTPConnection(urlsplit(proxy).netloc)
        connection.request("GET", f"/xezq/{'0' * 26}/output.png")
        response = connection.getresponse()
        size = 0
        while chunk := response.read(65536):
            size += len(chunk)
        assert size == PICTURE
        grown = megabytes(pid, "VmHWM") - before
        print(
            f"\n{PICTURE >> 20} MB went through; "
            f"memory grew by {grown:.1f} MB, to {before + grown:.0f} MB at most"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    overhead(parser.parse_args().rounds)
    memory()
