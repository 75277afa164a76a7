"""`run`: a double for the time of a command."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mockserver.cli.options import (
    command_argument,
    har_option,
    learn_option,
    option,
    server_settings,
    serving_options,
)
from mockserver.cli.proxy import proxying_options
from mockserver.errors import MockServerError

if TYPE_CHECKING:
    from mockserver.conformance.learning import Learner
    from mockserver.server.mock_server import AppServer


@click.command()
@serving_options
@click.option(
    "--allow-empty", is_flag=True, help="Exit with 0 also if no request reached the double."
)
@har_option
@option(
    "--proxy",
    metavar="URL",
    help="Stand between the command and this gateway, instead of a double.",
)
@proxying_options
@learn_option
@command_argument
def run(
    command: tuple[str, ...],
    tls: bool,
    allow_empty: bool,
    har: Path | None,
    proxy: str | None,
    learn: Path | None,
    **behavior: Any,
) -> None:
    """Run a command against a double of its own, and judge what it sent.

    CMD finds the double's address in REPLICATE_BASE_URL (and REPLICATE_API_BASE_URL), which ends in
    /replicate, and in MOCKSERVER_URL; a token in REPLICATE_API_TOKEN, unless it has one. When it
    has ended, every tenant is judged. Exits with its exit code; with 1 if that was 0 and something
    was wrong; with 2 if it was 0 and no request reached the double, or the double could not start;
    with 127 if there is no such command.

    Example: mockserver run -- npm test
    """
    from mockserver.cli.command_process import run_command

    talking = {
        name: behavior.pop(name)
        for name in ("max_creates", "rewrite_urls", "upstream_ca", "insecure")
    }
    if proxy is None:
        if given := [name for name, value in {**talking, "learn": learn}.items() if value]:
            raise MockServerError(
                f"--{given[0].replace('_', '-')} is for a gateway behind --proxy URL"
            )
        from mockserver.server.mock_server import MockServer

        server: AppServer = MockServer(tls=tls, **server_settings(behavior))
        learner = None
    else:
        server, learner = _proxy_server(proxy, talking, behavior)
    say = partial(click.echo, err=True)
    code = run_command(
        server, command, allow_empty=allow_empty, say=say, har=har, gateway_url=proxy
    )
    if learn and learner:
        learner.write(learn)
    sys.exit(code)


def _proxy_server(
    url: str, talking: dict[str, Any], behavior: dict[str, Any]
) -> tuple[AppServer, Learner]:
    """A proxy of the gateway at a URL, and what learns from it; flags that only a double has are left out."""
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.proxy import proxy_app
    from mockserver.server.mock_server import AppServer

    kept = {name: behavior[name] for name in ("contract", "strict", "admin_token")}
    app = proxy_app(url, **talking, **kept)
    learner = Learner(app.backend.contract, app.gateway.origin)
    app.watch.append(learner)
    return AppServer(app), learner
