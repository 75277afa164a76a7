"""Signals that end a hunt: after the first one it reports what it knows; the second one ends everything at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C, a CI's time-out, a terminal that was closed.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
EXIT_CODE = 128 + signal.SIGINT  # of a command that was interrupted, as shells have it


class Interruption:
    """Whether a signal has asked for the end, and which."""

    def __init__(self) -> None:
        self.signal = signal.SIGINT

    @property
    def exit_code(self) -> int:
        """What a command that was ended so exits with, as shells have it: 128 and the signal's number."""
        return 128 + self.signal


@contextmanager
def exit_on_second_interrupt(kill: Callable[[], None]) -> Iterator[Interruption]:
    """Let the first signal raise KeyboardInterrupt; at the second, `kill` what runs and exit without delay.

    A KeyboardInterrupt that nobody has caught by the end exits with the signal's code too. `kill`
    is called in a signal handler, whatever the main thread was doing, so it must not wait for that,
    nor take locks.
    """
    interruption = Interruption()

    def first(number: int, frame: Any) -> None:
        interruption.signal = signal.Signals(number)
        for each in ENDING:
            signal.signal(each, second)
        raise KeyboardInterrupt

    def second(number: int, frame: Any) -> None:
        try:
            kill()
        finally:
            # Unwinding could be interrupted again, or hang in what the user wants to end.
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
    """Hold signals that end a hunt back until the block has ended.

    For starting a process: were it interrupted between the fork and the assignment, nobody would
    know the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
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
