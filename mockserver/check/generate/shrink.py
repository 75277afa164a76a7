"""Shrinking: removes or simplifies one part of a case at a time, the largest parts first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from mockserver.check.model import Case

PLAIN_TEXT = "a"
SEVERAL = 2  # parts; with more, it tries to remove many at once
# Not made smaller: an HTTP-date has whole seconds, so a shorter wait would be over already in some
# replays. The outcome of other limits would depend on the speed of the client.
TIMED = frozenset({"retry_after_date", "limits"})


def shrink(
    case: Case, first_failing: Callable[[Sequence[Case]], Case | None], at_once: int = 1
) -> Case:
    """The smallest case that can be reached by steps that all fail. No step is tried twice.

    `first_failing` gets up to `at_once` cases, and returns the first that fails. To stop the
    search, it returns None from then on; by raising, it would lose the smallest case so far.
    """
    tried = {case.key}
    while True:
        steps = _not_tried(case, tried)
        while batch := list(islice(steps, at_once)):
            failing = first_failing(batch)

            # Steps after the failing one do not count as tried, so that the result does not depend
            # on `at_once`.
            decided = batch if failing is None else batch[: batch.index(failing) + 1]
            tried.update(step.key for step in decided)
            if failing is not None:
                case = failing
                break
        else:
            return case


def _not_tried(case: Case, tried: set[bytes]) -> Iterator[Case]:
    offered: set[bytes] = set()
    for step in simpler(case):
        if step.key not in tried and step.key not in offered:
            offered.add(step.key)
            yield step


def simpler(case: Case) -> Iterator[Case]:
    """Cases that are one step smaller. Some may be invalid."""
    if case.concurrent > 1:
        yield from (
            msgspec.structs.replace(case, concurrent=fewer)
            for fewer in (1, 2)
            if fewer < case.concurrent
        )
    if case.clock != "autojump":
        yield msgspec.structs.replace(case, clock="autojump")
    if case.scenario:
        yield msgspec.structs.replace(case, scenario={})
    for scenario in _smaller(case.scenario):
        yield msgspec.structs.replace(case, scenario=scenario)
    for inputs in _smaller(case.input):
        yield msgspec.structs.replace(case, input=inputs)


def _smaller(value: Any) -> Iterator[Any]:
    """Values with a single part, with half the parts, without one, or with a smaller one."""
    if isinstance(value, dict):
        if len(value) > SEVERAL:
            yield from ({name: part} for name, part in value.items())
            yield from _halves(value)
        for name in value:
            yield {key: part for key, part in value.items() if key != name}
        for name, part in value.items():
            if name not in TIMED:
                yield from ({**value, name: less} for less in _smaller(part))
            elif isinstance(part, dict) and len(part) > 1:
                yield from ({**value, name: {key: inner}} for key, inner in part.items())
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
        for index, part in enumerate(value):
            yield from ([*value[:index], less, *value[index + 1 :]] for less in _smaller(part))
    elif isinstance(value, str):
        yield from _shorter(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from (plain for plain in (0, 1) if plain < value)


def _halves(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = list(value)
    for kept in (names[: len(names) // 2], names[len(names) // 2 :]):
        yield {name: value[name] for name in kept}


def _shorter(text: str) -> Iterator[str]:
    if len(text) > len(PLAIN_TEXT):
        yield PLAIN_TEXT
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]
        yield text[:-1]
