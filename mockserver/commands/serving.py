"""`serve` and `run`: a double for as long as it is wanted, or as a command lasts."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mockserver.commands.options import (
    DEFAULT_PORT,
    command_argument,
    har_option,
    learn_option,
    option,
    server_settings,
    serving_options,
)
from mockserver.commands.proxying import proxying_options
from mockserver.errors import MockServerError

if TYPE_CHECKING:
    from mockserver.backend.backend import Gateway
    from mockserver.conformance.learning import Learner
    from mockserver.server.mock_server import MockServer
    from mockserver.server.reload import Watch
    from mockserver.server.tls import Authority

MAX_DRAIN = 24 * 3600.0  # seconds


class _PortOption(click.Option):
    """Docker's links and Kubernetes set MOCKSERVER_PORT=tcp://… for a service called mockserver: that is no port."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of the environment, if it is meant for this option."""
        value = super().resolve_envvar_value(ctx)
        return None if value is not None and value.startswith("tcp://") else value


@click.command()
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option(
    "--port",
    cls=_PortOption,
    default=DEFAULT_PORT,
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@serving_options
@option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="File to write {url, port, pid, ca_file} to once it answers.",
)
@option("--log", is_flag=True, help="Print a line for each request.")
@click.option("--verbose", "log", is_flag=True, hidden=True)
@option(
    "--drain",
    default=0.0,
    metavar="SECONDS",
    type=click.FloatRange(0, MAX_DRAIN),
    help="After SIGTERM, answer /__admin/health with 503 and serve on for so long; a second SIGTERM ends that.",
)
@option("--watch", is_flag=True, help="Read the contract and the scenario's file again when they change.")
@har_option
def serve(
    host: str,
    port: int,
    tls: bool,
    tls_names: tuple[str, ...],
    ready_file: Path | None,
    log: bool,
    drain: float,
    watch: bool,
    har: Path | None,
    **behavior: Any,
) -> None:
    """Serve the gateway's API until Ctrl-C.

    Point a client at the printed address plus /replicate (or /replicate/v1), with any token: each token is a
    world of its own.
    """
    from mockserver.server.ready_file import remove_own, remove_stale, write
    from mockserver.server.tls import Authority
    from mockserver.server.uvicorn_server import build_app, listen, url_of, whereabouts, write_har
    from mockserver.server.uvicorn_server import serve as run_server

    watching = _watch(behavior) if watch else None
    app = build_app(**server_settings(behavior))
    if ready_file:
        remove_stale(ready_file)
    authority = Authority(host, *tls_names) if tls else None
    listener = listen(host, port)
    if log:
        _print_requests(app.gateway)
    url = url_of(listener, "https" if authority else "http")

    def announce() -> None:
        if ready_file:
            write(ready_file, whereabouts(listener, authority))
        _announce(app.gateway, url, host, authority)
        if watching:
            click.echo(f"watching {' and '.join(map(str, watching.files))}")

    beside = partial(watching.follow, app, _say) if watching else None
    run_server(app, listener, on_ready=announce, authority=authority, drain=drain, beside=beside)
    if har:
        write_har(app.gateway, har, url)
    if authority:
        authority.close()
    if ready_file:
        remove_own(ready_file)


def _watch(behavior: dict[str, Any]) -> Watch:
    from mockserver.server.reload import Watch

    return Watch(behavior["contract"], behavior["scenario"])


def _say(line: str) -> None:
    click.echo(f"mockserver: {line}", err=True)


def _announce(gateway: Gateway, url: str, host: str, authority: Authority | None) -> None:
    from mockserver.client import BASE_PATH, PREFIX

    options, name = gateway.options, gateway.options.scenario.name or "of its own"
    click.echo(f"mockserver listening on {url}")
    click.echo(f"seed {options.seed} · clock {options.clock} · scenario {name} · contract {gateway.contract.name}")
    if authority:
        click.echo(f"certificate for SSL_CERT_FILE or NODE_EXTRA_CA_CERTS: {authority.file}")
    click.echo(f"base URL for clients: {url}{BASE_PATH} (PyPI replicate), {url}{BASE_PATH}/v1 (npm replicate)")
    if options.also_at is not None:
        click.echo(f"the same API too: {url}{options.also_at.rstrip('/')}/v1")
    click.echo(f"inspector: {url}{PREFIX}/")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
        said = "" if options.admin_token else f"; --admin-token SECRET would keep others out of {PREFIX}"
        click.echo(f"it listens on every address of this machine ({host}), so others on the network reach it{said}")


def _print_requests(gateway: Gateway) -> None:
    from mockserver.request_log import log_line

    gateway.store.observers.append(lambda tenant, exchange: click.echo(log_line(tenant.name, exchange)))


@click.command()
@serving_options
@click.option("--allow-empty", is_flag=True, help="Exit with 0 also if no request reached the double.")
@har_option
@option("--proxy", metavar="URL", help="Stand between the command and this gateway, instead of a double.")
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

    CMD finds the double's address in REPLICATE_BASE_URL (and REPLICATE_API_BASE_URL), which ends in /replicate, and in
    MOCKSERVER_URL; a token in REPLICATE_API_TOKEN, unless it has one. When it has ended, every tenant is judged. Exits
    with its exit code; with 1 if that was 0 and something was wrong; with 2 if it was 0 and no request reached the
    double, or the double could not start; with 127 if there is no such command.

    Example: mockserver run -- npm test
    """
    from mockserver.run import run_command

    talking = {name: behavior.pop(name) for name in ("max_creates", "rewrite_urls", "upstream_ca", "insecure")}
    if proxy is None:
        if given := [name for name, value in {**talking, "learn": learn}.items() if value]:
            raise MockServerError(f"--{given[0].replace('_', '-')} is for a gateway behind --proxy URL")
        from mockserver.server.mock_server import MockServer

        server, learner = MockServer(tls=tls, **server_settings(behavior)), None
    else:
        server, learner = _proxy_server(proxy, talking, behavior)
    say = partial(click.echo, err=True)
    code = run_command(server, command, allow_empty=allow_empty, say=say, har=har, gateway=proxy)
    if learn and learner:
        learner.write(learn)
    sys.exit(code)


def _proxy_server(url: str, talking: dict[str, Any], behavior: dict[str, Any]) -> tuple[MockServer, Learner]:
    """A proxy of the gateway at a URL, and what learns from it; flags that only a double has are left out."""
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.proxy import ProxyServer, proxy_app

    kept = {name: behavior[name] for name in ("contract", "strict", "admin_token")}
    app = proxy_app(url, **talking, **kept)
    learner = Learner(app.gateway.contract, app.upstream.origin)
    app.watch.append(learner)
    return ProxyServer(app), learner
