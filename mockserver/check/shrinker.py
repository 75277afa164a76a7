"""Smaller cases: whatever can be left out or made plainer, one thing at a time, the biggest things first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mockserver.check.cases import Case

PLAIN_TEXT = "a"
TIMED = frozenset({"retry_after_date"})  # made smaller, it would ask for nothing on every other replay


def shrink(case: Case, still_fails: Callable[[Case], bool]) -> Case:
    """The smallest case that can be reached by steps each of which still fails. Nothing is asked twice.

    `still_fails` may raise to end the search; what was reached by then is lost, so it had better answer no.
    """
    asked = {case.key}
    smaller = True
    while smaller:
        smaller = False
        for candidate in simpler(case):
            if candidate.key in asked:
                continue
            asked.add(candidate.key)
            if still_fails(candidate):
                case, smaller = candidate, True
                break
    return case


def simpler(case: Case) -> Iterator[Case]:
    """Cases that are a step smaller. Not all of them are valid."""
    if case.clock != "autojump":
        yield msgspec.structs.replace(case, clock="autojump")
    if case.scenario:
        yield msgspec.structs.replace(case, scenario={})
    for scenario in _smaller(case.scenario):
        yield msgspec.structs.replace(case, scenario=scenario)
    for given in _smaller(case.input):
        yield msgspec.structs.replace(case, input=given)


def _smaller(value: Any) -> Iterator[Any]:
    """Values a step smaller: first without a part, then with a part made smaller."""
    if isinstance(value, dict):
        for name in value:
            yield {key: part for key, part in value.items() if key != name}
        for name, part in value.items():
            if name not in TIMED:
                yield from ({**value, name: less} for less in _smaller(part))
    elif isinstance(value, list):
        for place in range(len(value)):
            yield value[:place] + value[place + 1 :]
        for place, part in enumerate(value):
            yield from ([*value[:place], less, *value[place + 1 :]] for less in _smaller(part))
    elif isinstance(value, str):
        yield from _shorter(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from (plain for plain in (0, 1) if plain < value)


def _shorter(text: str) -> Iterator[str]:
    if len(text) > len(PLAIN_TEXT):
        yield PLAIN_TEXT
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]
        yield text[:-1]
