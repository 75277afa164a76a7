"""Ctrl-C: the first one ends a hunt, which then tells what it has found; the second one ends everything at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EXIT_CODE = 130  # of a command that was interrupted: 128 + SIGINT, as shells have it


@contextmanager
def exit_on_second_interrupt(kill: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt; at the second, `kill` what runs and exit with 130, without delay.

    A KeyboardInterrupt that nobody has caught by the end exits with 130 too. `kill` is called in a
    signal handler, whatever the main thread was doing, so it must not wait for that, nor take
    locks.
    """

    def first(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    def second(number: int, frame: Any) -> None:
        try:
            kill()
        finally:
            os._exit(
                EXIT_CODE
            )  # unwinding could be interrupted again, or hang in what the user wants to end

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended.

    For starting a process: were it interrupted between the fork and the assignment, nobody would
    know the process.
    """
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # handlers run in the main thread only
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
