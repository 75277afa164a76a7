"""`replay`: a saved finding, played again."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path

import click

from mockserver.cli.check import DEADLINE, FILES, files_option, receiver, use_hypothesis
from mockserver.cli.options import base_path_option, color_option, command_argument, option


@click.command()
@click.argument("finding", type=click.Path(path_type=Path))
@option(
    "--deadline",
    default=DEADLINE,
    type=click.FloatRange(0, min_open=True),
    help="Seconds within which a call is to end.",
)
@option("--worker", is_flag=True, help="CMD is a worker, which takes a line for each call.")
@files_option
@base_path_option
@option(
    "--webhook",
    metavar="PORT|URL",
    callback=lambda context, parameter, text: receiver(text),
    help="Where CMD receives webhooks.",
)
@option(
    "--contract",
    type=click.Path(path_type=Path),
    help="OpenAPI 3.1 file; the shipped one if left out.",
)
@color_option
@command_argument
def replay(
    finding: Path,
    command: tuple[str, ...],
    deadline: float,
    worker: bool,
    files: str,
    base_path: str,
    webhook: str | None,
    contract: Path | None,
) -> None:
    """Play a saved finding to a client again.

    Exits with 1 if the rule is still broken, 0 if not, 2 if the client cannot run. To debug the
    client against the same behaviour at leisure: mockserver serve --scenario FINDING.
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
                files=FILES[files],
                base_path=base_path,
                authority=authority,
                webhook=webhook,
            )
        )
        try:
            limits = Limits(deadline=deadline, client_timeout=saved.client_timeout)
            again = play_again(harness, driver, saved, limits)
        finally:
            driver.close()
    click.echo(describe(again))
    still = again.confirmed > 0
    click.secho(
        f"{saved.rule} is {'still broken' if still else 'not broken any more'}",
        fg="red" if still else "green",
    )
    sys.exit(1 if still else 0)
