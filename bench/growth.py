"""Measure what a create costs as more is remembered, open or under way, and the memory it takes.

python bench/growth.py [--seconds S] [--only WORD]
"""

import argparse
import json
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import yaml
from peers import BODY, CONTRACT, CREATE, HERE, Peer, peers
from run import Figures, create, load, machine, megabytes, running

from mockserver import Tenant

HEAD = f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
MEGABYTE = 1024 * 1024


@dataclass
class Double:
    """A running double."""

    port: int
    group: int
    start: float

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def creates(self, seconds: float, tenants: int = 1, path: str = CREATE) -> Figures:
        """What creates cost now, and the memory after them."""
        figures = load(self.url + path, seconds, BODY, tenants)
        return {
            "creates": figures["requests"],
            "create/s": figures["requests"] / figures["seconds"],
            "p99": figures["p99"],
            "MB": megabytes(self.group),
        }

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@dataclass
class Curve:
    """Measurements of creates as something grows: by its size, with a note for the reader."""

    title: str
    unit: str
    points: dict[int, Figures]
    remark: str = ""


@contextmanager
def double(contract: Path = CONTRACT) -> Iterator[Double]:
    """A double of its own, warm."""
    ours = _ours()

    def command(port: int, folder: Path) -> list[str]:
        return [*ours.command(port, folder), "--contract", str(contract)]

    peer = replace(ours, command=command)
    with running(peer) as (port, group, start):
        running_double = Double(port, group, start)
        running_double.creates(1)
        yield running_double


def _ours() -> Peer:
    return next(peer for peer in peers() if peer.name == "mockserver")


def passing(seconds: float) -> Curve:
    """A million predictions, one after another, of which the last 20,000 are kept."""
    points: dict[int, Figures] = {}
    with double() as server:
        passed = 0.0
        while passed < 1_000_000:
            figures = server.creates(seconds)
            passed += figures["creates"]
            points[round(passed)] = figures
    return Curve(
        "total predictions of one tenant",
        "created",
        points,
        "The server keeps the last 20,000 predictions and the last 1,000 exchanges, "
        "so the journal is full in every row.",
    )


def stored(seconds: float) -> Curve:
    """Predictions kept at once, by fifty tenants."""
    points = {}
    with double() as server:
        tenants, passed = 50, 0.0
        for wanted in (1_000, 10_000, 100_000, 1_000_000):
            while passed < wanted:
                passed += server.creates(min(10, max(1, (wanted - passed) / 20_000)), tenants)[
                    "creates"
                ]
            held = Tenant(server.url, "").call("GET", "/health")["store"]["predictions"]
            points[held] = server.creates(seconds, tenants)
            passed += points[held]["creates"]
    remark = (
        "The fifty tenants create in turn and grow together. "
        "Where p99 is high, the tables of all of them were "
        "enlarged at the same time, 2 ms each."
    )
    return Curve("predictions stored by fifty tenants", "stored", points, remark)


def tenants(seconds: float) -> Curve:
    """Tenants that ask in turn; at the last, the double remembers no more than 1,000 of them."""
    points = {}
    for number in (1, 10, 100, 1_000, 3_000):
        with double() as server:
            points[number] = server.creates(seconds, number)
    remark = (
        "Each tenant has its own predictions and journal, "
        "which do not fit into the processor's caches together. "
        "Of 3,000 tenants, 2,000 are evicted before their next turn."
    )
    return Curve("tenants that take turns", "tenants", points, remark)


def models(seconds: float) -> Curve:
    """Models in the contract."""
    points: dict[int, Figures] = {}
    document = yaml.safe_load(CONTRACT.read_text())
    text = json.dumps(document["paths"][CREATE])
    operation = document["paths"][CREATE]["post"]["operationId"]
    for number in (2, 20, 200):
        more = {f"/replicate/v1/models/acme/model-{n}/predictions": n for n in range(number - 2)}
        added = {
            path: json.loads(text.replace(operation, f"create{n}")) for path, n in more.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            contract = Path(folder) / "contract.json"
            contract.write_text(json.dumps({**document, "paths": {**document["paths"], **added}}))
            with double(contract) as server:
                points[number] = {
                    **server.creates(seconds, path=next(reversed(more), CREATE)),
                    "start": server.start,
                }
    return Curve("models in the contract", "models", points)


def open_streams(seconds: float) -> Curve:
    """Streams that are followed meanwhile."""

    def follow(server: Double, stack: ExitStack, number: int) -> Callable[[], float]:
        tenant = Tenant(server.url, "followed")
        tenant.freeze()
        create(replace(_ours(), token="followed"), server.port)
        path = urlsplit(tenant.predictions()[0]["urls"]["stream"]).path
        return _asking(
            server, stack, number, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), tenant
        )

    return _meanwhile("open streams", "streams", seconds, follow)


