"""The command of `mockserver run`: its environment, signals, exit code and verdict."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

from mockserver.backend.verdict import failures
from mockserver.errors import MockServerError
from mockserver.reporting.terminal import print_error
from mockserver.server.mock_server import AppServer
from mockserver.server.tls import ca_environment

REASONS = ("violations", "unmatched")  # which are the client's
GRACE = 3.0  # seconds from a signal until the command is killed
MISSING, NOT_EXECUTABLE = 127, 126  # what shells exit with
# What ends a command: Ctrl-C and Ctrl-\, a CI's time-out, a terminal that was closed.
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
TOKEN = "mockserver-run"  # noqa: S105 - any token will do
Report = Callable[[str], None]  # takes a line


def run_command(
    server: AppServer,
    command: Sequence[str],
    *,
    allow_empty: bool,
    report: Report,
    quiet: bool = False,
    har: Path | None = None,
    gateway_url: str | None = None,
) -> int:
    """Run a command against a server that is not started yet; return the exit code for the shell.

    That is the command's own; if it is 0, 1 if a request or a response was wrong, and 2 if no
    request was received, or the gateway at `gateway_url`, if there is one, answered none. If
    nothing was wrong, a line says how much was judged, unless `quiet`.
    """
    with _Signals() as signals, server:
        code = _code_of(command, _environment(server), signals)
        server.settle()
        verdict = server.call_in_loop(lambda backend: backend.verdict_of_all())
        har_problem = _write(server, har)

    _report_all(
        report, "the client sent what the contract does not allow", failures(verdict, REASONS)
    )
    _report_all(
        report,
        "the gateway answered what the contract does not allow",
        failures(verdict, ["departures"]),
    )

    if undelivered := failures(verdict, ["undelivered-webhooks"]):
        report(_undelivered(undelivered))

    received = verdict["exchanges"] or verdict["answered"] or verdict["unreadable"]
    if code == 0 and not received and not allow_empty:
        report(
            "mockserver: no request reached the double, so nothing was tested; "
            "does the suite use REPLICATE_BASE_URL?"
        )
        report("            (--allow-empty if that is intended)")
        return 2
    if code == 0 and gateway_url is not None and not verdict["answered"] and not allow_empty:
        report(f"mockserver: {gateway_url} answered nothing, so nothing was tested")
        return 2
    if har_problem:
        report(f"mockserver: {har_problem}")
    code = code or int(not verdict["ok"]) or (2 if har_problem else 0)
    if code == 0 and not quiet:
        report(_judged(verdict))
    return code


def _judged(verdict: Mapping[str, Any]) -> str:
    """What was judged, and found right, as one line."""
    if not verdict["exchanges"] and verdict["answered"]:
        requests = _count(verdict["answered"], "request")
        return f"mockserver: {requests} of tenants that were reset since: ok"
    exchanges = _count(verdict["exchanges"], "exchange")
    return f"mockserver: {exchanges}, {_count(len(verdict['tenants']), 'tenant')}: ok"


def _undelivered(lines: Sequence[str]) -> str:
    """The webhooks that were not delivered, as one line. They fail no run."""
    more = f"; and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"mockserver: {_count(len(lines), 'webhook')} not delivered: {lines[0]}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _report_all(report: Report, title: str, lines: Sequence[str]) -> None:
    if lines:
        report(f"mockserver: {title} ({len(lines)}):")
    for line in lines:
        report(f"  - {line}")


def _write(server: AppServer, har: Path | None) -> str:
    """Write the archive, if one is requested; return why it could not be written."""
    try:
        if har is not None:
            server.write_har(har)
    except MockServerError as reason:
        return str(reason)
    return ""


def _environment(server: AppServer) -> dict[str, str]:
    return {
        "REPLICATE_API_TOKEN": TOKEN,
        **os.environ,
        "REPLICATE_BASE_URL": server.base_url,
        "REPLICATE_API_BASE_URL": server.base_url,
        "MOCKSERVER_URL": server.url,
        **ca_environment(server.ca_file),
    }


class _Signals:
    """Passes SIGINT and SIGTERM on to a command, in a `with` block; kills it if it ignores them.

    They end the command and never this process, which still has to give a verdict. `received` are
    the signals so far.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._process: subprocess.Popen[Any] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (*ENDING, signal.SIGALRM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, process: subprocess.Popen[Any]) -> None:
        """The command to pass them on to, also those that came before it began."""
        self._process = process
        if self.received:
            self._pass_on(self.received[0])

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGALRM:
            self._pass_on(signal.SIGKILL)
            return
        self.received.append(number)
        self._pass_on(number if len(self.received) == 1 else signal.SIGKILL)

    def _pass_on(self, number: int) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
        signal.setitimer(signal.ITIMER_REAL, GRACE)


def _code_of(command: Sequence[str], environment: Mapping[str, str], signals: _Signals) -> int:
    """Run a command to its end in its own process group, which is killed then; return its code."""
    try:
        process = subprocess.Popen(command, env=dict(environment), process_group=0)  # noqa: S603
    except FileNotFoundError:
        print_error(f"there is no command {command[0]}")
        return MISSING
    except OSError as reason:
        print_error(f"cannot run {command[0]}: {reason.strerror}")
        return NOT_EXECUTABLE

    signals.attach(process)
    code = _wait(process)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # processes that it left running
    if signals.received:
        return 128 + signals.received[0]
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen[Any]) -> int:
    """Wait for the end of a command that has the terminal; Ctrl-Z stops this process with it."""
    while True:
        with _foreground(process.pid) as has_terminal:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode
        if has_terminal:
            # The shell sees a stopped job; its `fg` or `bg` lets both go on.
            os.killpg(os.getpgrp(), signal.SIGTSTP)
            os.killpg(process.pid, signal.SIGCONT)


@contextmanager
def _foreground(group: int) -> Iterator[bool]:
    """Give a process group the terminal, if there is one: to read from it, and get its Ctrl-C."""
    try:
        own = os.tcgetpgrp(0)
    except OSError:
        yield False
        return

    # A background process that sets the terminal's group would be stopped by SIGTTOU.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with suppress(OSError):
            os.tcsetpgrp(0, group)
        yield True
    finally:
        with suppress(OSError):
            os.tcsetpgrp(0, own)
        signal.signal(signal.SIGTTOU, before)
