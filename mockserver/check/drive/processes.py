"""Clients that are commands: a process for each call, or a worker that reads a line per call."""

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

from mockserver.check.drive.interrupts import interrupts_held
from mockserver.check.drive.process_output import (
    MAX_OUTPUT,
    bound,
    bounded_lines,
    last_line,
    outcome_of,
    report_in,
    tail,
)
from mockserver.check.drive.protocol import Call, Driver, Pending
from mockserver.check.drive.scheduling import seconds_without_processor
from mockserver.check.model import ClientError, Outcome
from mockserver.clock import SECOND, wall_time
from mockserver.server.tls import ca_environment

# Seconds that the output of a killed process is waited for. It does not end if another process,
# which that one has started, keeps the pipe open.
PIPE_GRACE = 1.0
START_CHECKS = 50  # times that `kill_now` checks whether a process has started
START_PAUSE = 0.002  # seconds between these checks
MAX_LINES = 100  # unread lines of a worker, above which it has to wait
LISTEN_PAUSE = 0.2  # seconds between checks whether a worker with unread lines is being ended


class ProcessDriver:
    """Runs a command for each call: it reads one line of JSON, and its last line is the result.

    For concurrent calls, one process reads a line for each, and then the end of its input.
    """

    starts_process = True

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._latest: _Process | _Worker | None = None
        self._children = _ChildDrivers()

    def start(self, call: Call) -> Pending:
        """Start a call. Raises ClientError if the command cannot be run."""
        with self._children.starting(), interrupts_held():
            self._latest = process = _Process(self._command, _environment(call), call)
        return process

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Start several calls in one process. Raises ClientError if the command cannot be run."""
        with self._children.starting(), interrupts_held():
            self._latest = process = _Worker(self._command, _environment(calls[0]))
        group = _Group(process, calls, last=True)
        process.end_input()
        return group.members

    def clone(self) -> Driver:
        """A driver of the same command."""
        return self._children.add(ProcessDriver(self._command))

    def renew(self) -> bool:
        """Return False: each call has fresh state anyway, except for what it keeps in files."""
        return False

    def close(self) -> None:
        """End the process of an interrupted call. All others have ended with their calls."""
        if self._latest is not None and self._latest.alive:
            self._latest.kill()
        self._children.close()

    def kill_now(self) -> None:
        """Kill the process of the running call."""
        self._children.kill_now()
        if self._latest is not None and self._latest.alive:
            self._latest.kill_now()


class _ChildDrivers:
    """The clones of a driver, and whether the driver is starting a process right now."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []
        self._starting = threading.Event()

    def add(self, driver: Driver) -> Driver:
        self._drivers.append(driver)
        return driver

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Make `kill_now` wait for the end of the block, before which its process is unknown."""
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
        # No lock: this runs in a signal handler, which may have interrupted the start.
        for _ in range(START_CHECKS):
            if not self._starting.is_set():
                break
            time.sleep(START_PAUSE)


class _Process:
    """A process that makes one call."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], call: Call) -> None:
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Files, not pipes: a client that does not read its input would block the kit, and one
        # whose output is not read would be blocked itself.
        with tempfile.TemporaryFile() as line:
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
        """The outcome, or None if the call has not ended within `seconds`."""
        if not self._done.wait(seconds):
            for file in (self._out, self._err):
                bound(file)
            return None
        _kill_group(self._process)  # processes that it started may still run
        return self._read()

    def kill(self) -> Outcome:
        """Kill the process, and all processes that it started."""
        _kill_group(self._process)
        self._done.wait()
        # Its exit code only says that it was killed.
        return Outcome("hung", printed=self._read().printed)

    def seconds_without_processor(self) -> float:
        """Seconds that its process group waited for a processor."""
        return seconds_without_processor(self._process.pid)

    def _read(self) -> Outcome:
        with self._out, self._err:
            output, errors = tail(self._out), tail(self._err)
            last = last_line(self._out)
        return outcome_of(last, self._process.returncode, output + errors, errors)


