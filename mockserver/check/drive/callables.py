"""Clients that are Python callables."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

from mockserver.check.drive.protocol import Call, Driver, Pending
from mockserver.check.drive.scheduling import thread_seconds_without_processor
from mockserver.check.model import Outcome

LOOP_GRACE = 1.0  # seconds that a loop has to stop; one that a client blocks never does


class CallableDriver:
    """Runs a Python function, each call in a new thread; a coroutine function, in a new task.

    `factory` makes such a function with fresh state.
    """

    starts_process = False

    def __init__(
        self,
        call_fn: Callable[[Call], Any],
        factory: Callable[[], Callable[[Call], Any]] | None = None,
    ) -> None:
        self._call_fn = call_fn
        self._factory = factory
        self._loop = _Loop() if inspect.iscoroutinefunction(call_fn) else None

    def start(self, call: Call) -> Pending:
        """Start a call."""
        return (
            _Thread(self._call_fn, call)
            if self._loop is None
            else _Task(self._loop, self._call_fn(call))
        )

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Start several calls."""
        return [self.start(call) for call in calls]

    def clone(self) -> Driver:
        """This driver itself: a function can be called several times concurrently."""
        return self

    def renew(self) -> bool:
        """Use another function from the factory from now on, if there is a factory."""
        if self._factory is not None:
            self._call_fn = self._factory()
        return self._factory is not None

    def close(self) -> None:
        """Stop the event loop, if any. Threads cannot be stopped: they end with this process."""
        if self._loop is not None:
            self._loop.close()

    def kill_now(self) -> None:
        """Do nothing: a thread cannot be killed."""


class _Loop:
    """An event loop in a thread of its own, started with the first call."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def submit(self, coroutine: Coroutine[Any, Any, Outcome]) -> Future[Outcome]:
        """Run a coroutine as a task, from any thread."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="client", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    @property
    def native_id(self) -> int | None:
        """The id that the system has for the thread of the loop."""
        return self._thread.native_id

    def close(self) -> None:
        """Stop the loop. One that a client blocks is left to end with this process."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(LOOP_GRACE)
            if not self._thread.is_alive():
                loop.close()


class _Task:
    """A call of a coroutine function."""

    def __init__(self, loop: _Loop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._ending = loop.submit(self._run(coroutine))
        self._loop_thread = loop.native_id
        self._waited_before = thread_seconds_without_processor(self._loop_thread)

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Outcome:
        try:
            return Outcome("returned", _output_of(await coroutine))
        # BaseException: a loop does not catch, for example, SystemExit, which would stop it.
        except BaseException as error:
            return _raised(error)

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome, or None if the call has not ended within `seconds`."""
        done, _ = wait_for([self._ending], seconds)
        return self._ending.result() if done else None

    def kill(self) -> Outcome:
        """Cancel the task."""
        self._ending.cancel()
        return Outcome("hung")

    def seconds_without_processor(self) -> float:
        """Seconds that the thread of the loop waited for a processor since the call started."""
        return thread_seconds_without_processor(self._loop_thread) - self._waited_before


class _Thread:
    """A call of a function."""

    def __init__(self, call_fn: Callable[[Call], Any], call: Call) -> None:
        self._outcome: Outcome | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(call_fn, call), daemon=True)
        self._thread.start()

    def _run(self, call_fn: Callable[[Call], Any], call: Call) -> None:
        try:
            value = call_fn(call)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            self._outcome = Outcome("returned", _output_of(value))
        except BaseException as error:  # a client may raise anything, even SystemExit
            self._outcome = _raised(error)
        self._done.set()

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome, or None if the call has not ended within `seconds`."""
        return self._outcome if self._done.wait(seconds) else None

    def kill(self) -> Outcome:
        """Leave the thread running: it cannot be killed. The double refuses what it sends."""
        return self._outcome or Outcome("hung")

    def seconds_without_processor(self) -> float:
        """Seconds that the thread waited for a processor."""
        return thread_seconds_without_processor(self._thread.native_id)


def _raised(error: BaseException) -> Outcome:
    kind = type(error).__name__
    try:
        message = str(error)
    except Exception as broken:  # the client's own classes may do anything
        message = f"(no message: its __str__ raised {type(broken).__name__})"
    return Outcome("raised", message=_well_formed(f"{kind}: {message}"))


def _well_formed(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor a file can hold."""
    return text.encode("utf-8", "replace").decode()


def _output_of(value: object) -> object:
    """The return value as a URL, bytes or list of these. Of an object with a `url`, that URL."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return Path(value).read_bytes()
    if isinstance(value, list | tuple):
        return [_output_of(part) for part in value]
    url = getattr(value, "url", None)
    if url is not None and not callable(url):
        value = str(url)
    return _well_formed(value) if isinstance(value, str) else value
