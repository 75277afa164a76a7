"""Measure the double beside its peers, in turn, several rounds: ratios are what counts.

python bench/run.py [--rounds N] [--seconds S] [--only NAME] [--creates N]
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from peers import HERE, Peer, peers

CONNECTIONS = 16
LONGEST = (
    40.0  # seconds of load before memory is measured, for those who never come to so many creates
)
PINNED = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1
KEYS = ("create/s", "p50", "p99", "get/s", "start", "cold", "MB")
CACHES = Path("/proc/sys/vm/drop_caches")
Figures = dict[str, float]


def pinned(core: int, command: list[str]) -> list[str]:
    """A command on a core of its own: the server on one, the load on another."""
    return ["taskset", "-c", str(core), *command] if PINNED else command


@contextmanager
def running(peer: Peer) -> Iterator[tuple[int, int, float]]:
    """The peer's port and process group, and the seconds to its first answered create."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            pinned(0, peer.command(port, Path(folder))),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while create(peer, port) is None:
                if process.poll() is not None:
                    raise SystemExit(
                        f"{peer.name} ended before it answered: {peer.command(port, Path(folder))}"
                    )
                time.sleep(0.002)
            yield port, process.pid, time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def create(peer: Peer, port: int) -> str | None:
    """Create once. Returns the prediction's id, `none` without one, or None without a response."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {peer.token}"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", peer.create, peer.body, headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return str(json.loads(body).get("id", "none")) if response.status == 200 else None


def load(url: str, seconds: float, body: str | None, tenants: int = 1, core: int = 1) -> Figures:
    """What wrk measures in some seconds; a body stands for POST."""
    environment = {
        **os.environ,
        **({"BENCH_BODY": body} if body else {}),
        "BENCH_TENANTS": str(tenants),
    }
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(1, round(seconds))}s",
        "-s",
        str(HERE / "load.lua"),
        "--latency",
        url,
    ]
    output = subprocess.run(
        pinned(core, command), env=environment, capture_output=True, text=True, check=True
    ).stdout
    figures: Figures = json.loads(output.strip().splitlines()[-1])
    if figures["failed"]:
        raise SystemExit(
            f"{url}: {figures['failed']:.0f} of {figures['requests']:.0f} requests failed"
        )
    return figures


def megabytes(group: int) -> float:
    """Resident memory of all the processes of a group."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(status.parent.name)) == group:
                text = status.read_text()
                total += int(text.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in text else 0
        except (OSError, ProcessLookupError):
            continue  # it has ended meanwhile
    return total / 1024


def cold_start(peer: Peer) -> float:
    """Seconds to the first answered create with no file cached; NaN where that is impossible."""
    os.sync()
    try:
        CACHES.write_text("3\n")
    except OSError:
        return float("nan")
    with running(peer) as (_, _, start):
        return start


def measure(peer: Peer, seconds: float, creates: int) -> Figures:
    """One round of a peer."""
    cold = cold_start(peer)
    with running(peer) as (port, group, start):
        base = f"http://127.0.0.1:{port}"
        load(base + peer.create, 1, peer.body)  # warm
        created = load(base + peer.create, seconds, peer.body)
        fresh = create(peer, port) or ""  # the first one may have been forgotten by now
        got = load(base + peer.get.replace("{id}", fresh), seconds, None)
        rate = created["requests"] / created["seconds"]
        if creates > created["requests"]:
            load(
                base + peer.create, min(LONGEST, (creates - created["requests"]) / rate), peer.body
            )
        return {
            "create/s": created["requests"] / created["seconds"],
            "p50": created["p50"],
            "p99": created["p99"],
            "get/s": got["requests"] / got["seconds"],
            "start": start,
            "cold": cold,
            "MB": megabytes(group),
        }


def medians(rounds: list[Figures]) -> Figures:
    """The median of each figure over the rounds; for memory the first, after many creates."""
    return {
        **{key: statistics.median(figures[key] for figures in rounds) for key in KEYS},
        "MB": rounds[0]["MB"],
    }


def table(results: dict[str, Figures], peers: list[Peer]) -> str:
    """The medians as Markdown, with ratios to the limit."""
    limit = results[peers[0].name]
    rows = [
        "| | version | what it does | create/s | × raw | p50 ms | p99 ms "
        "| get/s | start s | cold s | MB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for peer in peers:
        figures = results[peer.name]
        ratio = figures["create/s"] / limit["create/s"]
        rows.append(
            f"| {peer.name} | {peer.version} | {peer.does} "
            f"| {figures['create/s']:,.0f} | {ratio:.2f} "
            f"| {figures['p50']:.1f} | {figures['p99']:.1f} | {figures['get/s']:,.0f} "
            f"| {figures['start']:.2f} | {figures['cold']:.2f} | {figures['MB']:.0f} |"
        )
    return "\n".join(rows)


def chart(results: dict[str, Figures]) -> str:
    """Creates a second as bars."""
    most = max(figures["create/s"] for figures in results.values())
    row, left, width = 30, 110, 520
    bars = []
    for number, (name, figures) in enumerate(results.items()):
        y, length = 10 + number * row, max(2, width * figures["create/s"] / most)
        color = "#b3541e" if name == "mockserver" else "#8a93a3"
        bars.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.0f}" height="20" rx="2" fill="{color}"/>'
            f'<text x="{left + length + 6:.0f}" y="{y + 15}">{figures["create/s"]:,.0f}</text>'
        )
    height = 20 + row * len(results)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" '
        'font-family="sans-serif" font-size="13" '
        f'role="img"><title>Creates per second, on one core</title>{"".join(bars)}</svg>\n'
    )


