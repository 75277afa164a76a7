"""What playing cases side by side is worth, and that it changes nothing: jobs 1 against the default, in one run.

python -m tests.check.side_by_side [--seeds N] [--only WORD]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.pool import default_jobs
from mockserver.check.report.findings import Report
from mockserver.contract.contract import Contract
from tests.check import client
from tests.check.official import npm_replicate, pypi_replicate
from tests.helpers.authority import one_authority

ROOT = Path(__file__).parent.parent.parent
NODE = shutil.which("node") or "node"
BUDGET = 600.0  # seconds; so long that it decides nothing

SUBJECTS: dict[str, Callable[[], Driver]] = {
    "PyPI replicate, in this process": lambda: CallableDriver(pypi_replicate),
    "npm replicate, a worker": npm_replicate,
    "npm replicate, polling, a worker": lambda: npm_replicate("poll"),
    "examples/client.mjs, a process per call": lambda: ProcessDriver(
        [NODE, str(ROOT / "examples" / "client.mjs")]
    ),
    "examples/worker.mjs, a worker": lambda: WorkerDriver(
        [NODE, str(ROOT / "examples" / "worker.mjs")]
    ),
    "python: canceled returns nothing": lambda: CallableDriver(
        partial(client.call_once, bug="canceled returns nothing")
    ),
}


class Hunted(NamedTuple):
    """What a hunt found, how many runs it took, and how long it was, in seconds of wall time."""

    found: list[tuple[str, tuple[str, ...], bytes]]
    runs: int
    seconds: float


def hunt(make: Callable[[], Driver], jobs: int, seed: int) -> Hunted:
    """A hunt without end of time."""
    driver = make()
    try:
        with Harness(Contract.load(), seed=seed) as harness:
            began = time.perf_counter()
            report = Hunt(harness, driver, Plan(budget=BUDGET, seed=seed, jobs=jobs)).run()
            return Hunted(found_in(report), report.runs, time.perf_counter() - began)
    finally:
        driver.close()


def found_in(report: Report) -> list[tuple[str, tuple[str, ...], bytes]]:
    """What was found: rules, their causes, and the smallest cases."""
    return sorted(
        (found.rule, found.cause, found.case.key) for found in (*report.findings, *report.warnings)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=3, help="how many seeds the findings are compared for"
    )
    parser.add_argument("--only", default="", help="clients whose name holds this")
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # how long it takes to read many certificates is not the kit's
        os.environ.update(one_authority(Path(folder)))
        sys.exit(not compare(wanted.only, wanted.seeds))


def compare(only: str, seeds: int) -> bool:
    """Print what hunts find and take; whether all find the same."""
    jobs, differing = default_jobs(), 0
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores\n")
    print(f"| {'client':<40} | runs | jobs 1 | jobs {jobs} | ratio | findings | the same |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, make in SUBJECTS.items():
        if only not in name:
            continue
        hunts = [(hunt(make, 1, seed), hunt(make, jobs, seed)) for seed in range(seeds)]
        one, many = hunts[0]
        same = [seed for seed, (alone, beside) in enumerate(hunts) if alone.found == beside.found]
        differing += len(hunts) - len(same)
        ratio = one.seconds / many.seconds
        print(
            f"| {name:<40} | {many.runs} | {one.seconds:.1f} s | {many.seconds:.1f} s | {ratio:.1f} | "
            f"{len(many.found)} | {len(same)} of {len(hunts)} seeds |"
        )
        for alone, beside in hunts:
            for found in sorted(set(alone.found) ^ set(beside.found)):
                print(f"    only with {'one' if found in alone.found else 'many'}: {found}")
        sys.stdout.flush()
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    return not differing


if __name__ == "__main__":
    main()
