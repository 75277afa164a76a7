"""`rules` and `explain`: what is demanded of clients, and why."""

from __future__ import annotations

import click

from mockserver.errors import MockServerError


@click.command()
def rules() -> None:
    """List the rules that clients and webhook receivers are held to."""
    from mockserver.check.rules import RULES

    for rule in RULES.values():
        click.echo(f"{rule.code}  {rule.severity:<6}  {rule.title}")
    click.echo("\n`mockserver explain CODE` says what a rule demands, and what it rests on.")


@click.command()
@click.argument("code")
def explain(code: str) -> None:
    """Say what a rule demands, what it rests on, and how a client breaks it."""
    from mockserver.check.rules import RULES

    rule = RULES.get(code.upper())
    if rule is None:
        raise MockServerError(f"there is no rule {code}; `mockserver rules` lists them")
    for line in (
        f"{rule.code}  {rule.title}  [{rule.severity}]",
        "",
        rule.demand,
        "",
        f"Rests on: {rule.rests_on}.",
        f"Example:  {rule.example}",
        *([f"To mend:  {rule.fix}"] if rule.fix else []),
    ):
        click.echo(line)
