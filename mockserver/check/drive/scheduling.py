"""How long a client was ready to run but got no processor, where the system counts that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
NANOSECONDS = 1_000_000_000


def seconds_without_processor(group: int | None = None) -> float:
    """Seconds that the processes of a group, or this process, waited for a processor.

    0 if the system does not count them. Linux does for each thread, in nanoseconds, in the second
    field of its `schedstat`.
    """
    folders = [_PROCESSES / "self"] if group is None else _members(group)
    waited = 0
    for folder in folders:
        with suppress(OSError, ValueError, IndexError):
            for thread in (folder / "task").iterdir():
                waited += int((thread / "schedstat").read_text().split()[1])
    return waited / NANOSECONDS


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
