"""Reports as files whose suffix names the format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mockserver.errors import MockServerError

T = TypeVar("T")


def choose_format(path: Path, formats: Mapping[str, T]) -> T:
    """The entry of `formats` for a path's suffix. Raises MockServerError if there is none."""
    if path.suffix not in formats:
        raise MockServerError(
            f"--report {path}: the file ends in {', '.join(formats)}, which says what format it has"
        )
    return formats[path.suffix]


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and create its folder if it is missing. Raises MockServerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as reason:
        raise MockServerError(f"cannot write {path}: {reason.strerror}") from reason
