"""`scenarios`: the ways in which a double can behave, by name."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from mockserver.cli.options import BEHAVIOR, Command, contract_option
from mockserver.contract.contract import Contract
from mockserver.reporting.terminal import print_line
from mockserver.scenarios.catalogue import Catalogue


@click.command(cls=Command)
@click.argument("name", required=False)
@contract_option(BEHAVIOR, "fit the scenarios to")
def scenarios(name: str | None, contract: Path | None) -> None:
    """List the scenarios, or print one as YAML.

    A scenario is how the gateway behaves: the statuses of a prediction, faults, variations of the
    responses. What is printed for NAME is a file for `mockserver serve --scenario`, to start your
    own from.

    Example: mockserver scenarios flaky > mine.yaml
    """
    catalogue = Catalogue(Contract.load(contract))
    if name is not None:
        value = catalogue.named(name).as_json()
        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100), nl=False)
        return

    width = max(len(scenario.name) for scenario in catalogue)
    for scenario in catalogue:
        print_line(f"{scenario.name:<{width}}  {scenario.description}")
    print_line()
    print_line("`mockserver scenarios NAME` prints one as YAML.")
