"""`rules` and `explain`: what clients, webhook receivers and gateways have to do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_line

if TYPE_CHECKING:
    from mockserver.reporting.rule import RuleFacts


def every_rule() -> dict[str, RuleFacts]:
    """The rules for clients, for webhook receivers and for gateways, by their codes."""
    from mockserver.check.rules.registry import RULES
    from mockserver.conformance.rules import BY_CODE

    return {**RULES, **BY_CODE}


@click.command()
def rules() -> None:
    """List the rules for clients, receivers and gateways."""
    every = every_rule().values()
    width = max(len(rule.severity) for rule in every)
    for rule in every:
        print_line(f"{rule.code}  {rule.severity:<{width}}  {rule.title}")
    print_line()
    print_line("`mockserver explain CODE` explains a rule.")


@click.command()
@click.argument("code")
def explain(code: str) -> None:
    """Explain a rule: what it demands, and why.

    Example: mockserver explain MC201
    """
    rule = every_rule().get(code.upper())
    if rule is None:
        raise MockServerError(f"there is no rule {code}; `mockserver rules` lists them")
    for line in (
        f"{rule.code}  {rule.title}  [{rule.severity}]",
        "",
        rule.demand,
        "",
        f"Rests on: {rule.rests_on}.",
        f"Example:  {rule.example}",
        *([f"Fix:      {rule.fix}"] if rule.fix else []),
    ):
        print_line(line)
