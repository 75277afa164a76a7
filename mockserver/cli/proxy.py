"""`proxy`: between a client and the real gateway, both held against the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mockserver.cli.banner import print_certificate, print_network_warning
from mockserver.cli.options import (
    DEFAULT_PORT,
    GATEWAY,
    NETWORK,
    Command,
    admin_token_option,
    contract_option,
    har_option,
    host_option,
    learn_option,
    option,
    proxying_options,
    public_url_option,
    ready_file_option,
    tls_options,
)
from mockserver.reporting.terminal import print_line


@click.command(cls=Command)
@click.argument("url")
@contract_option(GATEWAY, "check both sides against")
@option(
    "--strict",
    group=GATEWAY,
    is_flag=True,
    help="Refuse invalid requests instead of forwarding them.",
)
@proxying_options
@host_option
@option(
    "--port",
    group=NETWORK,
    default=DEFAULT_PORT,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on; 0 picks a free one.",
)
@tls_options
@public_url_option("Base of rewritten URLs; that of the request if left out.")
@admin_token_option
@ready_file_option
@learn_option
@har_option
def proxy(
    url: str,
    host: str,
    port: int,
    tls: bool,
    tls_names: tuple[str, ...],
    ready_file: Path | None,
    har: Path | None,
    learn: Path | None,
    **settings: Any,
) -> None:
    """Proxy the real gateway and check the traffic both ways.

    URL is the gateway's address, to which the paths of requests are appended. Requests and
    responses are forwarded unchanged and checked against the contract; `mockserver verdict` exits
    with 1 if either side departs from it.

    Example: mockserver proxy https://gateway.example
    """
    from mockserver.admin.har import write_har
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.proxy import proxy_app
    from mockserver.server.ready_file import remove_former, remove_own, remove_stale, write
    from mockserver.server.tls import Authority
    from mockserver.server.uvicorn_server import listen, serve, server_info, url_of

    app = proxy_app(url, **settings)
    learner = Learner(app.backend.contract, app.gateway.origin)
    app.watch.append(learner)
    if ready_file:
        remove_stale(ready_file)
    authority = Authority(host, *tls_names) if tls else None
    listeners = listen(host, port)
    if ready_file:
        remove_former(ready_file)
    own_url = url_of(listeners[0], "https" if authority else "http")

    def announce() -> None:
        if ready_file:
            write(ready_file, server_info(listeners[0], authority))
        print_line(f"mockserver listening on {own_url}")
        print_line(f"proxy of {app.gateway.url} · contract {app.backend.contract.name}")
        print_certificate(authority)
        print_network_warning(listeners, app.backend.options.admin_token)

    try:
        serve(app, listeners, on_ready=announce, authority=authority)
        if learn:
            learner.write(learn)
        if har:
            write_har(app.backend, har, own_url)
    finally:
        if authority:
            authority.close()
        if ready_file:
            remove_own(ready_file)
