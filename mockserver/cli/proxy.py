"""`proxy`: between a client and the real gateway, both held against the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mockserver.cli.options import DEFAULT_PORT, checked_url, har_option, learn_option, option

PROXYING = (
    option(
        "--max-creates",
        type=click.IntRange(0),
        help="Pass on so many creates at most; refuse others with 402.",
    ),
    option(
        "--rewrite-urls", is_flag=True, help="Lead urls.* in predictions back through the proxy."
    ),
    option(
        "--upstream-ca",
        type=click.Path(path_type=Path),
        help="Certificate to verify the gateway's own with.",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Talk to a gateway without TLS that is not on this machine.",
    ),
)


def proxying_options(function: Callable[..., None]) -> Callable[..., None]:
    """The flags that say how a gateway is talked to."""
    for each in reversed(PROXYING):
        function = each(function)
    return function


@click.command()
@click.argument("url")
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option(
    "--port", default=DEFAULT_PORT, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@option(
    "--strict", is_flag=True, help="Refuse what the contract forbids before it reaches the gateway."
)
@proxying_options
@option(
    "--contract",
    type=click.Path(path_type=Path),
    help="OpenAPI 3.1 file; the shipped one if left out.",
)
@option(
    "--public-url",
    metavar="URL",
    help="Address in rewritten URLs; the one the client used if left out.",
)
@option(
    "--admin-token",
    metavar="SECRET",
    help="Answer /__admin only to those who send it as X-Mock-Admin-Token.",
)
@option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="File to write {url, port, pid} to once it answers.",
)
@learn_option
@har_option
def proxy(
    url: str,
    host: str,
    port: int,
    ready_file: Path | None,
    har: Path | None,
    learn: Path | None,
    **settings: Any,
) -> None:
    """Stand between a client and the real gateway until Ctrl-C.

    URL is the gateway's address, to which the paths that clients ask for are appended. Everything
    is passed on as it is, and held against the contract in both directions; `mockserver verdict` is
    1 if either side departs from it.

    Example: mockserver proxy https://gateway.example
    """
    from mockserver.admin.har import write_har
    from mockserver.conformance.learning import Learner
    from mockserver.conformance.proxy import proxy_app
    from mockserver.server.ready_file import remove_own, remove_stale, write
    from mockserver.server.uvicorn_server import listen, serve, server_info, url_of

    settings["public_url"] = checked_url(settings["public_url"])
    app = proxy_app(url, **settings)
    learner = Learner(app.backend.contract, app.gateway.origin)
    app.watch.append(learner)
    if ready_file:
        remove_stale(ready_file)
    listener = listen(host, port)
    here = url_of(listener)

    def announce() -> None:
        if ready_file:
            write(ready_file, server_info(listener))
        click.echo(f"mockserver listening on {here}")
        click.echo(f"proxy of {app.gateway.url} · contract {app.backend.contract.name}")

    serve(app, listener, on_ready=announce)
    if learn:
        learner.write(learn)
    if har:
        write_har(app.backend, har, here)
    if ready_file:
        remove_own(ready_file)
