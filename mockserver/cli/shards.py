"""`shards`: configurations for many doubles behind a load balancer."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from mockserver.cli.options import OUTPUT, Command, contract_option, option, public_url_option
from mockserver.contract.contract import Contract
from mockserver.deploy.shards import NAME, PORT, Deployment, Format, configuration


@click.command(cls=Command)
@option(
    "--servers",
    group="Servers",
    environment=False,
    required=True,
    metavar="HOST:PORT,...",
    help="Addresses of the doubles, in an order to keep; for compose and kubernetes, their number.",
)
@option(
    "--image",
    group="Servers",
    environment=False,
    default=NAME,
    metavar="NAME",
    help="Container image of the doubles.",
)
@contract_option("Servers", "serve", environment=False)
@option(
    "--listen",
    group="Network",
    environment=False,
    default=f":{PORT}",
    metavar="[HOST]:PORT",
    help="Address that the load balancer listens on.",
)
@option(
    "--tls-cert",
    group="Network",
    environment=False,
    metavar="FILE",
    help="Serve https with this certificate and key (PEM).",
)
@public_url_option(
    "Base of the URLs in responses; that of the request if left out.", environment=False
)
@option(
    "--format",
    "form",
    group=OUTPUT,
    environment=False,
    default="haproxy",
    type=click.Choice(get_args(Format)),
    help="Kind of the configuration.",
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
    r"""Print a load balancer's configuration for many doubles.

    Each double has a part of the tenants. The configuration is for HAProxy, alone or in Kubernetes
    or Docker Compose; its comments explain it. It finds a tenant's double by the token or, in
    requests without one, by the prediction's id in the URL.

    \b
    Example: mockserver shards --servers 10.0.0.5:3589,10.0.0.6:3589 > haproxy.cfg
    """
    deployment = Deployment(form, servers, listen, tls_cert, public_url, image)
    click.echo(configuration(deployment, Contract.load(contract)), nl=False)