def waiting(seconds: float) -> Curve:
    """Creates that wait for their end meanwhile."""

    def wait(server: Double, stack: ExitStack, number: int) -> Callable[[], float]:
        tenant = Tenant(server.url, "waiting")
        tenant.freeze()
        length = f"Content-Length: {len(BODY)}\r\n\r\n"
        head = f"{HEAD}Authorization: Bearer waiting\r\nPrefer: wait\r\n{length}"
        return _asking(server, stack, number, (head + BODY).encode(), tenant)

    return _meanwhile("waiting creates", "waiting", seconds, wait)


def _asking(
    server: Double, stack: ExitStack, number: int, request: bytes, tenant: Tenant
) -> Callable[[], float]:
    """Send that many requests. Returns a function that advances time and measures the seconds.

    They are the seconds until all requests were answered.
    """
    asking = [stack.enter_context(server.connect()) for _ in range(number)]
    for connection in asking:
        connection.sendall(request)
    while max(len(tenant.requests()), len(tenant.predictions())) < number:
        time.sleep(0.01)

    def advance() -> float:
        began = time.perf_counter()
        tenant.advance(60)
        for connection in asking:
            heard = b""
            while b"succeeded" not in heard and b"event: done" not in heard:
                heard += connection.recv(65536)
        return time.perf_counter() - began

    return advance


def _meanwhile(
    title: str,
    unit: str,
    seconds: float,
    begin: Callable[[Double, ExitStack, int], Callable[[], float]],
) -> Curve:
    points: dict[int, Figures] = {}
    took = 0.0
    for number in (0, 100, 1_000):
        with double() as server, ExitStack() as stack:
            advance = begin(server, stack, number)
            points[number] = server.creates(seconds)
            took = advance()
    return Curve(
        title,
        unit,
        points,
        f"When the clock advanced, all 1,000 were notified in {took:.1f} s.",
    )


def idle(seconds: float) -> Curve:
    """Connections on which nothing comes."""
    points = {}
    for number in (0, 1_000, 10_000):
        with double() as server, ExitStack() as stack:
            for _ in range(number):
                stack.enter_context(server.connect())
            points[number] = server.creates(seconds)
    return Curve("idle connections", "idle", points)


def abuse(seconds: float) -> str:
    """One bad client at a time beside the sixteen: a table."""
    rows = ["| misbehaving client | create/s | p99 ms | MB |", "|---|---:|---:|---:|"]
    piece = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
    nested = b"[" * 500_000
    body = f"{HEAD}Content-Length: {len(nested)}\r\n\r\n".encode() + nested
    get = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    bad: dict[str, Callable[[Double, Event], None] | None] = {
        "none": None,
        "endless bodies": lambda server, over: _push(
            server, over, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), piece
        ),
        "endless headers": lambda server, over: _push(
            server, over, b"GET / HTTP/1.1\r\nX: ", b"x" * 65536
        ),
        "JSON nested 500,000 deep": lambda server, over: _push(server, over, body, b""),
        "1,000 clients that send one byte at a time": _dawdle,
        "sends requests and never reads": lambda server, over: _push(server, over, get, get),
    }
    for name, misbehave in bad.items():
        with double() as server:
            over = Event()
            thread = Thread(target=misbehave, args=(server, over)) if misbehave else None
            if thread:
                thread.start()
            figures = server.creates(seconds)
            over.set()
            if thread:
                thread.join()
            rows.append(
                f"| {name} | {figures['create/s']:,.0f} | {figures['p99']:.1f} "
                f"| {figures['MB']:.0f} |"
            )
    return "\n".join(rows)


