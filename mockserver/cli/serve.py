"""`serve`: a double until Ctrl-C."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mockserver.cli.banner import print_certificate, print_network_warning
from mockserver.cli.options import (
    BEHAVIOR,
    DEFAULT_PORT,
    LIMITS,
    NETWORK,
    OUTPUT,
    Command,
    Option,
    har_option,
    host_option,
    option,
    ready_file_option,
    serving_options,
)
from mockserver.reporting.terminal import print_error, print_line

if TYPE_CHECKING:
    from mockserver.backend.backend import Backend
    from mockserver.server.reload import Watch
    from mockserver.server.tls import Authority


MAX_DRAIN = 24 * 3600.0  # seconds


class _PortOption(Option):
    """`--port`, but for values of MOCKSERVER_PORT that were not meant for it.

    Docker's links and Kubernetes set it to tcp://… for a service that is called mockserver.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of the environment, if it is meant for this option."""
        value = super().resolve_envvar_value(ctx)
        return None if value is not None and value.startswith("tcp://") else value


@click.command(cls=Command)
@host_option
@option(
    "--port",
    cls=_PortOption,
    group=NETWORK,
    default=DEFAULT_PORT,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on; 0 picks a free one.",
)
@serving_options
@option(
    "--watch",
    group=BEHAVIOR,
    is_flag=True,
    help="Reload the contract and the scenario file when they change.",
)
@ready_file_option
@option("--log", group=OUTPUT, is_flag=True, help="Print a line for each request.")
@click.option("--verbose", "log", is_flag=True, hidden=True)
@option(
    "--drain",
    group=LIMITS,
    default=0.0,
    metavar="SECONDS",
    type=click.FloatRange(0, MAX_DRAIN),
    help="After SIGTERM, keep serving this long while /__admin/health answers 503.",
)
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

    Point a client at the printed address plus /replicate (or /replicate/v1). Each bearer token has
    predictions, faults and time of its own.

    Example: mockserver serve --scenario flaky
    """
    from mockserver.admin.har import write_har
    from mockserver.server.app import build_app
    from mockserver.server.ready_file import remove_former, remove_own, remove_stale, write
    from mockserver.server.tls import Authority
    from mockserver.server.uvicorn_server import listen, server_info, url_of
    from mockserver.server.uvicorn_server import serve as run_server

    watching = _watch(behavior) if watch else None
    app = build_app(**behavior)
    if ready_file:
        remove_stale(ready_file)
    authority = Authority(host, *tls_names) if tls else None
    listeners = listen(host, port)
    if ready_file:
        remove_former(ready_file)
    if log:
        _print_requests(app.backend)
    url = url_of(listeners[0], "https" if authority else "http")

    def announce() -> None:
        if ready_file:
            write(ready_file, server_info(listeners[0], authority))
        _announce(app.backend, url, authority)
        print_network_warning(listeners, app.backend.options.admin_token)
        if watching:
            print_line(f"watching {' and '.join(map(str, watching.files))}")

    beside = partial(watching.follow, app, _report) if watching else None
    try:
        run_server(
            app, listeners, on_ready=announce, authority=authority, drain=drain, beside=beside
        )
        if har:
            write_har(app.backend, har, url)
    finally:
        if authority:
            authority.close()
        if ready_file:
            remove_own(ready_file)


def _watch(behavior: dict[str, Any]) -> Watch:
    from mockserver.server.reload import Watch

    return Watch(behavior["contract"], behavior["scenario"])


def _report(line: str) -> None:
    print_error(line)


def _announce(backend: Backend, url: str, authority: Authority | None) -> None:
    from mockserver.backend.store import MAX_MEMORY
    from mockserver.client import BASE_PATH, PREFIX

    options, name = backend.options, backend.options.scenario.name or "of its own"
    print_line(f"mockserver listening on {url}")
    print_line(
        f"seed {options.seed} · clock {options.clock} · scenario {name} · "
        f"contract {backend.contract.name}"
    )
    print_certificate(authority)
    base_url = url + BASE_PATH
    print_line(f"base URL for clients: {base_url} (PyPI replicate), {base_url}/v1 (npm replicate)")
    if options.also_at is not None:
        print_line(f"the same API too: {url}{options.also_at.rstrip('/')}/v1")
    print_line(f"inspector: {url}{PREFIX}/")
    if options.max_memory < MAX_MEMORY:
        size = options.max_memory // 1024**2
        print_line(f"data kept for clients: {size} MiB at most (--max-memory)")


def _print_requests(backend: Backend) -> None:
    from mockserver.cli.request_log import log_line

    backend.store.observers.append(
        lambda tenant, exchange: print_line(log_line(tenant.name, exchange))
    )
