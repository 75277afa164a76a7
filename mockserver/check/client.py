"""`check_client`: the whole kit in one call, for a client written in Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.hunt.harness import Comparison, Harness, Limits
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.pool import default_jobs
from mockserver.check.report.findings import Report
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError
from mockserver.server.tls import Authority, ca_environment


@contextmanager
def trusted_authority() -> Iterator[Authority]:
    """A certificate authority that clients in this process trust, for the time of a `with` block."""
    with closing(Authority("127.0.0.1")) as authority:
        trusting = ca_environment(str(authority.file))
        before = {name: os.environ.get(name) for name in trusting}
        os.environ.update(trusting)
        try:
            yield authority
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                os.environ.update({} if value is None else {name: value})


def check_client(
    call_fn: Callable[[Call], Any] | None = None,
    *,
    factory: Callable[[], Callable[[Call], Any]] | None = None,
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
    concurrent: int = 1,
    tls: bool = False,
    result: Comparison | None = None,
    client_version: str = "",
    webhook: str | None = None,
    contract: Path | None = None,
    inputs: Collection[str] | None = None,
) -> Report:
    """Play what the contract allows to a client, and report the rules that it breaks, each with its smallest case.

    `call_fn(call)` makes one call: it is given `call.base_url`, `.token`, `.model` and `.input`,
    and returns the output's URL, an object with `.url`, or the picture's bytes, or raises. It may
    be asynchronous. `budget`, `deadline` (of one run) and `client_timeout` (after which the client
    promises to give up by itself) are in seconds; `ignore` holds codes of rules. `jobs` is how many
    cases are played at once: one, if left out, for a function, since it may not bear to be called
    from several threads; four per core for a coroutine function. `concurrent` is how many calls are
    made at once in each case, which a client may not mix up. With `tls` the gateway speaks https,
    and `call.ca_file` is the certificate to trust, which the environment names meanwhile. Where
    `call_fn` returns an object, such as a decoded image, `result(returned, served)` says whether it
    is the picture with the bytes `served`. `client_version` is what the client is called in
    reports, `webhook` the address at which it receives webhooks, `call.webhook_url`, if it names
    none of its own. A client that keeps state which may stop it, such as a circuit breaker, is
    better given by a `factory` that makes a `call_fn` with fresh state. `inputs` are the inputs that
    the client passes on, the prompt aside, if not all. Raises ClientError if the client makes no
    request at all.
    """
    if (call_fn is None) == (factory is None):
        raise MockServerError("check_client takes a call_fn, or a factory that makes one")
    if call_fn is None:
        assert factory is not None
        call_fn = factory()
    driver = CallableDriver(call_fn, factory)
    if jobs is None:
        jobs = default_jobs() if inspect.iscoroutinefunction(call_fn) else 1
    with ExitStack() as stack:
        stack.enter_context(closing(driver))
        authority = stack.enter_context(trusted_authority()) if tls else None
        harness = stack.enter_context(
            Harness(
                Contract.load(contract),
                files=files,
                seed=seed,
                authority=authority,
                result=result,
                webhook=webhook,
            )
        )
        limits = Limits(deadline=deadline, client_timeout=client_timeout, strict_urls=strict_urls)
        plan = Plan(
            tuple(models or ()),
            max_runs,
            budget,
            seed,
            frozenset(ignore),
            limits,
            jobs=jobs,
            concurrent=concurrent,
            inputs=None if inputs is None else frozenset(inputs),
        )
        hunt = Hunt(harness, driver, plan)
        hunt.report.client_version = client_version
        return hunt.run()
