"""`verdict`: what a suite sent to a running double, judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from mockserver.backend.coverage import add_up as add_up_coverage
from mockserver.backend.verdict import REASONS, add_up, failures
from mockserver.cli.options import DEFAULT_PORT, OUTPUT, Command, allow_empty_option, option
from mockserver.client import PREFIX, Tenant
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_line

MAX_LINKS = 5
DOUBLE = "Double"  # a heading of the help


@click.command(cls=Command)
@option(
    "--url",
    group=DOUBLE,
    multiple=True,
    metavar="URL",
    default=[f"http://127.0.0.1:{DEFAULT_PORT}"],
    help="Address of the double; repeatable for doubles that share the tenants.",
)
@option(
    "--token",
    group=DOUBLE,
    metavar="TOKEN",
    help="Judge only the tenant of this bearer token.",
)
@option(
    "--admin-token",
    group=DOUBLE,
    metavar="SECRET",
    help="Admin token that the double was started with.",
)
@option(
    "--fail-on",
    group="Judging",
    default="violations,unmatched,departures",
    metavar="LIST",
    help="What fails the verdict, separated by commas: " + ", ".join(REASONS) + ".",
)
@allow_empty_option
@option(
    "--quiet",
    group=OUTPUT,
    environment=False,
    is_flag=True,
    help="Do not print the coverage of the contract.",
)
def verdict(
    url: tuple[str, ...],
    token: str | None,
    admin_token: str | None,
    fail_on: str,
    allow_empty: bool,
    quiet: bool,
) -> None:
    """Judge the requests that a running double has received.

    Prints the verdict over all tenants, or over one, and how much of the contract was covered.
    Exits with 0 if nothing fails it, 1 if something does, and 2 if there is no verdict or no
    request was received.

    Example: mockserver verdict --fail-on violations,unused-faults
    """
    reasons = [word.strip() for word in fail_on.split(",") if word.strip()]
    if unknown := [word for word in reasons if word not in REASONS]:
        raise MockServerError(f"--fail-on {unknown[0]}: there are {', '.join(REASONS)}")

    servers = [Tenant(address, token or "", admin_token=admin_token) for address in url]
    scope = "?all=true" if token is None else ""
    result = add_up([_fetch(server, "/verdict" + scope) for server in servers])
    _show(result, where := ", ".join(url), one_tenant=token is not None)

    failed = bool(failures(result, reasons))
    if not failed and not (result["exchanges"] or result["answered"]) and not allow_empty:
        raise MockServerError(
            f"no request has reached {where}, so there is nothing to judge "
            "(--allow-empty to accept)"
        )
    print_line("verdict: failed" if failed else "verdict: ok", fg="red" if failed else "green")

    for link in _links(servers, token) if failed else ():
        print_line(f"look at it: {link}")
    if not quiet:
        _show_coverage(add_up_coverage([_fetch(server, "/coverage" + scope) for server in servers]))
    sys.exit(1 if failed else 0)


def _show(result: dict[str, Any], where: str, *, one_tenant: bool) -> None:
    """Print a verdict, reason by reason."""
    tenants = ", ".join(tenant["tenant"] for tenant in result.get("tenants", []))
    print_line(
        f"{result['exchanges']} exchanges with {where} "
        f"({result['evicted']} no longer in the journal)"
    )
    print_line(f"tenants judged: {tenants or ('1' if one_tenant else 'none')}")
    for reason in REASONS:
        lines = failures(result, [reason])
        print_line(f"{reason}: {len(lines) or 'none'}")
        for line in lines:
            print_line(f"  - {line}")


def _links(servers: Sequence[Tenant], token: str | None) -> list[str]:
    """Where the inspector shows what was wrong, tenant by tenant. No link holds a token."""
    links = []
    for server in servers:
        listing = server.call("GET", "/tenants")
        for tenant in listing["tenants"]:
            wrong = tenant["violating_exchanges"] or tenant["unmatched_exchanges"]
            if wrong if token is None else tenant["handle"] == listing["current"]:
                filter_ = (
                    "&show=violations"
                    if tenant["violating_exchanges"]
                    else "&show=unmatched"
                    if wrong
                    else ""
                )
                links.append(f"{server.url}{PREFIX}/#tenant={tenant['handle']}{filter_}")
    return links[:MAX_LINKS]


def _fetch(server: Tenant, path: str) -> dict[str, Any]:
    """A verdict or a coverage. Raises MockServerError if it is that of a part of the tenants."""
    value = server.call("GET", path)
    if count := value.get("server_count"):
        raise MockServerError(
            f"{server.url} is a load balancer in front of {count} doubles, and this would be the "
            "verdict of one of them; give the address of each as --url, or one tenant as --token"
        )
    return value


def _show_coverage(coverage: dict[str, Any]) -> None:
    print_line("met of the contract (GET /__admin/coverage lists what never was):")
    for name, part in coverage.items():
        met = len(part["met"])
        print_line(f"  {name:<12} {met:>3} of {met + len(part['never'])}")
