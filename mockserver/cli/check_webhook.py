"""`check-webhook`: what a webhook receiver must take and refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mockserver.cli.options import color_option, option


@click.command("check-webhook")
@click.argument("url")
@option(
    "--secret", required=True, metavar="whsec_...", help="The key that the receiver verifies with."
)
@option(
    "--contract",
    type=click.Path(path_type=Path),
    help="OpenAPI 3.1 file; the shipped one if left out.",
)
@color_option
def check_webhook(url: str, secret: str, contract: Path | None) -> None:
    """Send a webhook receiver what it must take, and what it must refuse.

    Genuine webhooks, forged, tampered and stale ones, duplicates and late ones go to URL. Exits
    with 0 if each is taken or refused (by any answer but 2xx) as it should be, 1 if not, 2 if no
    receiver answers.
    """
    from mockserver.check.rules.registry import RULES
    from mockserver.check.webhook_receivers import check_receiver
    from mockserver.contract.contract import Contract

    failed = []
    for reaction in check_receiver(url, secret, Contract.load(contract)):
        message = reaction.message
        expected = "2xx" if message.must_accept else "a refusal"
        response = str(reaction.status) if reaction.status is not None else reaction.reason
        click.secho(
            f"{'pass' if reaction.ok else 'FAIL'}  {message.rule}  {message.description}: {response}"
            + ("" if reaction.ok else f"; expected {expected}"),
            fg=None if reaction.ok else "red",
        )
        if not reaction.ok and message.rule not in failed:
            failed.append(message.rule)
    for code in failed:
        click.echo(f"{code}  {RULES[code].title}: {RULES[code].demand}")
    click.secho(
        f"{len(failed)} rules broken" if failed else "no rule broken",
        fg="red" if failed else "green",
    )
    sys.exit(1 if failed else 0)
