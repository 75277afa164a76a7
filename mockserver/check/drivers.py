"""Drivers run the client: a Python callable, a process for each call, or one process that reads a line for each."""

from __future__ import annotations

import asyncio
import inspect
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Protocol

import msgspec

from mockserver.check.cases import ClientError, Outcome
from mockserver.check.interrupts import interrupts_held
from mockserver.clock import SECOND, wall_time

PIPE_GRACE = (
    1.0  # seconds until the output of a killed process ends, unless a process that it started keeps the pipe open
)
START_LOOKS, START_PAUSE = 50, 0.002  # how often, in seconds, `kill_now` looks whether a process has started
MAX_OUTPUT = 256 * 1024  # bytes of what a process prints that are read, from the end


@dataclass(frozen=True, slots=True)
class Call:
    """What a client is asked to do: make one picture with a model, from an input, at a base URL, with a token.

    `ca_file` is the certificate that it is to trust, if the base URL is https.
    """

    base_url: str
    token: str
    model: str
    input: Mapping[str, Any]
    ca_file: str | None = None

    def as_line(self) -> bytes:
        """The call as a process gets it: a line of JSON."""
        facts = {"model": self.model, "input": self.input, "base_url": self.base_url, "token": self.token}
        facts |= {"ca_file": self.ca_file} if self.ca_file else {}
        return msgspec.json.encode(facts) + b"\n"


class Pending(Protocol):
    """A call under way."""

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None if it has not ended within so many seconds."""

    def kill(self) -> Outcome:
        """End it, as far as that is possible."""


class Driver(Protocol):
    """Runs the client, one call at a time. What `another` makes is ended with the driver that made it."""

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if the client cannot be run at all."""

    def another(self) -> Driver:
        """A driver of the same client, for calls made at the same time."""

    def close(self) -> None:
        """End what is still running."""

    def kill_now(self) -> None:
        """Kill what is still running, without waiting for its end: callable in a signal handler."""


class CallableDriver:
    """Runs a Python function, each call in a thread of its own; a coroutine function on a loop, each call in a task."""

    def __init__(self, call_fn: Callable[[Call], Any]) -> None:
        self._call_fn = call_fn
        self._loop = _Loop() if inspect.iscoroutinefunction(call_fn) else None

    def start(self, call: Call) -> Pending:
        """Begin a call."""
        return _Thread(self._call_fn, call) if self._loop is None else _Task(self._loop, self._call_fn(call))

    def another(self) -> Driver:
        """This very one: a function can be called several times at once."""
        return self

    def close(self) -> None:
        """End the loop, if there is one. A thread cannot be ended from outside; it ends with this process."""
        if self._loop is not None:
            self._loop.close()

    def kill_now(self) -> None:
        """A thread cannot be killed."""


class _Loop:
    """An event loop in a thread of its own, from the first call on."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def submit(self, coroutine: Coroutine[Any, Any, Outcome]) -> Future[Outcome]:
        """Run a coroutine as a task."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End the loop. One that is blocked by a client is left to end with this process."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(PIPE_GRACE)
            if not self._thread.is_alive():
                loop.close()


class _Task:
    def __init__(self, loop: _Loop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._ending = loop.submit(self._run(coroutine))

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Outcome:
        try:
            return Outcome("returned", _output_of(await coroutine))
        except BaseException as reason:  # what a loop lets through, such as SystemExit, would end it
            return _raised(reason)

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None."""
        done, _ = wait_for([self._ending], seconds)
        return self._ending.result() if done else None

    def kill(self) -> Outcome:
        """Cancel the task."""
        self._ending.cancel()
        return Outcome("hung")


class _Thread:
    def __init__(self, call_fn: Callable[[Call], Any], call: Call) -> None:
        self._outcome: Outcome | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(call_fn, call), daemon=True).start()

    def _run(self, call_fn: Callable[[Call], Any], call: Call) -> None:
        try:
            value = call_fn(call)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            self._outcome = Outcome("returned", _output_of(value))
        except BaseException as reason:  # a client may raise anything, even SystemExit
            self._outcome = _raised(reason)
        self._done.set()

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None."""
        return self._outcome if self._done.wait(seconds) else None

    def kill(self) -> Outcome:
        """A thread cannot be killed; it is left running, and the double refuses whatever it sends."""
        return self._outcome or Outcome("hung")


def _raised(reason: BaseException) -> Outcome:
    kind = type(reason).__name__
    try:
        said = str(reason)
    except Exception as broken:  # a class of the client's own may do anything
        said = f"(it cannot be shown: its __str__ raised {type(broken).__name__})"
    return Outcome("raised", message=_well_formed(f"{kind}: {said}"))


def _well_formed(text: str) -> str:
    """A text without lone surrogates, which neither JSON nor a file can hold."""
    return text.encode("utf-8", "replace").decode()


def _output_of(value: object) -> object:
    """What a function returned, as a URL, bytes or list of these; an object with a `url` is its URL."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_output_of(part) for part in value]
    url = getattr(value, "url", None)
    if url is not None and not callable(url):
        value = str(url)
    return _well_formed(value) if isinstance(value, str) else value


class ProcessDriver:
    """Runs a command for each call: one line of JSON in, the last line of its output back."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._latest: _Process | None = None
        self._others = _Others()

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if there is no such command."""
        with self._others.starting(), interrupts_held():
            self._latest = process = _Process(self._command, _environment(call), call)
        return process

    def another(self) -> Driver:
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


class _Others:
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
        with tempfile.TemporaryFile() as line:  # not a pipe: a client that does not read would block the kit
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
        return Outcome("hung", printed=self._read().printed)  # its exit code is only that of being killed

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
        self._others = _Others()

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if there is no such command."""
        if self._worker is None or not self._worker.alive:
            with self._others.starting(), interrupts_held():
                self._worker = _Worker(self._command, _environment(call))
        self._worker.send(call)
        return self._worker

    def another(self) -> Driver:
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

    def send(self, call: Call) -> None:
        """Send a call to the process."""
        assert self._process.stdin is not None
        self._printed = ""
        with suppress(OSError):  # the process has ended, which `wait` finds out
            self._process.stdin.write(call.as_line())
            self._process.stdin.flush()

    def wait(self, seconds: float) -> Outcome | None:
        """How the call ended, or None."""
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
        pipes = [self._process.stdin, self._err, None if self._listener.is_alive() else self._process.stdout]
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
    return report if isinstance(report, dict) and ("output" in report or "error" in report) else None


def _outcome_of(line: str, code: int | None, printed: str, err: str) -> Outcome:
    """The outcome of a call, from the last line of output and the exit code."""
    report = _report_in(line)
    if code:
        said = err.strip() or (str(report["error"]) if report and "error" in report else "no reason given")
        return Outcome("raised", message=f"exit code {code}: {said}", printed=printed, no_report=report is None)
    if report is None:
        said = f": {err.strip()}" if err.strip() else ""
        message = f'the last line of output was no {{"output": …}} or {{"error": …}}{said}'
        return Outcome("raised", message=message, printed=printed, no_report=True)
    if "error" in report:
        return Outcome("raised", message=str(report["error"]), printed=printed)
    return Outcome("returned", report["output"], printed=printed)
