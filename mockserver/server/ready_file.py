"""The ready file: where a server is. It exists only while the server answers."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from mockserver.errors import MockServerError

CONNECT = 0.5  # seconds for a server to accept a connection


def remove_stale(path: Path) -> None:
    """Remove the file of a server that has ended, before another one listens.

    The file of a server that is running stays, since the new one may yet fail to start. Raises
    MockServerError if it is no regular file.
    """
    if _exists(path) and not _is_of_running_server(path):
        _unlink(path)


def remove_former(path: Path) -> None:
    """Remove another server's file, now that the new one listens. Raises MockServerError."""
    if _exists(path):
        _unlink(path)


def _exists(path: Path) -> bool:
    """Whether there is a file. Raises MockServerError if it is no regular file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise MockServerError(
                f"the ready file {path} exists and is not a regular file; choose another"
            )
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as reason:
        raise _cannot_write(path, reason) from reason
    return True


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as reason:
        raise _cannot_write(path, reason) from reason


def _is_of_running_server(path: Path) -> bool:
    """Whether a server answers where the file says, in the process that it names."""
    try:
        facts = json.loads(path.read_bytes())
        url = urlsplit(str(facts["url"]))
        os.kill(facts["pid"], 0)
    except PermissionError:
        pass  # it is running, under another user
    except (OSError, ValueError, TypeError, LookupError, OverflowError):
        return False

    try:
        socket.create_connection((url.hostname, url.port), CONNECT).close()
    except (OSError, ValueError):
        return False
    return True


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
