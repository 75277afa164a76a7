"""Reports as files whose suffix names the format."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
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
    """Write a file whole or not at all, and create its folder if it is missing.

    Raises MockServerError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe or a device
        else:
            _replace(path.resolve(), content)
    except (OSError, ValueError) as reason:
        message = reason.strerror if isinstance(reason, OSError) else str(reason)
        raise MockServerError(f"cannot write {path}: {message}") from reason


def _replace(path: Path, content: bytes) -> None:
    """Write beside a file, then rename: a full disk leaves the file as it was."""
    draft = path.with_name(f".{path.name[:40]}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        if path.exists():
            shutil.copymode(path, draft)
        draft.replace(path)
    except OSError as reason:
        with suppress(OSError):
            draft.unlink()
        # A file may be writable where its folder is not, or be mounted by itself.
        if reason.errno not in (errno.EACCES, errno.EPERM, errno.EBUSY) or not path.exists():
            raise
        path.write_bytes(content)
