"""`verdict`: what a suite sent to a running double, judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from mockserver.backend.coverage import add_up as add_up_coverage
from mockserver.backend.verdict import REASONS, add_up, failures
from mockserver.cli.options import DEFAULT_PORT, option
from mockserver.client import PREFIX, Tenant
from mockserver.errors import MockServerError

MAX_LINKS = 5


@click.command()
@option(
    "--url",
    multiple=True,
    default=[f"http://127.0.0.1:{DEFAULT_PORT}"],
    help="The double's address; of several, each of which has a part of the tenants, again for each.",
)
@option(
    "--token",
    help="Judge this tenant only: the bearer token that a suite sent. All of them if left out.",
)
@option("--admin-token", metavar="SECRET", help="What the double was started with, if it was.")
@option(
    "--fail-on",
    default="violations,unmatched,departures",
    metavar="LIST",
    help="What makes it exit with 1, comma-separated: violations, unmatched, departures, unused-faults, "
    "undelivered-webhooks.",
)
@click.option(
    "--allow-empty", is_flag=True, help="Exit with 0 also if no request reached the double."
)
@click.option("--quiet", is_flag=True, help="Leave the coverage of the contract out.")
def verdict(
    url: tuple[str, ...],
    token: str | None,
    admin_token: str | None,
    fail_on: str,
    allow_empty: bool,
    quiet: bool,
) -> None:
    """Judge what a suite sent to a running double.

    Prints the verdict over all tenants, or over one, and then what of the contract that one has
    met. Exits with 0 if there is nothing to fail on, 1 if there is, 2 if there is no verdict, or no
    request has reached the double.
    """
    reasons = [word.strip() for word in fail_on.split(",") if word.strip()]
    if unknown := [word for word in reasons if word not in REASONS]:
        raise MockServerError(f"--fail-on {unknown[0]}: there are {', '.join(REASONS)}")
    servers = [Tenant(each, token or "", admin_token=admin_token) for each in url]
    whole = "?all=true" if token is None else ""
    found = add_up([_ask(server, "/verdict" + whole) for server in servers])
    where = ", ".join(url)
    names = ", ".join(each["tenant"] for each in found.get("tenants", [])) or (
        "none" if token is None else "1"
    )
    click.echo(
        f"{found['exchanges']} exchanges with {where} ({found['evicted']} no longer in the journal)"
    )
    click.echo(f"tenants judged: {names}")
    for reason in REASONS:
        lines = failures(found, [reason])
        click.echo(f"{reason}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  - {line}")
    failed = bool(failures(found, reasons))
    if not failed and not (found["exchanges"] or found["answered"]) and not allow_empty:
        raise MockServerError(
            f"no request has reached {where}, so there is nothing to judge (--allow-empty to accept)"
        )
    click.secho("verdict: failed" if failed else "verdict: ok", fg="red" if failed else "green")
    for link in _links(servers, token) if failed else ():
        click.echo(f"look at it: {link}")
    if not quiet:
        _show_coverage(add_up_coverage([_ask(server, "/coverage" + whole) for server in servers]))
    sys.exit(1 if failed else 0)


def _links(servers: Sequence[Tenant], token: str | None) -> list[str]:
    """Where the inspector shows what was wrong, tenant by tenant. No token stands in it."""
    links = []
    for server in servers:
        told = server.call("GET", "/tenants")
        for each in told["tenants"]:
            wrong = each["violating_exchanges"] or each["unmatched_exchanges"]
            if wrong if token is None else each["handle"] == told["asking"]:
                show = "violations" if each["violating_exchanges"] else "unmatched" if wrong else ""
                links.append(
                    f"{server.url}{PREFIX}/#tenant={each['handle']}"
                    + (f"&show={show}" if show else "")
                )
    return links[:MAX_LINKS]


def _ask(server: Tenant, path: str) -> dict[str, Any]:
    """A verdict or a coverage. Raises MockServerError if it is only a part of what was asked for."""
    found = server.call("GET", path)
    if number := found.get("one_of_servers"):
        raise MockServerError(
            f"{server.url} is a load balancer before {number} doubles, and this would be the verdict of one of them; "
            "give the address of each as --url, or one tenant as --token"
        )
    return found


def _show_coverage(coverage: dict[str, Any]) -> None:
    click.echo("met of the contract (GET /__admin/coverage lists what never was):")
    for name, part in coverage.items():
        click.echo(f"  {name:<12} {len(part['met']):>3} of {len(part['met']) + len(part['never'])}")
