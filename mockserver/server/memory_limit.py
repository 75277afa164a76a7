"""How much memory this process is allowed, by its limits and by the container's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mockserver.backend.backend import MIN_MEMORY
from mockserver.backend.store import MAX_MEMORY


def default_max_memory() -> int:
    """The bytes that may be kept for clients: half of what is allowed, and at most MAX_MEMORY.

    The other half is for the interpreter, its libraries, and requests that are being answered.
    """
    allowed = min([*_limits_of_process(), *_limits_of_cgroup(Path("/"))], default=2 * MAX_MEMORY)
    return max(MIN_MEMORY, min(MAX_MEMORY, allowed // 2))


def _limits_of_process() -> Iterator[int]:
    """The limit on the address space (`ulimit -v`), in bytes, if there is one."""
    try:
        import resource
    except ImportError:
        return  # not a Unix
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit


def _limits_of_cgroup(root: Path) -> Iterator[int]:
    """The limits of this process's control group and of those above it, in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return

    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # A container may see the path as the host has it; of that only the top exists here.
        path = Path(group.lstrip("/"))
        for part in (path, *path.parents):
            with suppress(OSError, ValueError):  # `max` is no number
                yield int((folder / part / name).read_text())
