"""`check`: the kit, for a client in any language."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mockserver.cli.options import (
    OUTPUT,
    Command,
    base_path_option,
    color_option,
    command_argument,
    contract_option,
    option,
)
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_error, print_line

if TYPE_CHECKING:
    from mockserver.check.hunt.plan import Plan
    from mockserver.check.report.findings import Report


DEADLINE = 10.0  # seconds
CASES, CLIENT, DOUBLE = "Cases", "Client", "Double"  # headings of the help


class _FilesChoice(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """`separate` or `same`; "same-origin" is a former spelling of the latter."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(super().convert("same" if value == "same-origin" else value, param, ctx))


def _receiver(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """The URL of a webhook receiver, which may be given by its port alone."""
    if text is None or text.startswith(("http://", "https://")):
        return text
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise click.BadParameter(
            f"{text!r} is neither a port nor an address such as http://127.0.0.1:8000/hook"
        )
    return f"http://127.0.0.1:{text}/"


def _names(text: str | None) -> frozenset[str] | None:
    """The names in a list with commas; None without one."""
    return None if text is None else frozenset(filter(None, map(str.strip, text.split(","))))


files_option = option(
    "--files",
    group=DOUBLE,
    default="separate",
    type=_FilesChoice(("separate", "same")),
    help="Serve output files from a separate origin, to find token leaks, or from the API's own.",
)
deadline_option = option(
    "--deadline",
    group=CLIENT,
    default=DEADLINE,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time in which a call must end.",
)
webhook_option = option(
    "--webhook",
    group=CLIENT,
    metavar="PORT|URL",
    callback=_receiver,
    help="Where CMD receives webhooks: the webhook_url of its calls, one case at a time.",
)
worker_option = option(
    "--worker",
    group=CLIENT,
    is_flag=True,
    help="Keep CMD running and send it one line for each call.",
)


@click.command(cls=Command)
@option(
    "--model",
    group=CASES,
    multiple=True,
    metavar="NAME",
    help="Call only this model; repeatable.",
)
@option(
    "--max-runs",
    group=CASES,
    default=300,
    type=click.IntRange(1),
    metavar="N",
    help="Run at most N cases.",
)
@option(
    "--budget",
    group=CASES,
    default=30.0,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time limit of the whole check.",
)
@option(
    "--seed",
    group=CASES,
    default=0,
    type=click.IntRange(0),
    metavar="N",
    help="Seed of the generated cases.",
)
@option(
    "--ignore",
    group=CASES,
    multiple=True,
    metavar="RULE",
    help="Do not check this rule; repeatable.",
)
@option(
    "--inputs",
    group=CASES,
    metavar="NAME,…",
    callback=lambda context, parameter, text: _names(text),
    help="Vary only the prompt and these inputs: those that the client passes on.",
)
@option(
    "--strict-urls",
    group=CASES,
    is_flag=True,
    help="Make it an error to follow urls.* to another origin.",
)
@option(
    "--jobs",
    group=CASES,
    type=click.IntRange(1),
    metavar="N",
    help="Run N cases in parallel; four per core if left out.",
)
@option(
    "--concurrent",
    group=CASES,
    default=1,
    type=click.IntRange(1, 100),
    metavar="N",
    help="Make N concurrent calls in each case.",
)
@deadline_option
@option(
    "--client-timeout",
    group=CLIENT,
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="The client's own time limit; adds predictions that never end.",
)
@worker_option
@webhook_option
@option(
    "--client-version",
    group=CLIENT,
    default="",
    metavar="TEXT",
    show_default=False,
    help="Name and version of the client in reports, as replicate 1.0.7.",
)
@base_path_option(CLIENT)
@files_option
@option(
    "--tls",
    group=DOUBLE,
    is_flag=True,
    help="Serve https, and name the certificate in the client's environment.",
)
@contract_option(DOUBLE)
@option(
    "--report",
    group=OUTPUT,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a report: .json, .xml (JUnit), .html or .md; repeatable.",
)
@option(
    "--baseline",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Accept the findings in this earlier JSON report.",
)
@option(
    "--baseline-update",
    group=OUTPUT,
    is_flag=True,
    help="Write the findings to the --baseline file, to accept them from now on.",
)
@color_option
@command_argument
def check(
    command: tuple[str, ...],
    files: Literal["separate", "same"],
    base_path: str,
    worker: bool,
    tls: bool,
    report: tuple[Path, ...],
    baseline_update: bool,
    client_version: str,
    webhook: str | None,
    contract: Path | None,
    seed: int,
    **hunting: Any,
) -> None:
    """Find what breaks a client, as the smallest failing case.

    CMD makes one call. It reads a line of JSON from standard input, {"model", "input", "base_url",
    "token"}, and prints as its last line {"output": URL} or {"error": "..."}; a data: URI may stand
    for the picture's bytes. "client" beside it may name what is checked, as "replicate 1.4.0". The
    environment has REPLICATE_BASE_URL and REPLICATE_API_TOKEN too.

    Findings are saved in .mockserver/. Exits with 0 if no rule is broken, 1 if one is, and 2 if the
    client cannot run.

    Example: mockserver check -- node client.mjs
    """
    use_hypothesis()
    from mockserver.check.drive.interrupts import exit_on_second_interrupt
    from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
    from mockserver.check.hunt.harness import Harness
    from mockserver.check.hunt.hunt import Hunt
    from mockserver.check.report.terminal import ProgressBar
    from mockserver.contract.contract import Contract
    from mockserver.server.tls import Authority

    saves = _check_files(report)
    hunting["jobs"] = hunting["jobs"] or (1 if webhook else None)
    plan = _plan(seed=seed, baseline_update=baseline_update, **hunting)
    driver = (WorkerDriver if worker else ProcessDriver)(command)
    bar = ProgressBar()
    with exit_on_second_interrupt(driver.kill_now) as interruption, ExitStack() as stack:
        authority = stack.enter_context(closing(Authority("127.0.0.1"))) if tls else None
        loaded = Contract.load(contract)
        harness = Harness(
            loaded,
            files=files,
            seed=seed,
            base_path=base_path,
            authority=authority,
            webhook=webhook,
        )
        hunt = Hunt(stack.enter_context(harness), driver, plan, bar)
        hunt.report.command, hunt.report.client_version = shlex.join(command), client_version
        hunt.report.command_line = shlex.join(["mockserver", *sys.argv[1:]])
        hunt.report.flags = _replay_flags(
            worker, files, base_path, webhook, contract, plan.limits.deadline
        )
        print_line(_heading(command, len(hunt.report.models), seed))
        try:
            result = hunt.run()
        finally:
            bar.clear()
            driver.close()
        _publish(result, report, saves=saves)
    new_baseline = hunting["baseline"] if baseline_update else None
    sys.exit(_exit_code(result, new_baseline, interruption.exit_code))


def _exit_code(result: Report, new_baseline: Path | None, interrupted: int) -> int:
    """The exit code of the command; writes the new baseline, if there is to be one."""
    from mockserver.check.report.files import update_baseline

    if new_baseline is not None and not result.interrupted:
        count = update_baseline(result, new_baseline)
        accepted = "1 finding is" if count == 1 else f"{count} findings are"
        print_line(f"{new_baseline} is written: {accepted} accepted from now on")
        return 0
    return 1 if result.findings else interrupted if result.interrupted else 0


def _publish(result: Report, report: tuple[Path, ...], *, saves: bool) -> None:
    """Save the findings, write the requested reports, and print the result."""
    from mockserver.check.report.files import write
    from mockserver.check.report.findings import FOLDER, save_all
    from mockserver.check.report.terminal import show

    if saves:
        save_all([*result.findings, *result.warnings], FOLDER)
    show(result)
    for path in report:
        write(result, path)


def _replay_flags(
    worker: bool,
    files: str,
    base_path: str,
    webhook: str | None,
    contract: Path | None,
    deadline: float,
) -> str:
    """The flags with which `replay` runs a finding as `check` did."""
    words = ["--worker"] if worker else []
    words += ["--files", files] if files != "separate" else []
    words += ["--base-path", base_path] if base_path else []
    words += ["--webhook", webhook] if webhook else []
    words += ["--contract", str(contract)] if contract else []
    words += ["--deadline", f"{deadline:g}"] if deadline != DEADLINE else []
    return shlex.join(words)


def _heading(command: tuple[str, ...], models: int, seed: int) -> str:
    noun = "model" if models == 1 else "models"
    return f"checking: {' '.join(command)} · {models} {noun} · seed {seed}"


def _check_files(report: tuple[Path, ...]) -> bool:
    """Whether findings can be saved. Raises MockServerError, before the hunt, for other files."""
    from mockserver.check.report.files import ensure_writable, format_for
    from mockserver.check.report.findings import folder_problem

    for path in report:
        format_for(path)
        ensure_writable(path)
    problem = folder_problem()
    if problem is not None:
        print_error(f"{problem}; findings are shown but not saved")
    return problem is None


def _plan(
    *,
    model: tuple[str, ...],
    max_runs: int,
    budget: float,
    seed: int,
    ignore: tuple[str, ...],
    deadline: float,
    client_timeout: float | None,
    strict_urls: bool,
    jobs: int | None,
    concurrent: int,
    inputs: frozenset[str] | None,
    baseline: Path | None,
    baseline_update: bool,
) -> Plan:
    """The flags of `check` as a plan."""
    from mockserver.check.hunt.harness import Limits
    from mockserver.check.hunt.plan import Plan
    from mockserver.check.hunt.pool import default_jobs
    from mockserver.check.report.files import read_baseline

    known = read_baseline(baseline, may_be_new=baseline_update)
    limits = Limits(deadline=deadline, client_timeout=client_timeout, strict_urls=strict_urls)
    return Plan(
        model,
        max_runs,
        budget,
        seed,
        frozenset(ignore),
        limits,
        known,
        jobs or default_jobs(),
        concurrent,
        inputs,
    )


def use_hypothesis() -> None:
    """Have Hypothesis keep its files among the findings. Raises MockServerError without it."""
    if find_spec("hypothesis") is None:
        raise MockServerError("this needs Hypothesis: pip install 'flux-mockserver[check]'")
    from hypothesis.configuration import set_hypothesis_home_dir

    from mockserver.check.report.findings import FOLDER

    set_hypothesis_home_dir(FOLDER / "hypothesis")  # its cache would be in the working directory
