"""`replay`: a saved finding against a client."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import click

from mockserver.cli.check import (
    DOUBLE,
    deadline_option,
    files_option,
    use_hypothesis,
    webhook_option,
    worker_option,
)
from mockserver.cli.options import (
    Command,
    base_path_option,
    color_option,
    command_argument,
    contract_option,
)
from mockserver.reporting.terminal import print_line


@click.command(cls=Command)
@click.argument("finding", type=click.Path(path_type=Path))
@deadline_option
@worker_option
@webhook_option
@files_option
@base_path_option(DOUBLE)
@contract_option(DOUBLE)
@color_option
@command_argument
def replay(
    finding: Path,
    command: tuple[str, ...],
    deadline: float,
    worker: bool,
    files: Literal["separate", "same"],
    base_path: str,
    webhook: str | None,
    contract: Path | None,
) -> None:
    """Replay a saved finding against a client.

    Exits with 1 if the rule is still broken, 0 if not, and 2 if the client cannot run. To debug the
    client by hand against the same behavior, run `mockserver serve --scenario FINDING`.

    Example: mockserver replay .mockserver/MC201-3913.json -- node client.mjs
    """
    use_hypothesis()
    from mockserver.check.drive.interrupts import exit_on_second_interrupt
    from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
    from mockserver.check.hunt.harness import Harness, Limits
    from mockserver.check.hunt.replay import replay as play_again
    from mockserver.check.report.findings import Finding, describe
    from mockserver.contract.contract import Contract
    from mockserver.server.tls import Authority

    saved = Finding.read(finding)
    driver = (WorkerDriver if worker else ProcessDriver)(command)
    with exit_on_second_interrupt(driver.kill_now), ExitStack() as stack:
        authority = stack.enter_context(closing(Authority("127.0.0.1"))) if saved.tls else None
        loaded = Contract.load(contract)
        harness = stack.enter_context(
            Harness(
                loaded,
                files=files,
                base_path=base_path,
                authority=authority,
                webhook=webhook,
            )
        )
        try:
            limits = Limits(deadline=deadline, client_timeout=saved.client_timeout)
            result = play_again(harness, driver, saved, limits)
        finally:
            driver.close()
    for line in describe(result).split("\n"):
        print_line(line)
    broken = result.confirmed > 0
    print_line(
        f"{saved.rule} is {'still broken' if broken else 'not broken any more'}",
        fg="red" if broken else "green",
    )
    sys.exit(1 if broken else 0)
