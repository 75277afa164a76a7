"""`check`: the kit, for a client in any language."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mockserver.cli.options import base_path_option, color_option, command_argument, option
from mockserver.errors import MockServerError

if TYPE_CHECKING:
    from mockserver.check.hunt.plan import Plan
    from mockserver.check.report.findings import Report


DEADLINE = 10.0  # seconds
FILES: dict[str, Literal["separate", "same"]] = {"separate": "separate", "same-origin": "same"}
files_option = option(
    "--files",
    default="separate",
    type=click.Choice(tuple(FILES)),
    help="Whether pictures come from a host of their own, which shows leaks of the token.",
)


@click.command(context_settings={"ignore_unknown_options": False})
@option(
    "--model",
    multiple=True,
    metavar="NAME",
    help="Call this model only; may be given again. All of them if left out.",
)
@option("--max-runs", default=300, type=click.IntRange(1), help="How many cases are played.")
@option(
    "--budget",
    default=30.0,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that the whole may take.",
)
@option("--seed", default=0, type=click.IntRange(0), help="Fixes which cases are drawn.")
@option(
    "--ignore", multiple=True, metavar="RULE", help="Do not look for this rule; may be given again."
)
@option(
    "--deadline",
    default=DEADLINE,
    type=click.FloatRange(0, min_open=True),
    help="Seconds within which a call is to end.",
)
@option(
    "--client-timeout",
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which the client promises to give up by itself; plays endless predictions too.",
)
@option(
    "--worker", is_flag=True, help="Keep a process for each job, and send it a line for each call."
)
@option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Play so many cases at once; four per core if left out.",
)
@option(
    "--webhook",
    metavar="PORT|URL",
    callback=lambda context, parameter, text: receiver(text),
    help="Where CMD receives webhooks: its call has it as webhook_url. One case at a time, unless --jobs says more.",
)
@option(
    "--concurrent",
    default=1,
    type=click.IntRange(1, 100),
    metavar="K",
    help="Make so many calls at once in each case.",
)
@files_option
@option(
    "--tls",
    is_flag=True,
    help="Speak https, with a certificate that the client's environment names.",
)
@base_path_option
@option("--strict-urls", is_flag=True, help="Make it an error to follow urls.* to another origin.")
@option(
    "--report",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Write a report: .json, .xml (JUnit), .html or .md.",
)
@option(
    "--client-version",
    default="",
    metavar="TEXT",
    help="What the client is called in reports: replicate 1.0.7.",
)
@option(
    "--baseline", type=click.Path(path_type=Path), help="A JSON report whose findings are accepted."
)
@option(
    "--baseline-update",
    is_flag=True,
    help="Write what was found to the --baseline file: it is accepted from now on.",
)
@option(
    "--contract",
    type=click.Path(path_type=Path),
    help="OpenAPI 3.1 file; the shipped one if left out.",
)
@option(
    "--inputs",
    metavar="NAME,…",
    callback=lambda context, parameter, text: _names(text),
    help="Draw only these inputs, and the prompt: those that the client passes on.",
)
@color_option
@command_argument
def check(
    command: tuple[str, ...],
    files: str,
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
    """Find what breaks a client, and show the smallest case of each.

    CMD makes one call. It reads a line of JSON from standard input, {"model", "input", "base_url",
    "token"}, and prints as its last line {"output": URL} or {"error": "..."}; a data: URI stands
    for the picture's bytes. "client" beside it may say what is checked, such as "replicate 1.4.0".
    It also finds REPLICATE_BASE_URL and REPLICATE_API_TOKEN in its environment.

    Findings are saved in .mockserver/. Exits with 0 if no rule is broken, 1 if one is, 2 if the
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
            files=FILES[files],
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
        click.echo(_heading(command, len(hunt.report.models), seed))
        try:
            found = hunt.run()
        finally:
            bar.clear()
            driver.close()
        _publish(found, report, saves=saves)
    new_baseline = hunting["baseline"] if baseline_update else None
    sys.exit(_exit_code(found, new_baseline, interruption.exit_code))


def _names(text: str | None) -> frozenset[str] | None:
    """The names in a list with commas; None if none was given."""
    return None if text is None else frozenset(filter(None, map(str.strip, text.split(","))))


def receiver(word: str | None) -> str | None:
    """The address of a receiver, of which only the port may have been given."""
    if word is None or word.startswith(("http://", "https://")):
        return word
    if not word.isdecimal() or not 0 < int(word) < 65536:
        raise click.BadParameter(
            f"{word!r} is neither a port nor an address such as http://127.0.0.1:8000/hook"
        )
    return f"http://127.0.0.1:{word}/"


def _exit_code(found: Report, new_baseline: Path | None, interrupted: int) -> int:
    """What the command ends with; where the baseline is to be written anew, it is."""
    from mockserver.check.report.files import update_baseline

    if new_baseline is not None and not found.interrupted:
        count = update_baseline(found, new_baseline)
        accepted = "1 finding is" if count == 1 else f"{count} findings are"
        click.echo(f"{new_baseline} is written: {accepted} accepted from now on")
        return 0
    return 1 if found.findings else interrupted if found.interrupted else 0


def _publish(found: Report, report: tuple[Path, ...], *, saves: bool) -> None:
    """Save what was found, write the reports that were asked for, and print it all."""
    from mockserver.check.report.files import write
    from mockserver.check.report.findings import FOLDER, save_all
    from mockserver.check.report.terminal import show

    if saves:
        save_all([*found.findings, *found.warnings], FOLDER)
    show(found)
    for path in report:
        write(found, path)


def _replay_flags(
    worker: bool,
    files: str,
    base_path: str,
    webhook: str | None,
    contract: Path | None,
    deadline: float,
) -> str:
    """The flags with which `replay` plays a finding as `check` has."""
    words = ["--worker"] if worker else []
    words += ["--files", files] if files != "separate" else []
    words += ["--base-path", base_path] if base_path else []
    words += ["--webhook", webhook] if webhook else []
    words += ["--contract", str(contract)] if contract else []
    words += ["--deadline", f"{deadline:g}"] if deadline != DEADLINE else []
    return shlex.join(words)


def _heading(command: tuple[str, ...], models: int, seed: int) -> str:
    return f"checking: {' '.join(command)} · {models} {'model' if models == 1 else 'models'} · seed {seed}"


def _check_files(report: tuple[Path, ...]) -> bool:
    """Whether findings can be saved. What cannot be written is said before the hunt. Raises MockServerError."""
    from mockserver.check.report.files import ensure_writable, format_for
    from mockserver.check.report.findings import folder_problem

    for path in report:
        format_for(path)
        ensure_writable(path)
    problem = folder_problem()
    if problem is not None:
        click.echo(f"mockserver: {problem}; what is found is shown, and not saved", err=True)
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
    """Make sure that Hypothesis is there, and have it keep its files among the findings. Raises MockServerError."""
    if find_spec("hypothesis") is None:
        raise MockServerError("this needs Hypothesis: pip install 'flux-mockserver[check]'")
    from hypothesis.configuration import set_hypothesis_home_dir

    from mockserver.check.report.findings import FOLDER

    set_hypothesis_home_dir(FOLDER / "hypothesis")  # its cache would be in the working directory
