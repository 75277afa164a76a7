"""The `mockserver` command."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import click

from mockserver.clock import MODES
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


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """The words after `--`: the client to run."""
    return click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")(function)


# What `serve` and `run` have in common.
SERVING = (
    option(
        "--contract", type=click.Path(path_type=Path), help="OpenAPI 3.1 file to serve; the shipped one if left out."
    ),
    option("--scenario", default="succeeded", help="How the gateway behaves: a scenario's name, or a file with one."),
    option("--clock", default="autojump", type=click.Choice(MODES), help="How time passes for predictions."),
    option(
        "--speed",
        default=1.0,
        type=click.FloatRange(0, min_open=True),
        help="With --clock real: how many times faster.",
    ),
    option("--seed", type=click.IntRange(0), help="Fixes ids, logs and pictures; drawn and printed if left out."),
    option("--require-auth", is_flag=True, help="Refuse requests without a bearer token (401)."),
    option("--strict", is_flag=True, help="Refuse unknown request fields too (422)."),
    option("--urls", default="local", type=click.Choice(get_args(Urls)), help="Where urls.* in predictions point."),
    option("--errors", default="upstream", type=click.Choice(get_args(Dialect)), help="The dialect of error bodies."),
    option("--tls", is_flag=True, help="Speak https, with a certificate made for this run."),
    option(
        "--files-origin",
        default="same",
        type=click.Choice(("same", "separate")),
        help="Whether pictures come from the API's address or from a host of their own.",
    ),
    option("--public-url", metavar="URL", help="Address in URLs handed out; the one the client used if left out."),
    option(
        "--webhook-allow",
        metavar="HOST",
        multiple=True,
        help="Let webhooks go to this host too, not only to this machine; may be given again.",
    ),
    option("--admin-token", metavar="SECRET", help="Answer /__admin only to those who send it as X-Mock-Admin-Token."),
)


def _serving(function: Callable[..., None]) -> Callable[..., None]:
    """The flags that say how the double behaves."""
    for each in reversed(SERVING):
        function = each(function)
    return function


@main.command()
@option("--host", default="127.0.0.1", help="Address to listen on.")
@option("--port", default=DEFAULT_PORT, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@_serving
@option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="File to write {url, port, pid, ca_file} to once it answers.",
)
def serve(host: str, port: int, tls: bool, ready_file: Path | None, **behavior: Any) -> None:
    """Serve the gateway's API until Ctrl-C.

    Point a client at the printed address plus /replicate (or /replicate/v1), with any token: each token is a
    world of its own.
    """
    from mockserver.server import Authority, build_app, listen, url_of, write_ready_file  # not every command's imports
    from mockserver.server import serve as run_server

    app = build_app(**_settings(behavior))
    listener = listen(host, port)
    authority = Authority(host) if tls else None

    def announce() -> None:
        url = url_of(listener, "https" if authority else "http")
        if ready_file:
            write_ready_file(ready_file, listener, authority)
        options, contract = app.gateway.options, app.gateway.contract
        click.echo(f"mockserver listening on {url}")
        click.echo(
            f"seed {options.seed} · clock {options.clock} · scenario {options.scenario.name} · contract {contract.name}"
        )
        if authority:
            click.echo(f"certificate for SSL_CERT_FILE or NODE_EXTRA_CA_CERTS: {authority.file}")

    run_server(app, listener, on_ready=announce, authority=authority)
    if authority:
        authority.close()
    if ready_file:
        ready_file.unlink(missing_ok=True)


def _settings(behavior: dict[str, Any]) -> dict[str, Any]:
    """Flags as the server takes them."""
    seed = behavior["seed"]
    return behavior | {
        "seed": secrets.randbelow(2**31) if seed is None else seed,
        "public_url": _checked_url(behavior["public_url"]),
        "webhook_allow": tuple(name.lower() for name in behavior["webhook_allow"]),
    }


@main.command()
@_serving
@click.option("--allow-empty", is_flag=True, help="Exit with 0 also if no request reached the double.")
@_command
def run(command: tuple[str, ...], tls: bool, allow_empty: bool, **behavior: Any) -> None:
    """Run a command against a double of its own, and judge what it sent.

    CMD finds the double's address in REPLICATE_BASE_URL (and REPLICATE_API_BASE_URL), which ends in /replicate, and in
    MOCKSERVER_URL; a token in REPLICATE_API_TOKEN, unless it has one. When it has ended, every tenant is judged. Exits
    with its exit code; with 1 if that was 0 and something was wrong; with 2 if it was 0 and no request reached the
    double, or the double could not start; with 127 if there is no such command.

    Example: mockserver run -- npm test
    """
    from mockserver.run import run_command
    from mockserver.server import MockServer

    server = MockServer(tls=tls, **_settings(behavior))
    sys.exit(run_command(server, command, allow_empty=allow_empty, say=lambda line: click.echo(line, err=True)))


@main.command()
@option("--url", default=f"http://127.0.0.1:{DEFAULT_PORT}", help="The double's address.")
@option("--token", help="Judge this tenant only: the bearer token that a suite sent. All of them if left out.")
@option("--admin-token", metavar="SECRET", help="What the double was started with, if it was.")
@option(
    "--fail-on",
    default="violations,unmatched",
    metavar="LIST",
    help="What makes it exit with 1: violations, unmatched, unused-faults, undelivered-webhooks; comma-separated.",
)
@click.option("--allow-empty", is_flag=True, help="Exit with 0 also if no request reached the double.")
@click.option("--quiet", is_flag=True, help="Leave the coverage of the contract out.")
def verdict(url: str, token: str | None, admin_token: str | None, fail_on: str, allow_empty: bool, quiet: bool) -> None:
    """Judge what a suite sent to a running double.

    Prints the verdict over all tenants, or over one, and then what of the contract that one has met. Exits with 0 if
    there is nothing to fail on, 1 if there is, 2 if there is no verdict, or no request has reached the double.
    """
    from mockserver.admin_client import Tenant
    from mockserver.verdict import REASONS, failures

    reasons = [word.strip() for word in fail_on.split(",") if word.strip()]
    if unknown := [word for word in reasons if word not in REASONS]:
        raise MockServerError(f"--fail-on {unknown[0]}: there are {', '.join(REASONS)}")
    tenant = Tenant(url if "://" in url else f"http://{url}", token or "", admin_token=admin_token)
    found = tenant.verdict() if token is not None else tenant.call("GET", "/verdict?all=true")
    names = ", ".join(each["tenant"] for each in found.get("tenants", [])) or ("none" if token is None else "1")
    click.echo(f"{found['exchanges']} exchanges with {url} ({found['evicted']} no longer in the journal)")
    click.echo(f"tenants judged: {names}")
    for reason in REASONS:
        lines = failures(found, [reason])
        click.echo(f"{reason}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  - {line}")
    failed = bool(failures(found, reasons))
    if not failed and not found["exchanges"] and not allow_empty:
        raise MockServerError(f"no request has reached {url}, so there is nothing to judge (--allow-empty to accept)")
    click.secho("verdict: failed" if failed else "verdict: ok", fg="red" if failed else "green")
    if not quiet:
        _show_coverage(tenant.coverage() if token is not None else tenant.call("GET", "/coverage?all=true"))
    sys.exit(1 if failed else 0)


def _show_coverage(coverage: dict[str, Any]) -> None:
    click.echo("met of the contract (GET /__admin/coverage lists what never was):")
    for name, part in coverage.items():
        click.echo(f"  {name:<12} {len(part['met']):>3} of {len(part['met']) + len(part['never'])}")


_ORIGIN = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w./~-]*)?", re.ASCII)


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    if not _ORIGIN.fullmatch(url.rstrip("/")):
        raise MockServerError(f"--public-url {url}: an address such as https://double.example:8443 is needed")
    return url.rstrip("/")


def _color_option(function: Callable[..., None]) -> Callable[..., None]:
    """Whether output is coloured: click strips colours unless the context says otherwise."""

    def choose(context: click.Context, parameter: click.Parameter, choice: str) -> None:
        context.color = {"always": True, "never": False}.get(choice, _color_of_environment())

    return option(
        "--color",
        default="auto",
        type=click.Choice(("auto", "always", "never")),
        callback=choose,
        expose_value=False,
        help="Whether to colour; auto: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise.",
    )(function)


def _color_of_environment() -> bool | None:
    """What NO_COLOR and FORCE_COLOR ask for, the former first, as in Python itself; None if neither does."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


