"""What reports print on a terminal: escaped text, colors, and a line of progress."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from mockserver.reporting.rule import Severity

CLEAR_LINE = "\r\x1b[K"
COLORS: dict[Severity, str] = {"error": "red", "warning": "yellow"}

_ESCAPES = {"\n": "\\n", "\t": " "}


def visible(text: str) -> str:
    """Text on one line in which nothing moves the cursor, changes colors or reverses letters."""
    return "".join(
        letter if letter.isprintable() else _ESCAPES.get(letter, f"\\u{ord(letter):04x}")
        for letter in text
    )


def print_line(text: str = "", *, err: bool = False, **style: Any) -> None:
    """Print one line on standard output, or on standard error.

    Everything that may hold text of clients, gateways or files is printed by this: control codes
    and line breaks in it are escaped. `style` is what `click.style` takes.
    """
    line = visible(text)
    click.echo(click.style(line, **style) if style else line, err=err)


def print_error(message: str) -> None:
    """Print why a command failed; what follows the first line is quoted.

    A line of a client's output must not begin one here: `::error::` would be a command to GitHub.
    """
    first, *rest = message.split("\n")
    print_line(f"mockserver: {first}", err=True)
    for line in rest:
        print_line(f"  | {line}", err=True)


def exchange_line(method: str, path: str, response: str) -> str:
    """An exchange as one line; the parts may be padded, so that several lines align."""
    return f"{method} {path} → {response}"


def style_finding(text: str, severity: Severity, mark: str = "") -> str:
    """A finding's text, with its first line and lines that start with `mark` in color.

    click removes the colors where the output does not show them.
    """
    color = COLORS[severity]
    head, *lines = text.split("\n")
    if mark:
        lines = [click.style(line, fg=color) if line.startswith(mark) else line for line in lines]
    return "\n".join([click.style(head, fg=color, bold=True), *lines])


def count_of_warnings(count: int) -> str:
    """The number of warnings as the end of a summary line; nothing if there are none."""
    return f" · {count} warning{'s' * (count != 1)}" if count else ""


class ProgressLine:
    """A line on standard error that is redrawn in place; silent if that is not a terminal."""

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def draw(self, text: str) -> None:
        """Replace the line. The caller makes sure that it is narrower than the terminal."""
        if self._enabled:
            sys.stderr.write(CLEAR_LINE + text)
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        self.draw("")


def progress_width() -> int:
    """The columns that a progress line may fill on the terminal of standard error.

    One column stays free: some terminals wrap a full line, and a wrapped line cannot be redrawn.
    """
    try:
        fallback = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        fallback = os.terminal_size((80, 24))
    return shutil.get_terminal_size(fallback).columns - 1
