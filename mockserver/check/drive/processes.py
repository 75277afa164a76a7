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
from pathlib import Path
from typing import IO, Any

import msgspec

from mockserver.check.drive.interrupts import interrupts_held
from mockserver.check.drive.protocol import Call, Driver, Pending
from mockserver.check.drive.scheduling import seconds_without_processor
from mockserver.check.model import ClientError, Outcome
from mockserver.clock import SECOND, wall_time
from mockserver.server.tls import ca_environment

# Seconds until the output of a killed process ends, unless a process that it started keeps the pipe
# open.
PIPE_GRACE = 1.0
START_LOOKS, START_PAUSE = (
    50,
    0.002,
)  # how often, in seconds, `kill_now` looks whether a process has started
MAX_PATH = 4096  # characters
MAX_NAME = 200  # characters of what a client says that it is called
MAX_OUTPUT = 256 * 1024  # characters of what a process prints that are kept, from the end
MAX_LINE = 16 * 1024 * 1024  # bytes of a line that are read; a picture may be in it
MAX_LINES = 100  # of a worker that wait to be read
MAX_FILE = (
    64 * 1024 * 1024
)  # bytes that a process may print into a file, before the oldest are dropped
LISTEN_PAUSE = 0.2  # seconds between looks whether a worker whose lines nobody reads is to end
CHUNK = 64 * 1024  # bytes


class ProcessDriver:
    """Runs a command for each call: one line of JSON in, the last line of its output back.

    For calls made at once it gets a line for each, and then the end of its input.
    """

    starts_process = True

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

    def renew(self) -> bool:
        """Each call has a process of its own; what it keeps in files is its own affair."""
        return False

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
            for file in (self._out, self._err):
                _bound(file)
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

    def seconds_without_processor(self) -> float:
        """What the process and those that it started waited."""
        return seconds_without_processor(self._process.pid)

    def _read(self) -> Outcome:
        with self._out, self._err:
            out, err = _tail(self._out), _tail(self._err)
            last = _last_line(self._out)
        return _outcome_of(last, self._process.returncode, out + err, err)


class WorkerDriver:
    """Keeps one process, and sends it a line for each call. A process that exits or hangs is replaced."""

    starts_process = True

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

    def renew(self) -> bool:
        """End the process: the next call starts another."""
        if self._worker is not None:
            self._worker.end()
        return True

    def close(self) -> None:
        """End the process."""
        self.renew()
        self._others.close()

    def kill_now(self) -> None:
        """Kill the process."""
        self._others.kill_now()
        if self._worker is not None and self._worker.alive:
            self._worker.kill_now()