_FILES: dict[str, Literal["separate", "same"]] = {"separate": "separate", "same-origin": "same"}


@main.command(context_settings={"ignore_unknown_options": False})
@option(
    "--model", multiple=True, metavar="NAME", help="Call this model only; may be given again. All of them if left out."
)
@option("--max-runs", default=300, type=click.IntRange(1), help="How many cases are played.")
@option("--budget", default=30.0, type=click.FloatRange(0, min_open=True), help="Seconds that the whole may take.")
@option("--seed", default=0, type=click.IntRange(0), help="Fixes which cases are drawn.")
@option("--ignore", multiple=True, metavar="RULE", help="Do not look for this rule; may be given again.")
@option(
    "--deadline", default=10.0, type=click.FloatRange(0, min_open=True), help="Seconds within which a call is to end."
)
@option(
    "--client-timeout",
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which the client promises to give up by itself; plays endless predictions too.",
)
@option("--worker", is_flag=True, help="Keep one process, and send it a line for each call.")
@option(
    "--files",
    default="separate",
    type=click.Choice(tuple(_FILES)),
    help="Whether pictures come from a host of their own, which shows leaks of the token.",
)
@option("--strict-urls", is_flag=True, help="Make it an error to follow urls.* to another origin.")
@option(
    "--report", multiple=True, type=click.Path(path_type=Path), help="Write a report: .json, .xml (JUnit) or .html."
)
@option("--baseline", type=click.Path(path_type=Path), help="A JSON report whose findings are accepted.")
@option("--contract", type=click.Path(path_type=Path), help="OpenAPI 3.1 file; the shipped one if left out.")
@_color_option
@_command
def check(
    command: tuple[str, ...],
    model: tuple[str, ...],
    max_runs: int,
    budget: float,
    seed: int,
    ignore: tuple[str, ...],
    deadline: float,
    client_timeout: float | None,
    worker: bool,
    files: str,
    strict_urls: bool,
    report: tuple[Path, ...],
    baseline: Path | None,
    contract: Path | None,
) -> None:
    """Find what breaks a client, and show the smallest case of each.

    CMD makes one call. It reads a line of JSON from standard input, {"model", "input", "base_url", "token"}, and
    prints as its last line {"output": URL} or {"error": "..."}; a data: URI stands for the picture's bytes. It also
    finds REPLICATE_BASE_URL and REPLICATE_API_TOKEN in its environment.

    Findings are saved in .mockserver/. Exits with 0 if no rule is broken, 1 if one is, 2 if the client cannot run.

    Example: mockserver check -- node client.mjs
    """
    _use_hypothesis()
    from mockserver.check.drivers import ProcessDriver, WorkerDriver
    from mockserver.check.findings import FOLDER
    from mockserver.check.harness import Harness, Limits
    from mockserver.check.hunt import Hunt, Plan
    from mockserver.check.interrupts import EXIT_CODE, exit_on_second_interrupt
    from mockserver.check.reports import format_for, read_baseline, write
    from mockserver.check.terminal import ProgressBar, show
    from mockserver.contract import Contract

    for path in report:
        format_for(path)
    known = read_baseline(baseline) if baseline else ()
    limits = Limits(deadline=deadline, client_timeout=client_timeout, strict_urls=strict_urls)
    driver = (WorkerDriver if worker else ProcessDriver)(command)
    bar = ProgressBar()
    with exit_on_second_interrupt(driver.kill_now):
        with Harness(Contract.load(contract), files=_FILES[files], seed=seed) as harness:
            hunt = Hunt(harness, driver, Plan(model, max_runs, budget, seed, frozenset(ignore), limits, known), bar)
            models = len(hunt.report.models)
            words = f"{models} {'model' if models == 1 else 'models'}"
            click.echo(f"checking: {' '.join(command)} · {words} · seed {seed}")
            try:
                found = hunt.run()
            finally:
                bar.clear()
                driver.close()
        saved = {finding.file_name: finding.save(FOLDER) for finding in (*found.findings, *found.advice)}
        for path in report:
            write(found, path, " ".join(command))
        show(found, command, saved)
    sys.exit(1 if not found.ok else EXIT_CODE if found.interrupted else 0)


