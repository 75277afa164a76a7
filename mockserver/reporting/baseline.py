"""Reports of earlier runs, whose findings are accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mockserver.errors import MockServerError
from mockserver.reporting.old_names import with_new_names

T = TypeVar("T")


def read_baseline_file(path: Path, command: str, convert: Callable[[Any], T]) -> T:
    """The contents of a baseline that `mockserver COMMAND` wrote, made of its JSON by `convert`.

    Raises MockServerError if the file cannot be read, is not JSON, or if `convert` raises
    msgspec.ValidationError.
    """
    try:
        value = msgspec.json.decode(path.read_bytes())
    except OSError as reason:
        raise MockServerError(f"cannot read the baseline {path}: {reason.strerror}") from reason
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        raise MockServerError(f"the baseline {path} is not JSON: {reason}") from reason

    try:
        return convert(with_new_names(value))
    except msgspec.ValidationError as reason:
        raise MockServerError(
            f"the baseline {path} is not a JSON report of `mockserver {command}`: {reason}"
        ) from reason
