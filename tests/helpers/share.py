"""Which cases of a test are run each time, and which only when there is more time."""

from collections.abc import Iterable
from typing import Any

import pytest


def first(count: int, values: Iterable[Any]) -> list[Any]:
    """The values as parameters; those after the first few are for `make test-thorough`."""
    return [
        pytest.param(value, marks=() if number < count else pytest.mark.thorough)
        for number, value in enumerate(values)
    ]