@main.command()
@click.argument("finding", type=click.Path(path_type=Path))
@option(
    "--deadline", default=10.0, type=click.FloatRange(0, min_open=True), help="Seconds within which a call is to end."
)
@option("--worker", is_flag=True, help="CMD is a worker, which takes a line for each call.")
@option("--contract", type=click.Path(path_type=Path), help="OpenAPI 3.1 file; the shipped one if left out.")
@_color_option
@_command
def replay(finding: Path, command: tuple[str, ...], deadline: float, worker: bool, contract: Path | None) -> None:
    """Play a saved finding to a client again.

    Exits with 1 if the rule is still broken, 0 if not. To debug the client against the same behaviour at leisure:
    mockserver serve --scenario FINDING.
    """
    _use_hypothesis()
    from mockserver.check.drivers import ProcessDriver, WorkerDriver
    from mockserver.check.findings import Finding, describe
    from mockserver.check.harness import Harness, Limits
    from mockserver.check.hunt import replay as play_again
    from mockserver.check.interrupts import exit_on_second_interrupt
    from mockserver.contract import Contract

    saved = Finding.read(finding)
    driver = (WorkerDriver if worker else ProcessDriver)(command)
    with exit_on_second_interrupt(driver.kill_now), Harness(Contract.load(contract)) as harness:
        try:
            limits = Limits(deadline=deadline, client_timeout=saved.client_timeout)
            again = play_again(harness, driver, saved, limits)
        finally:
            driver.close()
    click.echo(describe(again))
    still = again.confirmed > 0
    click.secho(f"{saved.rule} is {'still broken' if still else 'not broken any more'}", fg="red" if still else "green")
    sys.exit(1 if still else 0)


