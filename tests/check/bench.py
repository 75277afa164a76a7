"""The kit's own proof: how many planted bugs it finds, how fast, in how small a case, and how often it cries wolf.

python -m tests.check.bench [--seeds N] [--only WORD]... [--legal]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Call, Driver
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.pool import default_jobs
from mockserver.check.hunt.replay import replay
from mockserver.check.progress import Progress
from mockserver.check.report.findings import Finding
from mockserver.contract.contract import Contract
from tests.check import async_client, client, shared_client, stream_client, webhook_client
from tests.helpers.cases import size

ROOT = Path(__file__).parent.parent.parent
NODE_CLIENT = ROOT / "tests" / "clients" / "flux.mjs"
LIBRARIES = ROOT / "tests" / "check" / "libraries"


class Subject(NamedTuple):
    """A client under test: with the rules of which it breaks at least one; none, if it is legal."""

    name: str
    make: Callable[[], Driver]
    rules: set[str]
    timeout: float | None = None
    concurrent: int = 1
    deadline: float = 10.0


class Killed(BaseException):
    """The planted bug was found; the hunt need not go on."""


class Result(NamedTuple):
    """What a hunt came to: the finding, or none, after so many runs and seconds."""

    finding: Finding | None
    runs: int
    seconds: float
    fails_again: bool


def python_subjects() -> Iterator[Subject]:
    for variant in client.VARIANTS:
        call = partial(client.call_once, variant=variant)
        timeout = client.VARIANT_TIMEOUT.get(variant)
        yield Subject(f"python: {variant}", partial(CallableDriver, call), set(), timeout)
    yield Subject("python: asynchronous", partial(CallableDriver, async_client.call_once), set())
    yield Subject("python: streaming", partial(CallableDriver, stream_client.call_once), set())
    for bug, rules in stream_client.BUGS.items():
        call = partial(stream_client.call_once, bug=bug)
        yield Subject(f"python: {bug}", partial(CallableDriver, call), rules)
    for bug, rules in client.BUGS.items():
        call = partial(client.call_once, bug=bug)
        deadline = 3.0 if rules == {"MC406"} else 10.0
        yield Subject(
            f"python: {bug}",
            partial(CallableDriver, call),
            rules,
            client.TIMEOUT.get(bug),
            deadline=deadline,
        )


def webhook_subjects() -> Iterator[Subject]:
    """Clients that wait for webhooks."""
    for variant in webhook_client.VARIANTS:
        call = partial(webhook_client.call_once, variant=variant)
        yield Subject(
            f"webhooks: {variant}", partial(CallableDriver, call), set(), webhook_client.PATIENCE
        )
    for bug, rules in webhook_client.BUGS.items():
        call = partial(webhook_client.call_once, bug=bug)
        yield Subject(
            f"webhooks: {bug}", partial(CallableDriver, call), rules, webhook_client.PATIENCE
        )


def shared_subjects() -> Iterator[Subject]:
    """Clients of which several calls are made at once."""
    for variant in shared_client.VARIANTS:
        shared = partial(shared_client.SharedClient, variant=variant)
        yield Subject(f"at once: {variant}", partial(_driver_of, shared), set(), concurrent=3)
    for bug, rules in shared_client.BUGS.items():
        shared = partial(shared_client.SharedClient, bug)
        yield Subject(
            f"at once: {bug}", partial(_driver_of, shared), rules, concurrent=3, deadline=3.0
        )


def _driver_of(make: Callable[[], Callable[[Call], Any]]) -> Driver:
    return CallableDriver(make())


def node_subjects() -> Iterator[Subject]:
    node = shutil.which("node")
    if node is None or not NODE_CLIENT.exists():
        return
    listed = json.loads(
        subprocess.run(
            [node, NODE_CLIENT, "--list"], capture_output=True, check=True, text=True
        ).stdout
    )
    for variant in listed["variants"]:
        command = [node, str(NODE_CLIENT), "--worker", "--variant", variant]
        yield Subject(f"node: {variant}", partial(WorkerDriver, command), set())
    for bug, facts in listed["bugs"].items():
        command = [node, str(NODE_CLIENT), "--worker", "--bug", bug]
        yield Subject(
            f"node: {bug}",
            partial(WorkerDriver, command),
            set(facts["rules"]),
            facts.get("timeout"),
        )


def library_subjects() -> Iterator[Subject]:
    """Legal clients on libraries that people use, where those are installed."""
    python = Path(os.environ.get("LIBRARIES_PYTHON", ROOT / ".venv-libraries" / "bin" / "python"))
    for library in (
        ("urllib3", "requests", "aiohttp", "tenacity", "backoff") if python.exists() else ()
    ):
        command = [str(python), str(LIBRARIES / "worker.py"), library]
        yield Subject(f"library: {library}", partial(WorkerDriver, command), set())
    node = shutil.which("node")
    for library in (
        ("undici", "axios", "got", "ky", "fetch")
        if node and (LIBRARIES / "node_modules").exists()
        else ()
    ):
        command = [str(node), str(LIBRARIES / "worker.mjs"), library]
        yield Subject(f"library: {library}", partial(WorkerDriver, command), set())


def every_subject() -> Iterator[Subject]:
    """All clients with planted bugs, and all that are legal."""
    yield from python_subjects()
    yield from webhook_subjects()
    yield from shared_subjects()
    yield from node_subjects()
    yield from library_subjects()


def hunt(subject: Subject, seed: int = 0, **settings: Any) -> Result:
    """Hunt until one of the subject's rules is found broken; a legal one to the end."""
    driver = subject.make()
    with Harness(Contract.load(), seed=seed) as harness:
        limits = Limits(deadline=subject.deadline, client_timeout=subject.timeout)
        # A legal client is to be played as often as the budget allows; planted bugs are timed, one case after the other.
        settings.setdefault(
            "jobs", 1 if subject.rules or isinstance(driver, CallableDriver) else default_jobs()
        )
        plan = Plan(seed=seed, limits=limits, concurrent=subject.concurrent, **settings)
        began = time.perf_counter()
        wanted = subject.rules
        state = {"runs": 0}

        def listen(progress: Progress) -> None:
            state["runs"] = progress.runs
            if wanted & set(progress.broken_rules):
                raise Killed

        hunting = Hunt(harness, driver, plan, listen)
        with suppress(Killed):
            hunting.run()
        seconds = time.perf_counter() - began
        found = [*hunting.report.findings, *hunting.report.warnings]
        if not subject.rules:
            alarms = [f for f in found if f.severity == "error"]
            driver.close()
            return Result(alarms[0] if alarms else None, hunting.report.runs, seconds, True)
        finding = next((f for f in found if f.rule in wanted), None)
        again = finding is not None and _fails_again(harness, driver, finding, limits)
        driver.close()
        return Result(finding, state["runs"], seconds, again)


