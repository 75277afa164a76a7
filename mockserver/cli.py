"""The `mockserver` command."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import click

from mockserver.clock import MODES, Mode
from mockserver.errors import Dialect, MockServerError
from mockserver.scenarios import Urls

DEFAULT_PORT = 3589


def option(flag: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag that an environment variable can set too: --ready-file is MOCKSERVER_READY_FILE."""
    variable = "MOCKSERVER_" + flag.removeprefix("--").replace("-", "_").upper()
    settings.setdefault("show_default", settings.get("default") is not None and not settings.get("is_flag"))
    return click.option(flag, envvar=variable, show_envvar=True, **settings)


class _Commands(click.Group):
    """Commands that say in one line what the user has to mend, and exit with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MockServerError as reason:
            click.echo(f"mockserver: {reason}", err=True)
            sys.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flux-mockserver", prog_name="mockserver")
def main() -> None:
    """A local test double of the Replicate-style FLUX gateway.

    It answers as the gateway does, costs nothing, does not wait, and is the same on every run.
    """


@main.command()
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=DEFAULT_PORT, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@option("--contract", type=click.Path(path_type=Path), help="OpenAPI 3.1 file to serve; the shipped one if left out.")
@option("--scenario", default="succeeded", help="How the gateway behaves: a scenario's name, or a file with one.")
@option("--clock", default="autojump", type=click.Choice(MODES), help="How time passes for predictions.")
@option(
    "--speed", default=1.0, type=click.FloatRange(0, min_open=True), help="With --clock real: how many times faster."
)
@option("--seed", type=click.IntRange(0), help="Fixes ids, logs and pictures; drawn and printed if left out.")
@option("--require-auth", is_flag=True, help="Refuse requests without a bearer token (401).")
@option("--strict", is_flag=True, help="Refuse unknown request fields too (422).")
@option("--urls", default="local", type=click.Choice(get_args(Urls)), help="Where urls.* in predictions point.")
@option("--errors", default="upstream", type=click.Choice(get_args(Dialect)), help="The dialect of error bodies.")
@option("--tls", is_flag=True, help="Speak https, with a certificate made for this run.")
@option(
    "--files-origin",
    default="same",
    type=click.Choice(("same", "separate")),
    help="Whether pictures come from the API's address or from a host of their own.",
)
@option("--public-url", metavar="URL", help="Address in URLs handed out; the one the client used if left out.")
@option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="File to write {url, port, pid, ca_file} to once it answers.",
)
@option(
    "--webhook-allow",
    metavar="HOST",
    multiple=True,
    help="Let webhooks go to this host too, not only to this machine; may be given again.",
)
@option("--admin-token", metavar="SECRET", help="Let only those steer who send it as X-Mock-Admin-Token.")
def serve(
    host: str,
    port: int,
    contract: Path | None,
    scenario: str,
    clock: Mode,
    speed: float,
    seed: int | None,
    require_auth: bool,
    strict: bool,
    urls: Urls,
    errors: Dialect,
    tls: bool,
    files_origin: Literal["same", "separate"],
    public_url: str | None,
    ready_file: Path | None,
    webhook_allow: tuple[str, ...],
    admin_token: str | None,
) -> None:
    """Serve the gateway's API until Ctrl-C.

    Point a client at the printed address plus /replicate (or /replicate/v1), with any token: each token is a
    world of its own.
    """
    from mockserver.app import App  # the server's imports are not every command's
    from mockserver.contract import Contract
    from mockserver.gateway import Options
    from mockserver.scenarios import Catalogue
    from mockserver.server import Authority, listen, url_of, write_ready_file
    from mockserver.server import serve as run

    loaded = Contract.load(contract)
    catalogue = Catalogue(loaded)
    options = Options(
        seed=secrets.randbelow(2**31) if seed is None else seed,
        clock=clock,
        speed=speed,
        scenario=catalogue.read(scenario),
        strict=strict,
        require_auth=require_auth,
        urls=urls,
        errors=errors,
        public_url=_checked_url(public_url),
        files_origin=files_origin,
        webhook_allow=tuple(host.lower() for host in webhook_allow),
        admin_token=admin_token,
    )
    app = App(loaded, catalogue, options)
    listener = listen(host, port)
    authority = Authority(host) if tls else None

    def announce() -> None:
        if ready_file:
            write_ready_file(ready_file, listener, authority)
        click.echo(f"mockserver listening on {url_of(listener, 'https' if authority else 'http')}")
        click.echo(f"seed {options.seed} · clock {clock} · scenario {options.scenario.name} · contract {loaded.name}")

        if authority:
            click.echo(f"certificate for SSL_CERT_FILE or NODE_EXTRA_CA_CERTS: {authority.file}")

    run(app, listener, on_ready=announce, authority=authority)
    if authority:
        authority.close()
    if ready_file:
        ready_file.unlink(missing_ok=True)


@main.command()
@option("--url", default=f"http://127.0.0.1:{DEFAULT_PORT}", help="The double's address.")
@option("--token", default="", help="The tenant to judge: the bearer token that the suite sent.")
@option("--admin-token", metavar="SECRET", help="What the double was started with, if it was.")
@option(
    "--fail-on",
    default="violations,unmatched",
    metavar="LIST",
    help="What makes it exit with 1: violations, unmatched, unused-faults, undelivered-webhooks; comma-separated.",
)
def verdict(url: str, token: str, admin_token: str | None, fail_on: str) -> None:
    """Judge what a suite sent to a running double.

    Prints the verdict and the coverage of the contract. Exits with 0 if there is nothing to fail on, 1 if there
    is, 2 if there is no verdict.
    """
    from mockserver.steering import Tenant
    from mockserver.verdict import REASONS, failures

    reasons = [word.strip() for word in fail_on.split(",") if word.strip()]
    if unknown := [word for word in reasons if word not in REASONS]:
        raise MockServerError(f"--fail-on {unknown[0]}: there are {', '.join(REASONS)}")
    tenant = Tenant(url, token, admin_token=admin_token)
    found, coverage = tenant.verdict(), tenant.coverage()
    click.echo(f"{found['exchanges']} exchanges with {url} ({found['evicted']} no longer in the journal)")
    for reason in REASONS:
        lines = failures(found, [reason])
        click.echo(f"{reason}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  - {line}")
    click.echo("coverage of the contract:")
    for name, part in coverage.items():
        never = f"; never: {', '.join(part['never'])}" if part["never"] else ""
        click.echo(f"  {name}: {len(part['met'])} of {len(part['met']) + len(part['never'])} met{never}")
    failed = bool(failures(found, reasons))
    click.secho("verdict: failed" if failed else "verdict: ok", fg="red" if failed else "green")
    sys.exit(1 if failed else 0)


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise MockServerError(f"--public-url {url}: an address such as https://double.example:8443 is needed")
    return url.rstrip("/")
