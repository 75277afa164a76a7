"""The output of a client's processes: bounded reading, and the outcome that it reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from mockserver.check.model import Outcome

MAX_PATH = 4096  # characters
MAX_NAME = 200  # characters of the name and version that a client reports
MAX_OUTPUT = 256 * 1024  # characters of a process's output that are kept, from the end
MAX_LINE = 16 * 1024 * 1024  # bytes of a line that are read; it may contain a picture
MAX_FILE = 64 * 1024 * 1024  # bytes of output in a file, above which it is emptied
CHUNK = 64 * 1024  # bytes


def tail(file: IO[bytes]) -> str:
    """The last `MAX_OUTPUT` bytes of a file, as text."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), MAX_OUTPUT, max(0, size - MAX_OUTPUT)).decode("utf-8", "replace")


def last_line(file: IO[bytes]) -> str:
    """The last line that is not blank; of a very long one, at most the last `MAX_LINE` bytes."""
    size = os.fstat(file.fileno()).st_size
    text = b""
    # Most lines are short: read more and more from the end, until a whole line is there.
    while len(text) < min(size, MAX_LINE) and len(text.strip().splitlines()) < 2:
        length = min(size, MAX_LINE, 2 * len(text) or CHUNK)
        text = os.pread(file.fileno(), length, size - length)
    lines = text.strip().splitlines()
    return lines[-1].decode("utf-8", "replace") if lines else ""


def bound(file: IO[bytes]) -> None:
    """Empty the file of a process that has printed too much. Later output follows a hole."""
    # Blocks, not size: the process goes on writing at its old offset, so the size does not shrink.
    occupied = os.fstat(file.fileno()).st_blocks * 512
    if occupied > MAX_FILE:
        os.ftruncate(file.fileno(), 0)


def bounded_lines(descriptor: int) -> Iterator[bytes]:
    """The lines that arrive at a pipe; of a longer one, only the last `MAX_LINE` bytes."""
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


def report_in(line: str) -> dict[str, Any] | None:
    """The {"output": …} or {"error": …} in a line; None if it is neither."""
    try:
        report = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return (
        report if isinstance(report, dict) and ("output" in report or "error" in report) else None
    )


def outcome_of(line: str, code: int | None, printed: str, errors: str) -> Outcome:
    """The outcome of a call, from the last line of output and the exit code.

    `printed` is all output, `errors` that on standard error.
    """
    report = report_in(line)
    errors = errors.strip()
    if code:
        reason = errors or str((report or {}).get("error", "no reason given"))
        message = f"exit code {code}: {reason}"
        return Outcome("raised", message=message, printed=printed, no_report=report is None)

    if report is None:
        message = 'the last line of output was neither {"output": …} nor {"error": …}'
        message += f": {errors}" if errors else ""
        return Outcome("raised", message=message, printed=printed, no_report=True)

    name = str(report.get("client", ""))[:MAX_NAME]
    if "error" in report:
        return Outcome("raised", message=str(report["error"]), printed=printed, client=name)
    return Outcome("returned", _picture_in(report["output"]), printed=printed, client=name)


def _picture_in(output: object) -> object:
    """An output; the path of a file becomes the bytes of that file, a saved picture."""
    if not isinstance(output, str) or len(output) > MAX_PATH or ":" in output[:6]:
        return output
    with suppress(OSError, ValueError):
        path = Path(output)
        if path.is_file() and path.stat().st_size <= MAX_FILE:
            return path.read_bytes()
    return output