def _dawdle(server: Double, over: Event) -> None:
    """Send a thousand bodies, a byte at a time."""
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(1_000)]
        for connection in slow:
            connection.sendall(f"{HEAD}Content-Length: 1000000\r\n\r\n".encode())
        while not over.wait(0.2):
            for connection in slow:
                connection.sendall(b" ")


def _push(server: Double, over: Event, first: bytes, then: bytes) -> None:
    """Send a head, then data as long as it is accepted; repeat on new connections until the end."""
    while not over.is_set():
        with server.connect() as pushing:
            pushing.settimeout(0.2)
            try:
                pushing.sendall(first)
                while then and not over.is_set():
                    pushing.sendall(then)
                pushing.recv(65536)
            except OSError:
                over.wait(0.01)


def table(curve: Curve) -> str:
    """A curve as Markdown."""
    keys = [key for key in next(iter(curve.points.values())) if key != "creates"]
    rows = [f"| {curve.unit} | {' | '.join(keys)} |", "|" + "---:|" * (len(keys) + 1)]
    for size, figures in curve.points.items():
        cells = [
            f"{figures[key]:,.0f}" if key in ("create/s", "MB") else f"{figures[key]:.2f}"
            for key in keys
        ]
        rows.append(f"| {size:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def chart(curves: list[Curve]) -> str:
    """Creates a second as bars, a panel a curve, each against the most of its own."""
    width, height, columns = 340, 150, 2
    parts = []
    for number, curve in enumerate(curves):
        left, top = number % columns * width + 10, number // columns * height + 20
        most = max(figures["create/s"] for figures in curve.points.values())
        parts.append(f'<text x="{left}" y="{top}" font-weight="bold">{curve.title}</text>')
        step = (width - 30) / len(curve.points)
        for place, (size, figures) in enumerate(curve.points.items()):
            x, tall = left + place * step, 80 * figures["create/s"] / most
            parts.append(
                f'<rect x="{x:.0f}" y="{top + 95 - tall:.0f}" '
                f'width="{step - 4:.0f}" height="{tall:.0f}"/>'
                f'<text x="{x:.0f}" y="{top + 108}" font-size="9">{_brief(size)}</text>'
            )
    rows = -(-len(curves) // columns)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {rows * height}" '
        'font-family="sans-serif" font-size="12" role="img">'
        "<title>Creates per second, as load and state grow</title>"
        f"<style>rect {{ fill: #b3541e }}</style>{''.join(parts)}</svg>\n"
    )


def _brief(number: int) -> str:
    return (
        f"{number / 1e6:.1f}M"
        if number >= 999_500
        else f"{number / 1000:.0f}k"
        if number >= 1000
        else str(number)
    )


CURVES = (passing, stored, tenants, models, open_streams, waiting, idle)


def main() -> None:
    """Measure, print, and write it next to this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4, help="of load for each point")
    parser.add_argument("--only", default="", help="curves whose name holds this")
    wanted = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (hard, hard)
    )  # for the ten thousand, here and in the double
    curves = []
    for measure in CURVES:
        if wanted.only in measure.__name__:
            print(f"{measure.__name__} …", file=sys.stderr, flush=True)
            curves.append(measure(wanted.seconds))
            print(f"{curves[-1].title}\n\n{table(curves[-1])}\n\n{curves[-1].remark}\n", flush=True)
    if wanted.only and wanted.only not in "abuse":
        return
    print("abuse …", file=sys.stderr, flush=True)
    bad = abuse(wanted.seconds)
    print(bad)
    if not wanted.only:
        parts = [
            f"## {curve.title.capitalize()}\n\n{table(curve)}\n\n{curve.remark}".rstrip() + "\n"
            for curve in curves
        ]
        intro = (
            "`make bench-growth` prints these tables and draws the chart. "
            "Creates over 16 connections; MB is resident memory."
        )
        bad = f"## Next to misbehaving clients\n\n{bad}\n"
        text = [
            "# Performance as load and state grow\n",
            intro,
            f"\n{machine(1)}.\n",
            "![](growth.svg)\n",
            *parts,
            bad,
        ]
        (HERE / "growth.md").write_text("\n".join(text))
        (HERE / "growth.svg").write_text(chart(curves))


if __name__ == "__main__":
    main()
