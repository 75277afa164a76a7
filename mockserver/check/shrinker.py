"""Shrinking: leaves out or simplifies one thing of a case at a time, the largest things first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mockserver.check.cases import Case

PLAIN_TEXT = "a"
# Not made smaller: an HTTP-date has whole seconds, so a shorter wait would have passed already in some replays.
TIMED = frozenset({"retry_after_date"})


def shrink(case: Case, still_fails: Callable[[Case], bool]) -> Case:
    """The smallest case that can be reached in steps that each still fail. No case is played twice.

    To end the search, `still_fails` returns False from then on; if it raised, the smallest case so far would be lost.
    """
    seen = {case.key}
    smaller = True
    while smaller:
        smaller = False
        for candidate in simpler(case):
            if candidate.key in seen:
                continue
            seen.add(candidate.key)
            if still_fails(candidate):
                case, smaller = candidate, True
                break
    return case


def simpler(case: Case) -> Iterator[Case]:
    """Cases that are one step smaller. Not all of them are valid."""
    if case.clock != "autojump":
        yield msgspec.structs.replace(case, clock="autojump")
    if case.scenario:
        yield msgspec.structs.replace(case, scenario={})
    for scenario in _smaller(case.scenario):
        yield msgspec.structs.replace(case, scenario=scenario)
    for given in _smaller(case.input):
        yield msgspec.structs.replace(case, input=given)


def _smaller(value: Any) -> Iterator[Any]:
    """Values that are one step smaller: first those without a part, then those with a smaller part."""
    if isinstance(value, dict):
        for name in value:
            yield {key: part for key, part in value.items() if key != name}
        for name, part in value.items():
            if name not in TIMED:
                yield from ({**value, name: less} for less in _smaller(part))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
        for index, part in enumerate(value):
            yield from ([*value[:index], less, *value[index + 1 :]] for less in _smaller(part))
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
