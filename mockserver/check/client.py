"""`check_client`: the whole kit in one call, for a client written in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from mockserver.check.drivers import Call, CallableDriver
from mockserver.check.findings import Report
from mockserver.check.harness import Harness, Limits
from mockserver.check.hunt import Hunt, Plan
from mockserver.check.players import default_jobs
from mockserver.contract import Contract


def check_client(
    call_fn: Callable[[Call], Any],
    *,
    models: Sequence[str] | None = None,
    max_runs: int = 300,
    budget: float = 30.0,
    seed: int = 0,
    ignore: Collection[str] = (),
    deadline: float = 10.0,
    client_timeout: float | None = None,
    strict_urls: bool = False,
    files: Literal["separate", "same"] = "separate",
    jobs: int | None = None,
    contract: Path | None = None,
) -> Report:
    """Play what the contract allows to a client, and report the rules that it breaks, each with its smallest case.

    `call_fn(call)` makes one call: it is given `call.base_url`, `.token`, `.model` and `.input`, and returns the
    output's URL, an object with `.url`, or the picture's bytes, or raises. It may be asynchronous. `budget`, `deadline`
    (of one run) and `client_timeout` (after which the client promises to give up by itself) are in seconds; `ignore`
    holds codes of rules. `jobs` is how many cases are played at once: one, if left out, for a function, since it may
    not bear to be called from several threads; four per core for a coroutine function. Raises ClientError if the client
    makes no request at all.
    """
    driver = CallableDriver(call_fn)
    if jobs is None:
        jobs = default_jobs() if inspect.iscoroutinefunction(call_fn) else 1
    with closing(driver), Harness(Contract.load(contract), files=files, seed=seed) as harness:
        limits = Limits(deadline=deadline, client_timeout=client_timeout, strict_urls=strict_urls)
        plan = Plan(tuple(models or ()), max_runs, budget, seed, frozenset(ignore), limits, jobs=jobs)
        return Hunt(harness, driver, plan).run()
