"""The `mockserver` command."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

INTERRUPTED = 128 + signal.SIGINT  # what a command exits with after Ctrl-C, as shells have it


def main(*arguments: Any, **settings: Any) -> Any:
    """Run the command, as `mockserver.cli.entry.main` does.

    A Ctrl-C while that is being imported ends the process without a traceback.
    """
    # An ignored signal stays so, as that of a job in the background. Handlers can be set in the
    # main thread only.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, exit_at_once)
    from mockserver.cli.entry import main as command

    return command(*arguments, **settings)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Handle a signal before a command has begun: there is nothing to clean up."""
    os._exit(128 + number)