class WorkerDriver:
    """Sends one process a line for each call. A process that exits or hangs is replaced."""

    starts_process = True

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._worker: _Worker | None = None
        self._children = _ChildDrivers()

    def start(self, call: Call) -> Pending:
        """Start a call. Raises ClientError if the command cannot be run."""
        worker = self._running(call)
        worker.send([call])
        return worker

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Start several calls in the process. Raises ClientError if the command cannot be run."""
        return _Group(self._running(calls[0]), calls).members

    def _running(self, call: Call) -> _Worker:
        if self._worker is None or not self._worker.alive:
            with self._children.starting(), interrupts_held():
                self._worker = _Worker(self._command, _environment(call))
        return self._worker

    def clone(self) -> Driver:
        """A driver of the same command, with a process of its own."""
        return self._children.add(WorkerDriver(self._command))

    def for_one_call(self) -> ProcessDriver:
        """The same command, run once for each call, with an input that ends after it."""
        return ProcessDriver(self._command)

    def renew(self) -> bool:
        """End the process, so that the next call starts another one."""
        if self._worker is not None:
            self._worker.end()
        return True

    def close(self) -> None:
        """End the process."""
        self.renew()
        self._children.close()

    def kill_now(self) -> None:
        """Kill the process."""
        self._children.kill_now()
        if self._worker is not None and self._worker.alive:
            self._worker.kill_now()


class _Worker:
    """A process that makes calls, one after the other or concurrently."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._ended = threading.Event()
        self._printed = ""
        self._errors_read = 0
        self._waited_before = 0.0
        self.alive = True
        self._process = _spawn(command, environment, subprocess.PIPE, subprocess.PIPE, self._err)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Queue lines as they are printed. While the queue is full, the process has to wait."""
        assert self._process.stdout is not None
        for line in bounded_lines(self._process.stdout.fileno()):
            if not self._enqueue(line.decode("utf-8", "replace")):
                return
        self._enqueue(None)

    def _enqueue(self, line: str | None) -> bool:
        """Queue a line; None for the end of output. Returns False once the worker is ending."""
        while not self._ended.is_set():
            with suppress(queue.Full):
                self._lines.put(line, timeout=LISTEN_PAUSE)
                return True
        return False

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls to the process, a line for each."""
        assert self._process.stdin is not None
        self._printed = ""
        self._waited_before = seconds_without_processor(self._process.pid)
        with suppress(OSError):  # the process has exited, which `wait` will report
            self._process.stdin.write(b"".join(call.as_line() for call in calls))
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Close the input of the process: no more calls follow."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome, or None if the call has not ended within `seconds`."""
        line = self.read_report(seconds)
        return line if line is None or isinstance(line, Outcome) else self.outcome_in(line)

    def read_report(self, seconds: float) -> str | Outcome | None:
        """The next line with a result, or the outcome if the process exited.

        None if neither happens within `seconds`.
        """
        end = wall_time() + round(seconds * SECOND)
        while True:
            # One deadline for all lines: a process may print endlessly, and faster than it is read.
            left = (end - wall_time()) / SECOND
            try:
                line = self._lines.get(timeout=left) if left > 0 else self._lines.get_nowait()
            except queue.Empty:
                return None
            if line is None:
                errors = self.end()
                printed = self._printed + errors
                return outcome_of("", self._process.returncode, printed, errors)

            self._printed = (self._printed + line)[-MAX_OUTPUT:]
            if report_in(line) is not None:
                return line
            if left <= 0:
                return None

    def outcome_in(self, line: str) -> Outcome:
        """The outcome that a line reports."""
        errors = self._new_errors()
        return outcome_of(line, 0, self._printed + errors, errors)

    def kill_now(self) -> None:
        _kill_group(self._process)

    def kill(self) -> Outcome:
        """Kill the process, and with it the call."""
        return Outcome("hung", printed=self._printed + self.end())

    def seconds_without_processor(self) -> float:
        """Seconds that its process group waited for a processor since the call was sent."""
        return seconds_without_processor(self._process.pid) - self._waited_before

    def end(self) -> str:
        """Kill the process and all that it started. Returns its unread output on standard error."""
        if not self.alive:
            return ""
        self.alive = False
        self._ended.set()
        _kill_group(self._process)
        self._process.wait()
        self._listener.join(PIPE_GRACE)
        errors = self._new_errors()

        pipes = [
            self._process.stdin,
            self._err,
            None if self._listener.is_alive() else self._process.stdout,
        ]
        for pipe in filter(None, pipes):
            with suppress(OSError):  # closing flushes a line that the process never read
                pipe.close()
        return errors

    def _new_errors(self) -> str:
        """Its output on standard error since the last call of this method."""
        size = os.fstat(self._err.fileno()).st_size
        start = max(self._errors_read, size - MAX_OUTPUT)
        self._errors_read = size
        return os.pread(self._err.fileno(), size - start, start).decode("utf-8", "replace")


