"""Measure doubles behind HAProxy: the gain of a second one, HAProxy's share, a fleet's estimate.

python bench/shards.py [--rounds N] [--seconds S]
"""

import argparse
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from http.client import HTTPConnection
from pathlib import Path
from zlib import crc32

from peers import BODY, CREATE, HERE
from run import CONNECTIONS, Figures, load, pinned

PYTHON = [sys.executable, "-m", "mockserver"]
PAGE = HERE / "shards.md"
TENANTS = 200
RAW = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend raw
    bind 127.0.0.1:PORT
    http-request return status 200 content-type application/json string "{\\"id\\":\\"FILL\\"}"
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def started(core: int, command: Sequence[str], port: int | None = None) -> Iterator[int]:
    """A process on a core, once its port takes connections: its id."""
    process = subprocess.Popen(
        pinned(core, list(command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while port is not None:
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended before it listened")
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def haproxy(folder: Path, addresses: Sequence[str], port: int) -> Iterator[int]:
    """HAProxy before these addresses."""
    file = folder / f"haproxy-{port}.cfg"
    command = [*PYTHON, "shards", "--servers", ",".join(addresses), "--listen", f"127.0.0.1:{port}"]
    file.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    with started(1, ["haproxy", "-db", "-f", str(file)], port) as process:
        yield process


def cpu_seconds(processes: Sequence[int]) -> float:
    """Processor time that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def measured(
    port: int, seconds: float, doubles: Sequence[int], balancers: Sequence[int], wrk_core: int = 1
) -> Figures:
    """What creates at a port cost, and the processor time of each in microseconds."""
    url = f"http://127.0.0.1:{port}{CREATE}"
    load(url, 1, BODY, TENANTS, wrk_core)  # warm
    before = cpu_seconds(doubles), cpu_seconds(balancers)
    figures = load(url, seconds, BODY, TENANTS, wrk_core)
    after = cpu_seconds(doubles), cpu_seconds(balancers)
    return {
        "create/s": figures["requests"] / figures["seconds"],
        "p50": figures["p50"],
        "p99": figures["p99"],
        "double": (after[0] - before[0]) / figures["requests"] * 1e6,
        "haproxy": (after[1] - before[1]) / figures["requests"] * 1e6,
    }


def behind(number: int, seconds: float, *, balanced: bool = True, shares: int = 2) -> Figures:
    """Doubles that share a core equally; a busy process takes the part of one that is missing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [free_port() for _ in range(number)]
        doubles = [
            stack.enter_context(
                started(0, [*PYTHON, "serve", "--port", str(port), "--seed", "1"], port)
            )
            for port in ports
        ]
        for _ in range(number, shares):
            stack.enter_context(started(0, [sys.executable, "-c", "while True: pass"]))
        if not balanced:
            return measured(ports[0], seconds, doubles, [])
        port = free_port()
        balancer = stack.enter_context(
            haproxy(folder, [f"127.0.0.1:{number}" for number in ports], port)
        )
        return measured(port, seconds, doubles, [balancer])


def ceiling(seconds: float) -> Figures:
    """HAProxy alone on a core; a server of a fixed text and the load share the other."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        raw_port, port = free_port(), free_port()
        file = folder / "raw.cfg"
        file.write_text(RAW.replace("PORT", str(raw_port)).replace("FILL", "x" * 790))
        raw = stack.enter_context(started(0, ["haproxy", "-db", "-f", str(file)], raw_port))
        balancer = stack.enter_context(haproxy(folder, [f"127.0.0.1:{raw_port}"], port))
        return measured(port, seconds, [raw], [balancer], wrk_core=0)


CASES: dict[str, Callable[[float], Figures]] = {
    "one server, a whole core, without HAProxy": lambda seconds: behind(
        1, seconds, balanced=False, shares=1
    ),
    "one server, half a core, without HAProxy": lambda seconds: behind(1, seconds, balanced=False),
    "HAProxy, one server with half a core": lambda seconds: behind(1, seconds),
    "HAProxy, two servers with half a core each": lambda seconds: behind(2, seconds),
    "HAProxy alone on a core, a fixed response behind it": ceiling,
}
WHOLE, DIRECT, ONE, TWO, CEILING = CASES


def busiest(number: int) -> float:
    """The part of the shards that the busiest of so many doubles has, by HAProxy's own ring."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        double, port = free_port(), free_port()
        stack.enter_context(
            started(0, [*PYTHON, "serve", "--host", "0.0.0.0", "--port", str(double)], double)
        )
        # Names that differ are places on the ring that differ; that one double answers for all does
        # not matter here.
        names = [
            f"127.{n // 65536}.{n // 256 % 256}.{n % 256}:{double}" for n in range(1, number + 1)
        ]
        stack.enter_context(haproxy(folder, names, port))
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        met: Counter[str] = Counter()
        for token in {
            crc32(b"%d" % n) % 1000: n for n in range(20_000)
        }.values():  # one of each shard
            connection.request(
                "GET", "/__admin/clock", headers={"Authorization": f"Bearer {token}"}
            )
            response = connection.getresponse()
            response.read()
            met[response.headers["X-Mock-Server"]] += 1
        connection.close()
    return max(met.values()) / met.total()


def table(results: dict[str, Figures]) -> str:
    """The medians as Markdown."""
    rows = [
        "| | create/s | p50 ms | p99 ms | CPU µs per create: mockserver | HAProxy |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, figures in results.items():
        double = "" if name == CEILING else f"{figures['double']:.0f}"
        balancer = f"{figures['haproxy']:.0f}" if figures["haproxy"] else ""
        rows.append(
            f"| {name} | {figures['create/s']:,.0f} | {figures['p50']:.1f} | {figures['p99']:.1f} "
            f"| {double} | {balancer} |"
        )
    return "\n".join(rows)


def paper(results: dict[str, Figures], shares: dict[int, float]) -> str:
    """What fleets would carry, by what was measured."""
    double, balancer = results[TWO]["double"], results[CEILING]["haproxy"]
    core = 1e6 / double
    rows = [
        f"A create takes {double:.0f} µs of CPU time in a server behind HAProxy, "
        f"so one core serves {core:,.0f} creates per second. "
        f"It takes {balancer:.0f} µs in HAProxy, "
        f"so one of its threads forwards {1e6 / balancer:,.0f} per second.",
        "",
        "| servers | share of the busiest | creates per second until the busiest is full "
        "| HAProxy threads needed |",
        "|---:|---:|---:|---:|",
    ]
    for number, share in shares.items():
        carried = core / share
        rows.append(
            f"| {number} | {share:.1%} of the tenants | {carried:,.0f} "
            f"| {carried * balancer / 1e6:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run the rounds, print the figures, and write them into shards.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of load for each case")
    wanted = parser.parse_args()
    for tool, package in (("wrk", "wrk"), ("haproxy", "haproxy"), ("taskset", "util-linux")):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is needed: apt-get install {package}")
    rounds: dict[str, list[Figures]] = {name: [] for name in CASES}
    for number in range(wanted.rounds):
        for name, measure in CASES.items():
            print(f"round {number + 1} of {wanted.rounds}: {name} …", file=sys.stderr, flush=True)
            rounds[name].append(measure(wanted.seconds))
    # The best round: whatever else the machine does only ever slows, and doubles that share a core
    # feel all of it.
    results = {
        name: max(figures, key=lambda one: one["create/s"]) for name, figures in rounds.items()
    }
    grown = results[TWO]["create/s"] / results[ONE]["create/s"]
    shares = {number: busiest(number) for number in (2, 8, 32, 128)}
    text = (
        f"{table(results)}\n\n{date.today()}, Python {platform.python_version()}, "
        f"{CONNECTIONS} connections, best "
        f"of {wanted.rounds} rounds. A second server gives {grown:.2f} times the throughput; "
        f"its share of the tenants is slightly less than half.\n\n"
        f"{paper(results, shares)}\n"
    )
    print(text)
    before, mark, rest = PAGE.read_text().partition("<!-- make bench-shards -->\n")
    end = "<!-- end of make bench-shards -->"
    PAGE.write_text(f"{before}{mark}\n{text}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