def _fails_again(harness: Harness, driver: Driver, finding: Finding, limits: Limits) -> bool:
    """Whether what would be saved still fails when it is read back and played."""
    saved = msgspec.json.decode(msgspec.json.encode(finding), type=Finding)
    return replay(harness, driver, saved, limits).confirmed > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=3, help="hunts of each legal client; 0 leaves them out"
    )
    parser.add_argument(
        "--only", action="append", help="subjects whose name holds this; may be given again"
    )
    parser.add_argument("--legal", action="store_true", help="leave the planted bugs out")
    wanted = parser.parse_args()
    words = wanted.only or [""]
    subjects = [
        subject for subject in every_subject() if any(word in subject.name for word in words)
    ]
    subjects = [subject for subject in subjects if not (wanted.legal and subject.rules)]
    killed, missed, alarms, legal_runs = [], [], [], []
    print(
        f"| {'planted bug':<52} | rule | runs | seconds | size | replay |\n|---|---|---:|---:|---:|---|"
    )
    for subject in [subject for subject in subjects if subject.rules]:
        result = hunt(subject)
        if result.finding is None:
            missed.append(subject)
            print(
                f"| {subject.name:<52} | {'/'.join(sorted(subject.rules))} missed | {result.runs} | {result.seconds:.1f} | | |"
            )
            continue
        killed.append(result)
        smallest = size(result.finding.case)
        again = "fails" if result.fails_again else "PASSES"
        print(
            f"| {subject.name:<52} | {result.finding.rule} | {result.runs} | {result.seconds:.1f} | {smallest} | {again} |"
        )
        sys.stdout.flush()
    for subject in [subject for subject in subjects if not subject.rules and wanted.seeds]:
        for seed in range(wanted.seeds):
            result = hunt(subject, seed)
            legal_runs.append(result)
            if result.finding is not None:
                alarms.append((subject, seed, result.finding))
                print(
                    f"FALSE ALARM {subject.name} seed {seed}: {result.finding.rule} {result.finding.message}"
                )
        print(
            f"| {subject.name:<52} | legal | {legal_runs[-1].runs} | {legal_runs[-1].seconds:.1f} | | |"
        )
        sys.stdout.flush()
    print()
    total = len(killed) + len(missed)
    if total:
        soon = sum(result.seconds <= 30 for result in killed)
        print(f"found {len(killed)} of {total} planted bugs, {soon} of them within 30 s")
    if killed:
        print(
            f"median {statistics.median(r.runs for r in killed):.0f} runs and {statistics.median(r.seconds for r in killed):.1f} s to the finding"
        )
        sizes = [size(r.finding.case) for r in killed if r.finding]
        print(
            f"size of the smallest case: median {statistics.median(sizes):.0f}, largest {max(sizes)}"
        )
        print(f"replays that fail again: {sum(r.fails_again for r in killed)} of {len(killed)}")
    if legal_runs:
        print(
            f"false alarms: {len(alarms)} in {len(legal_runs)} hunts of legal clients ({sum(r.runs for r in legal_runs)} runs)"
        )
    sys.exit(bool(missed or alarms or not all(r.fails_again for r in killed)))


if __name__ == "__main__":
    main()
