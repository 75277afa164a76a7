"""Reports as files, in the format that the file's suffix names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mockserver.errors import MockServerError

T = TypeVar("T")


def choose_format(path: Path, formats: Mapping[str, T]) -> T:
    """What formats a report for a file of that suffix. Raises MockServerError."""
    if path.suffix not in formats:
        raise MockServerError(
            f"--report {path}: the file ends in {', '.join(formats)}, which says what format it has"
        )
    return formats[path.suffix]


def write_file(path: Path, content: bytes) -> None:
    """Write a report, and the folder that it is in. Raises MockServerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as reason:
        raise MockServerError(f"cannot write {path}: {reason.strerror}") from reason


def printable(text: str) -> str:
    """Text without the characters that XML 1.0 does not have."""
    return "".join(
        letter
        if letter in "\t\n"
        or " " <= letter <= "\ud7ff"
        or "\ue000" <= letter <= "\ufffd"
        or letter > "\uffff"
        else "\ufffd"
        for letter in text
    )
