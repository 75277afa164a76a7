"""`shards`: configurations for many doubles behind a load balancer."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from mockserver.cli.options import checked_url
from mockserver.contract.contract import Contract
from mockserver.deploy.shards import NAME, PORT, Deployment, Format, configuration


@click.command()
@click.option(
    "--servers",
    required=True,
    metavar="HOST:PORT,...",
    help="Where the doubles listen, in an order that stays; for compose and kubernetes, how many there are.",
)
@click.option(
    "--listen",
    default=f":{PORT}",
    show_default=True,
    metavar="[HOST]:PORT",
    help="Where clients come to.",
)
@click.option(
    "--tls-cert",
    metavar="FILE",
    help="Speak https to clients, with this certificate and key (PEM).",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="The address that clients use, if that is not enough to go by.",
)
@click.option("--image", default=NAME, show_default=True, help="Container image of the doubles.")
@click.option(
    "--contract",
    type=click.Path(path_type=Path),
    help="What the doubles serve; the shipped contract if left out.",
)
@click.option(
    "--format", "form", default="haproxy", show_default=True, type=click.Choice(get_args(Format))
)
def shards(
    servers: str,
    listen: str,
    tls_cert: str | None,
    public_url: str | None,
    image: str,
    contract: Path | None,
    form: Format,
) -> None:
    """Write a configuration for many doubles, each with a part of the tenants.

    Prints a complete configuration for HAProxy, or for Kubernetes or Docker Compose with HAProxy in
    it; comments say what each part is for. A tenant lives whole in one double: the load balancer
    knows in which from the token, or from the id in a URL that is asked for without one.

    Example: mockserver shards --servers 10.0.0.5:3589,10.0.0.6:3589 > haproxy.cfg
    """
    deployment = Deployment(form, servers, listen, tls_cert, checked_url(public_url), image)
    click.echo(configuration(deployment, Contract.load(contract)), nl=False)
