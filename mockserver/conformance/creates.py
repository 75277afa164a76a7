"""Which requests a gateway may take for a create, which is billed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.routing import compile_path

from mockserver.contract.operation import Operation

# What gateways decode, resolve or cut off, each in its own way: percent signs, parameters of a
# segment, backslashes, dot segments.
_AMBIGUOUS = re.compile(rb"[%;\\]|/\.{1,2}(/|\Z)")


class CreatePaths:
    """Tells the requests that may create from those that cannot.

    Any POST may create, unless its path can only be read as that of another operation of the
    contract, such as a cancel. The contract has a few models of many, and knows neither deployments
    nor trainings.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._harmless = [
            re.compile(compile_path(operation.path)[0].pattern, re.IGNORECASE)
            for operation in operations
            if operation.method == "POST" and operation.role != "create"
        ]

    def may_create(self, method: str, raw_path: bytes) -> bool:
        """Whether a gateway may take a request for a create; `raw_path` is as it was received."""
        if method != "POST":
            return False
        if _AMBIGUOUS.search(raw_path):
            return True
        # Gateways may ignore case, doubled slashes and the last one.
        path = re.sub("/+", "/", raw_path.decode("latin-1")).rstrip("/")
        return not any(pattern.match(path) for pattern in self._harmless)
