"""What a request may have been meant for that no operation takes. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from mockserver.operation import Operation

MAX_COMPARED = 150  # characters of a path


def nearest(operations: Sequence[Operation], method: str, path: str) -> Operation:
    """The operation whose method and path look most like those given."""
    asked = path[:MAX_COMPARED].split("/")

    def likeness(operation: Operation) -> float:
        parts = operation.path.split("/")
        filled = [
            there if "{" in part and there else part
            for part, there in zip_longest(parts, asked[: len(parts)], fillvalue="")
        ]
        same = difflib.SequenceMatcher(None, path[:MAX_COMPARED], "/".join(filled)).ratio()
        return same + operation.ends_like(path[:MAX_COMPARED]) + (0.05 if operation.method == method else 0)

    return max(operations, key=likeness)


def is_left_out(roots: Iterable[str], operations: Sequence[Operation], path: str) -> bool:
    """Whether a path, with or without its prefix, is one of these roots, or under one that no operation is under."""
    for root in roots:
        alone = not any(operation.path.startswith(root + "/") for operation in operations)
        pieces = root.split("/")[1:]
        for skipped in range(len(pieces)):
            place = "/" + "/".join(pieces[skipped:])
            if path == place or (alone and path.startswith(place + "/")):
                return True
    return False
