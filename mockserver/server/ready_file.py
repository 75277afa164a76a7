"""The ready file: where a server is. It exists only while the server answers."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mockserver.errors import MockServerError


def remove_stale(path: Path) -> None:
    """Remove another server's file. Raises MockServerError if it is no regular file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise MockServerError(
                f"the ready file {path} exists and is not a regular file; choose another"
            )
        path.unlink()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as reason:
        raise _cannot_write(path, reason) from reason


def write(path: Path, facts: Mapping[str, object]) -> None:
    """Write facts and the process's id as JSON, atomically. Raises MockServerError."""
    try:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
    except ValueError as reason:
        raise _cannot_write(path, reason) from reason

    try:
        draft.write_text(json.dumps({**facts, "pid": os.getpid()}) + "\n")
        draft.replace(path)
    except (OSError, ValueError) as reason:
        with suppress(OSError, ValueError):
            draft.unlink()
        raise _cannot_write(path, reason) from reason


def remove_own(path: Path) -> None:
    """Remove the file, unless another server has written it meanwhile."""
    with suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_bytes()).get("pid") == os.getpid():
            path.unlink()


def _cannot_write(path: Path, reason: Exception) -> MockServerError:
    message = reason.strerror if isinstance(reason, OSError) else str(reason)
    return MockServerError(f"cannot write the ready file {path}: {message}")
