"""How large a case of the kit is to its reader."""

from typing import Any

from mockserver.check.model import Case


def size(case: Case) -> int:
    """How much there is to read in a case: its names and values, but for the model and the prompt's text."""
    return _leaves(case.scenario) + _leaves(case.input)


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(1 + _leaves(part) for part in value.values())
    if isinstance(value, list):
        return sum(_leaves(part) for part in value)
    return 1
