"""How long a client was ready to run but got no processor, where the system counts that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
NANOSECONDS = 1_000_000_000


def seconds_without_processor(group: int) -> float:
    """Seconds that the processes of a group waited for a processor.

    0 if the system does not count them. Linux does for each thread, in nanoseconds, in the second
    field of its `schedstat`.
    """
    waited = 0.0
    for folder in _members(group):
        with suppress(OSError):
            waited += sum(map(_of_thread, (folder / "task").iterdir()))
    return waited


def thread_seconds_without_processor(native_id: int | None) -> float:
    """The same of a thread of this process, by the id that the system has for it."""
    return _of_thread(_PROCESSES / "self" / "task" / str(native_id))


def _of_thread(folder: Path) -> float:
    with suppress(OSError, ValueError, IndexError):
        return int((folder / "schedstat").read_text().split()[1]) / NANOSECONDS
    return 0.0


def _members(group: int) -> Iterator[Path]:
    """The folders in /proc of the processes in a process group."""
    with suppress(OSError):
        for folder in _PROCESSES.iterdir():
            if folder.name.isdecimal():
                with suppress(OSError, ValueError, IndexError):
                    # The parenthesized name may contain spaces; the group is third after it.
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == group:
                        yield folder
