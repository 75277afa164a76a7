"""Clients that are commands: a process for each call, or one that reads a line for each."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import msgspec

from mockserver.check.drive.interrupts import interrupts_held
from mockserver.check.drive.protocol import Call, Driver, Pending
from mockserver.check.model import ClientError, Outcome
from mockserver.clock import SECOND, wall_time

# Seconds until the output of a killed process ends, unless a process that it started keeps the pipe
# open.
PIPE_GRACE = 1.0
START_LOOKS, START_PAUSE = (
    50,
    0.002,
)  # how often, in seconds, `kill_now` looks whether a process has started
MAX_NAME = 200  # characters of what a client says that it is called
MAX_OUTPUT = 256 * 1024  # bytes of what a process prints that are read, from the end


class ProcessDriver:
    """Runs a command for each call: one line of JSON in, the last line of its output back.

    For calls made at once it gets a line for each, and then the end of its input.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._latest: _Process | _Worker | None = None
        self._others = _ChildDrivers()

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if there is no such command."""
        with self._others.starting(), interrupts_held():
            self._latest = process = _Process(self._command, _environment(call), call)
        return process

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Begin several calls in one process. Raises ClientError if there is no such command."""
        with self._others.starting(), interrupts_held():
            self._latest = process = _Worker(self._command, _environment(calls[0]))
        group = _Group(process, calls, last=True)
        process.end_input()
        return group.members

    def clone(self) -> Driver:
        """One for the same command."""
        return self._others.add(ProcessDriver(self._command))

    def close(self) -> None:
        """End the process of a call that was interrupted; any other has ended with its call."""
        if self._latest is not None and self._latest.alive:
            self._latest.kill()
        self._others.close()

    def kill_now(self) -> None:
        """Kill the process of the call under way."""
        self._others.kill_now()
        if self._latest is not None and self._latest.alive:
            self._latest.kill_now()


class _ChildDrivers:
    """The drivers that one has made, and whether it is starting a process just now."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []
        self._starting = threading.Event()

    def add(self, driver: Driver) -> Driver:
        self._drivers.append(driver)
        return driver

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Have `kill_now` wait for the block, whose process nobody knows before its end."""
        self._starting.set()
        try:
            yield
        finally:
            self._starting.clear()

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()

    def kill_now(self) -> None:
        for driver in self._drivers:
            driver.kill_now()
        for _ in range(START_LOOKS):
            if not self._starting.is_set():
                break
            time.sleep(START_PAUSE)


class _Process:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str], call: Call) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with (
            tempfile.TemporaryFile() as line
        ):  # not a pipe: a client that does not read would block the kit
            line.write(call.as_line())
            line.seek(0)
            self._process = _spawn(command, environment, line, self._out, self._err)
        self._done = threading.Event()
        threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        self._process.wait()
        self._done.set()

    @property
    def alive(self) -> bool:
        return not self._done.is_set()

    def kill_now(self) -> None:
        _kill_group(self._process)

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None."""
        if not self._done.wait(seconds):
            return None
        _kill_group(self._process)  # processes that it started may still run
        return self._read()

    def kill(self) -> Outcome:
        """End the process and all that it started."""
        _kill_group(self._process)
        self._done.wait()
        return Outcome(
            "hung", printed=self._read().printed
        )  # its exit code is only that of being killed

    def _read(self) -> Outcome:
        with self._out, self._err:
            out, err = _tail(self._out), _tail(self._err)
        lines = out.strip().splitlines()
        code = self._process.returncode
        return _outcome_of(lines[-1] if lines else "", code, out + err, err)


class WorkerDriver:
    """Keeps one process, and sends it a line for each call. A process that exits or hangs is replaced."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._worker: _Worker | None = None
        self._others = _ChildDrivers()

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if there is no such command."""
        worker = self._running(call)
        worker.send([call])
        return worker

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Begin several calls in the process. Raises ClientError if there is no such command."""
        return _Group(self._running(calls[0]), calls).members

    def _running(self, call: Call) -> _Worker:
        if self._worker is None or not self._worker.alive:
            with self._others.starting(), interrupts_held():
                self._worker = _Worker(self._command, _environment(call))
        return self._worker

    def clone(self) -> Driver:
        """One with a process of its own."""
        return self._others.add(WorkerDriver(self._command))

    def for_one_call(self) -> ProcessDriver:
        """The same command, run anew for each call, with an input that ends after it."""
        return ProcessDriver(self._command)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.end()
        self._others.close()

    def kill_now(self) -> None:
        """Kill the process."""
        self._others.kill_now()
        if self._worker is not None and self._worker.alive:
            self._worker.kill_now()


