"""`check-webhook`: what a webhook receiver must take and refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mockserver.cli.options import Command, color_option, contract_option, option
from mockserver.reporting.terminal import print_line


@click.command("check-webhook", cls=Command)
@click.argument("url")
@option(
    "--secret",
    group="Webhooks",
    required=True,
    metavar="whsec_...",
    help="Key that the receiver verifies signatures with.",
)
@contract_option("Webhooks")
@color_option
def check_webhook(url: str, secret: str, contract: Path | None) -> None:
    """Test a webhook receiver with valid and forged deliveries.

    Sends genuine, forged, altered, outdated, repeated and late webhooks to URL. Exits with 0 if the
    receiver accepts (2xx) or refuses each as it should, 1 if not, and 2 if none answers.

    Example: mockserver check-webhook http://localhost:8000/hook --secret whsec_...
    """
    from mockserver.check.rules.registry import RULES
    from mockserver.check.webhook_receivers import check_receiver
    from mockserver.contract.contract import Contract

    failed: list[str] = []
    for reaction in check_receiver(url, secret, Contract.load(contract)):
        message = reaction.message
        response = str(reaction.status) if reaction.status is not None else reaction.reason
        line = f"{message.rule}  {message.description}: {response}"
        if reaction.ok:
            print_line(f"pass  {line}")
            continue

        expected = "2xx" if message.must_accept else "a refusal"
        print_line(f"FAIL  {line}; expected {expected}", fg="red")
        if message.rule not in failed:
            failed.append(message.rule)

    for code in failed:
        print_line(f"{code}  {RULES[code].title}: {RULES[code].demand}")
    print_line(
        f"{len(failed)} rules broken" if failed else "no rule broken",
        fg="red" if failed else "green",
    )
    sys.exit(1 if failed else 0)