def machine(rounds: int) -> str:
    """Where and when, in a sentence."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = (
        f"{os.cpu_count()} cores (one for the server, one for wrk)"
        if PINNED
        else f"{os.cpu_count()} core(s)"
    )
    return (
        f"{date.today()}, Python {platform.python_version()}, {cores}, {memory:.0f} GB, "
        f"{CONNECTIONS} connections, "
        f"median of {rounds} {'round' if rounds == 1 else 'rounds'}"
    )


def main() -> None:
    """Run the rounds, print the table, and write it, with the chart, next to this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=5, help="of load, each for creates and gets"
    )
    parser.add_argument("--creates", type=int, default=200_000, help="before memory is measured")
    parser.add_argument("--only", default="", help="peers whose name holds this, beside the limit")
    wanted = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is needed: apt-get install wrk")
    everybody = peers()
    chosen = [
        peer
        for peer in everybody
        if peer is everybody[0] or wanted.only.lower() in peer.name.lower()
    ]
    rounds: dict[str, list[Figures]] = {peer.name: [] for peer in chosen}
    for number in range(wanted.rounds):
        for peer in chosen[number % len(chosen) :] + chosen[: number % len(chosen)]:
            print(
                f"round {number + 1} of {wanted.rounds}: {peer.name} …", file=sys.stderr, flush=True
            )
            rounds[peer.name].append(
                measure(peer, wanted.seconds, wanted.creates if number == 0 else 0)
            )
    results = {name: medians(figures) for name, figures in rounds.items()}
    text = f"{table(results, chosen)}\n\n{machine(wanted.rounds)}.\n"
    text += "Start is the time to the first answered create, cold the same without cached files. "
    text += (
        f"MB is resident memory after {wanted.creates:,} creates, "
        f"or as many as were made in {LONGEST:g} s.\n"
    )
    print(text)
    if not wanted.only:
        (HERE / "benchmark.md").write_text(
            "# mockserver compared with other mock servers\n\n"
            f"`make bench` prints this table and draws the chart.\n\n{text}\n"
            "![creates per second](benchmark.svg)\n"
        )
        (HERE / "benchmark.svg").write_text(chart(results))


if __name__ == "__main__":
    main()