class _Worker:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._ended = threading.Event()
        self._printed = ""
        self._read_err = 0
        self._waited_before = 0.0
        self.alive = True
        self._process = _spawn(command, environment, subprocess.PIPE, subprocess.PIPE, self._err)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Pass lines on as they are printed. Where nobody reads them any more, the process has to wait."""
        assert self._process.stdout is not None
        for line in _bounded_lines(self._process.stdout.fileno()):
            if not self._pass_on(line.decode("utf-8", "replace")):
                return
        self._pass_on(None)

    def _pass_on(self, line: str | None) -> bool:
        """Put a line where it is read; False once the worker is being ended."""
        while not self._ended.is_set():
            with suppress(queue.Full):
                self._lines.put(line, timeout=LISTEN_PAUSE)
                return True
        return False

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls to the process."""
        assert self._process.stdin is not None
        self._printed = ""
        self._waited_before = seconds_without_processor(self._process.pid)
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
            # One deadline for all lines: a process may print without end, and faster than is read.
            left = (end - wall_time()) / SECOND
            try:
                line = self._lines.get(timeout=left) if left > 0 else self._lines.get_nowait()
            except queue.Empty:
                return None
            if line is None:
                err = self.end()
                return _outcome_of("", self._process.returncode, self._printed + err, err)
            self._printed = (self._printed + line)[-MAX_OUTPUT:]
            if _report_in(line) is not None:
                return line
            if left <= 0:
                return None

    def outcome_of(self, line: str) -> Outcome:
        """The outcome that a line tells."""
        err = self._errors()
        return _outcome_of(line, 0, self._printed + err, err)

    def kill_now(self) -> None:
        _kill_group(self._process)

    def kill(self) -> Outcome:
        """End the process, and with it the call."""
        return Outcome("hung", printed=self._printed + self.end())

    def seconds_without_processor(self) -> float:
        """What the process and those that it started waited since the call was sent."""
        return seconds_without_processor(self._process.pid) - self._waited_before

    def end(self) -> str:
        """End the process and all that it started; return what it last printed as errors."""
        if not self.alive:
            return ""
        self.alive = False
        self._ended.set()
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
        self.worker, self._last = worker, last
        self._ended: dict[int | None, Outcome] = {}
        self.members = [_Member(self, call.id) for call in calls]
        worker.send(calls)

    def wait(self, identifier: int | None, seconds: float) -> Outcome | None:
        """How a call ended, or None. Raises ClientError if a result has no id."""
        end = wall_time() + round(seconds * SECOND)
        while identifier not in self._ended:
            line = self.worker.read_report(max(0.0, (end - wall_time()) / SECOND))
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
                self.worker.end()
                raise ClientError(
                    "calls were made at once, so each result is to carry the `id` of its call, as in "
                    f'{{"id": 1, "output": …}}; it printed {line.strip()[:200]}'
                )
            self._ended[named] = self.worker.outcome_of(line)
            if self._last and len(self._ended) == len(self.members):
                self.worker.end()
        return self._ended[identifier]

    def kill(self) -> Outcome:
        """End the process."""
        return self.worker.kill()


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

    def seconds_without_processor(self) -> float:
        """What the process waited."""
        return self._group.worker.seconds_without_processor()


def _environment(call: Call) -> dict[str, str]:
    given = {"REPLICATE_BASE_URL": call.base_url, "REPLICATE_API_TOKEN": call.token}
    return {**os.environ, **given, **ca_environment(call.ca_file)}


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


def _last_line(file: IO[bytes]) -> str:
    """The last line that is not blank, as far as it is read."""
    size = os.fstat(file.fileno()).st_size
    text = b""
    # Most are short: read backwards, until a whole line is there.
    while len(text) < min(size, MAX_LINE) and len(text.strip().splitlines()) < 2:
        length = min(size, MAX_LINE, 2 * len(text) or CHUNK)
        text = os.pread(file.fileno(), length, size - length)
    lines = text.strip().splitlines()
    return lines[-1].decode("utf-8", "replace") if lines else ""


def _bound(file: IO[bytes]) -> None:
    """Drop what a process has printed if it is very much. Its next output follows at the same place."""
    held = os.fstat(file.fileno()).st_blocks * 512
    if held > MAX_FILE:
        os.ftruncate(file.fileno(), 0)


def _bounded_lines(descriptor: int) -> Iterator[bytes]:
    """The lines that arrive at a pipe. Of one that is longer than MAX_LINE only the end is kept."""
    rest = bytearray()
    while chunk := os.read(descriptor, CHUNK):
        *lines, after = chunk.split(b"\n")
        for line in lines:
            yield bytes(rest + line) + b"\n"
            rest.clear()
        rest += after
        del rest[:-MAX_LINE]
    if rest:
        yield bytes(rest)


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
    return Outcome("returned", _picture_in(report["output"]), printed=printed, client=named)


def _picture_in(output: object) -> object:
    """An output; where it is the path of a file, the picture that the client has saved there."""
    if not isinstance(output, str) or len(output) > MAX_PATH or ":" in output[:6]:
        return output
    with suppress(OSError, ValueError):
        path = Path(output)
        if path.is_file() and path.stat().st_size <= MAX_FILE:
            return path.read_bytes()
    return output
