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
from mockserver.check.drive.scheduling import seconds_without_processor
from mockserver.check.model import Outcome

LOOP_GRACE = 1.0  # seconds until a loop has ended, unless a client blocks it


class CallableDriver:
    """Runs a Python function: each call in a thread of its own, of a coroutine function in a task of its own.

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
        """Begin a call."""
        return (
            _Thread(self._call_fn, call)
            if self._loop is None
            else _Task(self._loop, self._call_fn(call))
        )

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Begin several calls."""
        return [self.start(call) for call in calls]

    def clone(self) -> Driver:
        """This very one: a function can be called several times at once."""
        return self

    def renew(self) -> bool:
        """Use another function of the factory from here on, if there is one."""
        if self._factory is not None:
            self._call_fn = self._factory()
        return self._factory is not None

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
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="client", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End the loop. One that is blocked by a client is left to end with this process."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(LOOP_GRACE)
            if not self._thread.is_alive():
                loop.close()


class _Task:
    def __init__(self, loop: _Loop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._waited_before = seconds_without_processor()
        self._ending = loop.submit(self._run(coroutine))

    async def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Outcome:
        try:
            return Outcome("returned", _output_of(await coroutine))
        except (
            BaseException
        ) as reason:  # what a loop lets through, such as SystemExit, would end it
            return _raised(reason)

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None."""
        done, _ = wait_for([self._ending], seconds)
        return self._ending.result() if done else None

    def kill(self) -> Outcome:
        """Cancel the task."""
        self._ending.cancel()
        return Outcome("hung")

    def seconds_without_processor(self) -> float:
        """What this process waited, of which the task is a part, since the call began."""
        return seconds_without_processor() - self._waited_before


class _Thread:
    def __init__(self, call_fn: Callable[[Call], Any], call: Call) -> None:
        self._outcome: Outcome | None = None
        self._done = threading.Event()
        self._waited_before = seconds_without_processor()
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

    def seconds_without_processor(self) -> float:
        """What this process waited, of which the thread is a part, since the call began."""
        return seconds_without_processor() - self._waited_before


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
    if isinstance(value, os.PathLike):
        return Path(value).read_bytes()
    if isinstance(value, list | tuple):
        return [_output_of(part) for part in value]
    url = getattr(value, "url", None)
    if url is not None and not callable(url):
        value = str(url)
    return _well_formed(value) if isinstance(value, str) else value
