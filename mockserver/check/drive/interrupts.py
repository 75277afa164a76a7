"""Signals that end a hunt: the first lets it write its report, the second exits immediately."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C, the timeout of a CI job, a closed terminal.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
EXIT_CODE = 128 + signal.SIGINT  # of an interrupted command, by the convention of shells


class Interruption:
    """The signal that ended a command."""

    def __init__(self) -> None:
        self.signal = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """The exit code by the convention of shells: 128 plus the number of the signal."""
        return 128 + self.signal


@contextmanager
def exit_on_second_interrupt(kill: Callable[[], None]) -> Iterator[Interruption]:
    """Raise KeyboardInterrupt at the first signal; call `kill` and exit at the second.

    If the block does not catch the KeyboardInterrupt, the process exits with the signal's code.
    `kill` is called in a signal handler, in the middle of whatever the main thread was doing, so it
    must neither wait for that nor take locks.
    """
    interruption = Interruption()

    def first(number: int, frame: Any) -> None:
        interruption.signal = signal.Signals(number)
        for ending in ENDING:
            signal.signal(ending, second)
        raise KeyboardInterrupt

    def second(number: int, frame: Any) -> None:
        try:
            kill()
        finally:
            # Unwinding the stack could be interrupted again, or hang in what the user wants to end.
            os._exit(128 + number)

    before = {number: signal.signal(number, first) for number in ENDING}
    try:
        yield interruption
    except KeyboardInterrupt:
        sys.exit(interruption.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Delay signals that end a hunt until the end of the block.

    For starting a process: an interrupt between the fork and the assignment would leave a process
    unknown to the kit, which could not end it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signal handlers run only in the main thread
        return

    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in ENDING
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
