"""Runs of several concurrent calls, split into one run for each call."""

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


def numbered(operation: Operation, base: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The input of call `number`, from 1: `base` with the number at the start of its prompt."""
    prompt = operation.picture["prompt"]
    return {**base, prompt: f"{number}: {base[prompt]}"}


def calls_of(run: Run) -> tuple[Run, ...]:
    """A run for each call, with the exchanges of that call; the run itself if it has one call.

    Exchanges that cannot be attributed to a call belong to the first one.
    """
    if run.case.concurrent == 1:
        return (run,)
    owners: dict[str, int] = {}
    places: list[list[int]] = [[] for _ in range(run.case.concurrent)]
    for index, exchange in enumerate(run.exchanges):
        if run.role(exchange) == "list":  # it has the predictions of all calls
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
    """The run of call `number`. `owners` has the number of the call for each prediction id."""

    def own(made: Mapping[str, Any]) -> list[Any]:
        return [
            picture for identifier, picture in made.items() if owners.get(identifier, 1) == number
        ]

    own_input = numbered(run.operation, run.case.input, number)
    outputs, bodies = frozenset(own(run.pictures)), own(run.bodies)
    everything: set[str | bytes] = {*run.pictures.values(), *run.bodies.values()}
    spoilt = [body for body in run.delivered if body not in run.bodies.values()]

    return replace(
        run,
        case=msgspec.structs.replace(run.case, input=own_input, concurrent=1),
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
    """The number of the call that sent a create, if its prompt has one."""
    if run.role(exchange) != "create":
        return None
    sent = body_sent(exchange).get("input")
    prompt = sent.get(run.operation.picture["prompt"]) if isinstance(sent, dict) else None
    match = _NUMBER.match(prompt) if isinstance(prompt, str) else None
    return int(match[1]) if match else None
