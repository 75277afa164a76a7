"""`run`: a double for the time of a command."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mockserver.cli.options import (
    GATEWAY,
    OUTPUT,
    Command,
    allow_empty_option,
    command_argument,
    har_option,
    learn_option,
    option,
    proxying_options,
    serving_options,
)
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_line

if TYPE_CHECKING:
    from mockserver.conformance.learning import Learner
    from mockserver.server.mock_server import AppServer

PROXYING = ("max_creates", "rewrite_urls", "gateway_ca", "insecure")


@click.command(cls=Command)
@serving_options
@option(
    "--proxy",
    group=GATEWAY,
    metavar="URL",
    help="Proxy this gateway instead of starting a double; the options below apply then.",
)
@proxying_options
@allow_empty_option
@option(
    "--quiet",
    group=OUTPUT,
    environment=False,
    is_flag=True,
    help="Print nothing if nothing was wrong.",
)
@har_option
@learn_option
@command_argument
def run(
    command: tuple[str, ...],
    tls: bool,
    tls_names: tuple[str, ...],
    allow_empty: bool,
    quiet: bool,
    har: Path | None,
    proxy: str | None,
    learn: Path | None,
    **settings: Any,
) -> None:
    """Run a command against a double and judge its requests.

    CMD gets the double's address in REPLICATE_BASE_URL and REPLICATE_API_BASE_URL, both ending in
    /replicate, and in MOCKSERVER_URL; and a token in REPLICATE_API_TOKEN, unless that is set. When
    it ends, the requests of all tenants are judged.

    Exits with CMD's exit code; if that is 0, with 1 if a request was invalid, and with 2 if there
    was no request or the double could not start. Without such a command, exits with 127.

    Example: mockserver run -- npm test
    """
    from mockserver.cli.command_process import run_command

    proxying = {name: settings.pop(name) for name in PROXYING}
    if proxy is None:
        _refuse_without_proxy({**proxying, "learn": learn})
        from mockserver.server.mock_server import MockServer

        server: AppServer = MockServer(tls=tls, tls_names=tls_names, **settings)
        learner = None
    else:
        server, learner = _proxy_server(
            proxy, proxying, {**settings, "tls": tls, "tls_names": tls_names}
        )

    code = run_command(
        server,
        command,
        allow_empty=allow_empty,
        quiet=quiet,
        report=partial(print_line, err=True),
        har=har,
        gateway_url=proxy,
    )
    if learn and learner:
        learner.write(learn)
    sys.exit(code)


def _refuse_without_proxy(settings: dict[str, Any]) -> None:
    """Raise MockServerError if an option is set that needs `--proxy`."""
    for name, value in settings.items():
        if value:
            raise MockServerError(f"--{name.replace('_', '-')} requires --proxy URL")


def _proxy_server(
    url: str, proxying: dict[str, Any], settings: dict[str, Any]
) -> tuple[AppServer, Learner]:
    """A proxy of a gateway, and what learns from it. Settings of a double are ignored."""
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.proxy import proxy_app
    from mockserver.server.mock_server import AppServer

    shared = {name: settings[name] for name in ("contract", "strict", "admin_token")}
    app = proxy_app(url, **proxying, **shared)
    learner = Learner(app.backend.contract, app.gateway.origin)
    app.watch.append(learner)
    return AppServer(app, tls=settings["tls"], tls_names=settings["tls_names"]), learner
