"""`check_client`: the kit in one call, for clients written in Python."""

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
    """A certificate authority that clients in this process trust inside a `with` block."""
    with closing(Authority("127.0.0.1")) as authority:
        variables = ca_environment(str(authority.file))
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
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
    """Play what the contract allows to a client, and report the rules that it breaks.

    Args:
        call_fn: Makes one call, or a coroutine function that does. It gets a `Call`, with
            `base_url`, `token`, `model` and `input`, and returns the URL of the output, an object
            with `.url`, or the bytes of the picture, or raises.
        factory: Makes a `call_fn` with fresh state. Use it instead of `call_fn` for a client whose
            state may keep it from sending requests, such as a circuit breaker.
        models: The models to call; by default all of the contract.
        max_runs: The number of cases.
        budget: Seconds that the hunt may take.
        seed: Determines which cases are sampled.
        ignore: Codes of rules that are not looked for.
        deadline: Seconds that one run may take.
        client_timeout: Seconds after which the client promises to give up by itself.
        strict_urls: Make it an error to follow `urls.*` to another origin.
        files: Whether files are served from a separate origin, or the same as the API.
        jobs: The number of cases played in parallel. By default one for a function, which may not
            be thread-safe, and four per core for a coroutine function.
        concurrent: The number of concurrent calls in each case, which a client must not mix up.
        tls: Serve https. `call.ca_file` is the certificate to trust; meanwhile the usual
            environment variables name it too.
        result: `result(returned, served)` decides whether an object that `call_fn` returned, such
            as a decoded image, is the picture with the bytes `served`.
        client_version: The name and version of the client, for reports.
        webhook: The address at which the client receives webhooks; `call.webhook_url`.
        contract: The contract file; by default the one that comes with mockserver.
        inputs: The inputs that the client passes on, besides the prompt; by default all.

    Raises ClientError if the client cannot be checked, for example because it sends no request;
    MockServerError if an argument is invalid; DoubleError if the double broke its contract.
    """
    if (call_fn is None) == (factory is None):
        raise MockServerError("check_client needs either a call_fn or a factory that makes one")
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