class _Worker:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._printed = ""
        self._read_err = 0
        self.alive = True
        self._process = _spawn(command, environment, subprocess.PIPE, subprocess.PIPE, self._err)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls to the process."""
        assert self._process.stdin is not None
        self._printed = ""
        with suppress(OSError):  # the process has ended, which `wait` finds out
            self._process.stdin.write(b"".join(call.as_line() for call in calls))
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Say that no more calls will come."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def wait(self, seconds: float) -> Outcome | None:
        """How the call ended, or None."""
        line = self.read_report(seconds)
        return line if line is None or isinstance(line, Outcome) else self.outcome_of(line)

    def read_report(self, seconds: float) -> str | Outcome | None:
        """The next line that is a result; how the process ended, if it did; or None after so many seconds."""
        end = wall_time() + round(seconds * SECOND)
        while True:
            try:  # one deadline for all lines: a process may print without end
                line = self._lines.get(timeout=max(0.0, (end - wall_time()) / SECOND))
            except queue.Empty:
                return None
            if line is None:
                err = self.end()
                return _outcome_of("", self._process.returncode, self._printed + err, err)
            self._printed = (self._printed + line)[-MAX_OUTPUT:]
            if _report_in(line) is not None:
                return line

    def outcome_of(self, line: str) -> Outcome:
        """The outcome that a line tells."""
        err = self._errors()
        return _outcome_of(line, 0, self._printed + err, err)

    def kill_now(self) -> None:
        _kill_group(self._process)

    def kill(self) -> Outcome:
        """End the process, and with it the call."""
        return Outcome("hung", printed=self._printed + self.end())

    def end(self) -> str:
        """End the process and all that it started; return what it last printed as errors."""
        if not self.alive:
            return ""
        self.alive = False
        _kill_group(self._process)
        self._process.wait()
        self._listener.join(PIPE_GRACE)
        err = self._errors()
        pipes = [
            self._process.stdin,
            self._err,
            None if self._listener.is_alive() else self._process.stdout,
        ]
        for pipe in filter(None, pipes):
            with suppress(OSError):  # closing flushes a line that was never read
                pipe.close()
        return err

    def _errors(self) -> str:
        """What it has printed on standard error since the last look."""
        size = os.fstat(self._err.fileno()).st_size
        start = max(self._read_err, size - MAX_OUTPUT)
        self._read_err = size
        return os.pread(self._err.fileno(), size - start, start).decode("utf-8", "replace")


class _Group:
    """Calls made at once in one process, whose results come in any order, each with the id of its call."""

    def __init__(self, worker: _Worker, calls: Sequence[Call], *, last: bool = False) -> None:
        self._worker, self._last = worker, last
        self._ended: dict[int | None, Outcome] = {}
        self.members = [_Member(self, call.id) for call in calls]
        worker.send(calls)

    def wait(self, identifier: int | None, seconds: float) -> Outcome | None:
        """How a call ended, or None. Raises ClientError if a result has no id."""
        end = wall_time() + round(seconds * SECOND)
        while identifier not in self._ended:
            line = self._worker.read_report(max(0.0, (end - wall_time()) / SECOND))
            if line is None:
                return None
            if isinstance(line, Outcome):
                self._ended = {
                    member.identifier: self._ended.get(member.identifier, line)
                    for member in self.members
                }
                break
            named = (_report_in(line) or {}).get("id")
            if named not in [member.identifier for member in self.members]:
                self._worker.end()
                raise ClientError(
                    "calls were made at once, so each result is to carry the `id` of its call, as in "
                    f'{{"id": 1, "output": …}}; it printed {line.strip()[:200]}'
                )
            self._ended[named] = self._worker.outcome_of(line)
            if self._last and len(self._ended) == len(self.members):
                self._worker.end()
        return self._ended[identifier]

    def kill(self) -> Outcome:
        """End the process."""
        return self._worker.kill()


class _Member:
    def __init__(self, group: _Group, identifier: int | None) -> None:
        self._group = group
        self.identifier = identifier

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None."""
        return self._group.wait(self.identifier, seconds)

    def kill(self) -> Outcome:
        """End it, and with it the others: they are in one process."""
        return self._group.kill()


def trust(ca_file: str | None) -> dict[str, str]:
    """The environment in which clients trust a certificate: of OpenSSL, requests, curl and Node."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
    return dict.fromkeys(names, ca_file) if ca_file else {}


def _environment(call: Call) -> dict[str, str]:
    given = {"REPLICATE_BASE_URL": call.base_url, "REPLICATE_API_TOKEN": call.token}
    return {**os.environ, **given, **trust(call.ca_file)}


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], given: Any, out: Any, err: Any
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - running the command that the user gave is what this is for
            command, stdin=given, stdout=out, stderr=err, env=environment, start_new_session=True
        )
    except OSError as reason:
        for file in (out, err):
            if file is not subprocess.PIPE:
                file.close()
        raise ClientError(f"cannot run {command[0]}: {reason.strerror}") from reason


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _tail(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), MAX_OUTPUT, max(0, size - MAX_OUTPUT)).decode("utf-8", "replace")


def _report_in(line: str) -> dict[str, Any] | None:
    """The {"output": …} or {"error": …} that a line is, if it is one."""
    try:
        report = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return (
        report if isinstance(report, dict) and ("output" in report or "error" in report) else None
    )


def _outcome_of(line: str, code: int | None, printed: str, err: str) -> Outcome:
    """The outcome of a call, from the last line of output and the exit code."""
    report = _report_in(line)
    if code:
        said = err.strip() or (
            str(report["error"]) if report and "error" in report else "no reason given"
        )
        return Outcome(
            "raised", message=f"exit code {code}: {said}", printed=printed, no_report=report is None
        )
    if report is None:
        said = f": {err.strip()}" if err.strip() else ""
        message = f'the last line of output was no {{"output": …}} or {{"error": …}}{said}'
        return Outcome("raised", message=message, printed=printed, no_report=True)
    named = str(report.get("client", ""))[:MAX_NAME]
    if "error" in report:
        return Outcome("raised", message=str(report["error"]), printed=printed, client=named)
    return Outcome("returned", report["output"], printed=printed, client=named)
