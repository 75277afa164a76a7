"""A run of several calls, taken apart into runs of one, which are judged one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from mockserver.backend.journal import Exchange
from mockserver.check.model import Outcome, Run
from mockserver.check.rules.evidence import body_sent
from mockserver.contract.operation import Operation

_NUMBER = re.compile(r"(\d+): ")


def numbered(operation: Operation, given: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The input of a call, from 1, of several: told apart by the prompt."""
    prompt = operation.picture["prompt"]
    return {**given, prompt: f"{number}: {given[prompt]}"}


def calls_of(run: Run) -> tuple[Run, ...]:
    """The runs of the calls that a run is made of, each with its own exchanges; the run itself, if it is of one call.

    What cannot be ascribed to a call is the first one's.
    """
    if run.case.concurrent == 1:
        return (run,)
    owners: dict[str, int] = {}
    places: list[list[int]] = [[] for _ in range(run.case.concurrent)]
    for index, exchange in enumerate(run.exchanges):
        if run.role(exchange) == "list":  # which tells every call of its prediction
            for place in places:
                place.append(index)
            continue
        owner = _number_in(run, exchange) or owners.get(exchange.prediction_id or "", 1)
        owner = owner if owner <= run.case.concurrent else 1
        if exchange.prediction_id is not None:
            owners.setdefault(exchange.prediction_id, owner)
        places[owner - 1].append(index)
    return tuple(
        _call(run, number, owners, tuple(places[number - 1]))
        for number in range(1, run.case.concurrent + 1)
    )


def _call(run: Run, number: int, owners: Mapping[str, int], positions: tuple[int, ...]) -> Run:
    def own(made: Mapping[str, Any]) -> list[Any]:
        return [
            picture for identifier, picture in made.items() if owners.get(identifier, 1) == number
        ]

    given = numbered(run.operation, run.case.input, number)
    outputs, bodies = frozenset(own(run.pictures)), own(run.bodies)
    everything: set[str | bytes] = {*run.pictures.values(), *run.bodies.values()}
    spoilt = [body for body in run.delivered if body not in run.bodies.values()]
    return replace(
        run,
        case=msgspec.structs.replace(run.case, input=given, concurrent=1),
        outcome=_part(run.outcome, number),
        control_run=_part(run.control_run, number) if run.control_run is not None else None,
        exchanges=tuple(run.exchanges[position] for position in positions),
        exchange_indexes=positions,
        outputs=outputs,
        final_statuses={
            identifier: end
            for identifier, end in run.final_statuses.items()
            if owners.get(identifier, 1) == number
        },
        delivered=(*bodies, *spoilt),
        other_outputs=frozenset(everything - outputs - {*bodies}),
    )


def _part(outcome: Outcome, number: int) -> Outcome:
    return outcome.parts[number - 1] if outcome.parts else outcome


def _number_in(run: Run, exchange: Exchange) -> int | None:
    """The number of the call that a create was sent for."""
    if run.role(exchange) != "create":
        return None
    given = body_sent(exchange).get("input")
    prompt = given.get(run.operation.picture["prompt"]) if isinstance(given, dict) else None
    found = _NUMBER.match(prompt) if isinstance(prompt, str) else None
    return int(found[1]) if found else None
