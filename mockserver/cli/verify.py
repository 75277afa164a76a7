"""`verify`: the real gateway held against the contract."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mockserver.cli.options import color_option, learn_option, option

if TYPE_CHECKING:
    from mockserver.conformance.verify_report import VerifyReport


@click.command()
@click.argument("url")
@click.option(
    "--token",
    envvar="REPLICATE_API_TOKEN",
    show_envvar=True,
    help="The bearer token; it goes to the gateway alone.",
)
@option(
    "--spend",
    default=0,
    type=click.IntRange(0, 1000),
    help="How many predictions may be billed, at most.",
)
@option(
    "--fuzz",
    default=0,
    type=click.IntRange(0, 1000),
    help="Have Schemathesis draw N creates more that are forbidden.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be sent, and what it can cost at most; send nothing.",
)
@option(
    "--poll",
    default=1.0,
    type=click.FloatRange(0, 3600),
    help="Seconds between two reads of a prediction.",
)
@option(
    "--deadline",
    default=600.0,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a prediction may take.",
)
@option(
    "--report",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Write a report: .json, .xml (JUnit) or .html.",
)
@option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="A JSON report whose departures are accepted.",
)
@option(
    "--contract",
    type=click.Path(path_type=Path),
    help="OpenAPI 3.1 file; the shipped one if left out.",
)
@option(
    "--upstream-ca",
    type=click.Path(path_type=Path),
    help="Certificate to verify the gateway's own with.",
)
@click.option(
    "--insecure", is_flag=True, help="Talk to a gateway without TLS that is not on this machine."
)
@learn_option
@color_option
def verify(
    url: str,
    token: str | None,
    spend: int,
    fuzz: int,
    dry_run: bool,
    poll: float,
    deadline: float,
    report: tuple[Path, ...],
    baseline: Path | None,
    contract: Path | None,
    upstream_ca: Path | None,
    insecure: bool,
    learn: Path | None,
) -> None:
    """Hold the real gateway against the contract.

    URL is the gateway's address, to which the contract's paths are appended. Without --spend
    nothing is sent that could be billed. Exits with 0 if the gateway conforms as far as it was
    seen, 1 if it departs, 2 if it cannot be reached, refuses the token, is out of order, or makes
    no prediction where --spend allows for some.

    Example: mockserver verify https://gateway.example --spend 2
    """
    from mockserver.conformance.gateway import Gateway, GatewaySession
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.verification import Verification, VerifySettings
    from mockserver.conformance.verify_files import (
        format_for,
        github_annotations,
        read_baseline,
        write,
    )
    from mockserver.conformance.verify_terminal import VerifyProgress, show
    from mockserver.contract.contract import Contract

    for path in report:
        format_for(path)
    known = read_baseline(baseline) if baseline else ()
    gateway = Gateway(url, insecure=insecure, ca_file=upstream_ca)
    settings = VerifySettings(token or "", spend, poll, deadline, known, fuzz)
    session, progress = GatewaySession(gateway), VerifyProgress()
    loaded = Contract.load(contract)
    learner = Learner(loaded, gateway.origin)
    verification = Verification(loaded, session, settings, progress, learner)
    if dry_run:
        click.echo("\n".join(verification.plan.describe(spend)))
        return
    click.echo(f"verifying {gateway.url} · {verification.plan.describe(spend)[-1]}")
    try:
        with session:
            found = verification.run()
    finally:
        progress.clear()
    for path in report:
        write(found, path)
    if learn:
        learner.write(learn)
    show(found)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(found):
            click.echo(line)
    sys.exit(_exit_code(found))


def _exit_code(report: VerifyReport) -> int:
    """What the command exits with. Raises MockServerError if nothing was verified."""
    from mockserver.check.drive.interrupts import EXIT_CODE
    from mockserver.errors import MockServerError

    if report.unverified:
        raise MockServerError(f"{report.url}: nothing was verified, since {report.unverified}")
    return 1 if not report.ok else EXIT_CODE if report.interrupted else 0