class _Group:
    """Concurrent calls in one process. Results carry the ids of their calls, in any order."""

    def __init__(self, worker: _Worker, calls: Sequence[Call], *, last: bool = False) -> None:
        self.worker, self._last = worker, last
        self._outcomes: dict[int | None, Outcome] = {}
        self.members = [_Member(self, call.id) for call in calls]
        worker.send(calls)

    def wait(self, identifier: int | None, seconds: float) -> Outcome | None:
        """The outcome of a call, or None after `seconds`.

        Raises ClientError if a result does not carry the id of a call.
        """
        end = wall_time() + round(seconds * SECOND)
        while identifier not in self._outcomes:
            line = self.worker.read_report(max(0.0, (end - wall_time()) / SECOND))
            if line is None:
                return None

            # The process has exited: that is the outcome of every call without a result.
            if isinstance(line, Outcome):
                self._outcomes = {
                    member.identifier: self._outcomes.get(member.identifier, line)
                    for member in self.members
                }
                break

            call_id = (report_in(line) or {}).get("id")
            if call_id not in [member.identifier for member in self.members]:
                self.worker.end()
                raise ClientError(
                    "calls are concurrent, so each result must carry the `id` of its call, "
                    f'as in {{"id": 1, "output": …}}; the client printed {line.strip()[:200]}'
                )

            self._outcomes[call_id] = self.worker.outcome_in(line)
            if self._last and len(self._outcomes) == len(self.members):
                self.worker.end()
        return self._outcomes[identifier]

    def kill(self) -> Outcome:
        """Kill the process."""
        return self.worker.kill()


class _Member:
    """One call of a group."""

    def __init__(self, group: _Group, identifier: int | None) -> None:
        self._group = group
        self.identifier = identifier

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome, or None if the call has not ended within `seconds`."""
        return self._group.wait(self.identifier, seconds)

    def kill(self) -> Outcome:
        """Kill the process, and with it the other calls."""
        return self._group.kill()

    def seconds_without_processor(self) -> float:
        """Seconds that the process waited for a processor."""
        return self._group.worker.seconds_without_processor()


def _environment(call: Call) -> dict[str, str]:
    replicate = {"REPLICATE_BASE_URL": call.base_url, "REPLICATE_API_TOKEN": call.token}
    return {**os.environ, **replicate, **ca_environment(call.ca_file)}


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], stdin: Any, out: Any, err: Any
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own. Raises ClientError if that is impossible."""
    try:
        return subprocess.Popen(  # noqa: S603 - running the user's command is the purpose
            command, stdin=stdin, stdout=out, stderr=err, env=environment, start_new_session=True
        )
    except OSError as error:
        for file in (out, err):
            if file is not subprocess.PIPE:
                file.close()
        raise ClientError(f"cannot run {command[0]}: {error.strerror}") from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