@main.command()
def rules() -> None:
    """List the rules that clients and webhook receivers are held to."""
    from mockserver.check.rules import RULES

    for rule in RULES.values():
        click.echo(f"{rule.code}  {rule.severity:<6}  {rule.title}")
    click.echo("\n`mockserver explain CODE` says what a rule demands, and what it rests on.")


@main.command()
@click.argument("code")
def explain(code: str) -> None:
    """Say what a rule demands, what it rests on, and how a client breaks it."""
    from mockserver.check.rules import RULES

    rule = RULES.get(code.upper())
    if rule is None:
        raise MockServerError(f"there is no rule {code}; `mockserver rules` lists them")
    for line in (
        f"{rule.code}  {rule.title}  [{rule.severity}]",
        "",
        rule.demand,
        "",
        f"Rests on: {rule.rests_on}.",
        f"Example:  {rule.example}",
    ):
        click.echo(line)


@main.command("check-webhook")
@click.argument("url")
@option("--secret", required=True, metavar="whsec_...", help="The key that the receiver verifies with.")
@option("--contract", type=click.Path(path_type=Path), help="OpenAPI 3.1 file; the shipped one if left out.")
@_color_option
def check_webhook(url: str, secret: str, contract: Path | None) -> None:
    """Send a webhook receiver what it must take, and what it must refuse.

    Genuine webhooks, forged, tampered and stale ones, duplicates and late ones go to URL. Exits with 0 if each is
    taken or refused (by any answer but 2xx) as it should be, 1 if not, 2 if no receiver answers.
    """
    from mockserver.check.receivers import check_receiver
    from mockserver.check.rules import RULES
    from mockserver.contract import Contract

    failed = []
    for reaction in check_receiver(url, secret, Contract.load(contract)):
        message = reaction.message
        expected = "2xx" if message.must_accept else "a refusal"
        response = str(reaction.status) if reaction.status is not None else reaction.reason
        click.secho(
            f"  {message.rule}  {message.description}: {response}" + ("" if reaction.ok else f"; expected {expected}"),
            fg=None if reaction.ok else "red",
        )
        if not reaction.ok and message.rule not in failed:
            failed.append(message.rule)
    for code in failed:
        click.echo(f"{code}  {RULES[code].title}: {RULES[code].demand}")
    click.secho(f"{len(failed)} rules broken" if failed else "no rule broken", fg="red" if failed else "green")
    sys.exit(1 if failed else 0)


def _use_hypothesis() -> None:
    if find_spec("hypothesis") is None:
        raise MockServerError("this needs Hypothesis: pip install 'flux-mockserver[check]'")
    from hypothesis.configuration import set_hypothesis_home_dir

    from mockserver.check.findings import FOLDER

    set_hypothesis_home_dir(FOLDER / "hypothesis")  # its cache would be in the working directory
