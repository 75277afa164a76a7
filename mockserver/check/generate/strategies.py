"""Hypothesis strategies for cases.

A call and its whole scenario are sampled in advance, as one JSON value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from mockserver.check.generate.catalogue import (
    A_SECOND,
    AMBIGUOUS,
    IMPLAUSIBLE,
    LONG_STEPS,
    UNREADABLE_RETRY_AFTER,
)
from mockserver.check.generate.inputs import inputs
from mockserver.check.model import Case, operation_of
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.errors import ScenarioError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.timeline import TERMINAL

Json = dict[str, Any]
STEP_SECONDS = (0, 0.4, 3.5, 30, 120)  # in a prediction's time; none in real time under autojump
JSON_SCALARS = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=10)


def cases(
    catalogue: Catalogue, contract: Contract, models: Sequence[str]
) -> st.SearchStrategy[Case]:
    """A call of one of the models, and a scenario that the contract allows."""
    calls = st.one_of([_calls(contract, model) for model in models])
    return st.builds(
        lambda call, scenario: Case(model=call[0], input=call[1], scenario=scenario),
        calls,
        scenarios(catalogue, contract),
    )


def _calls(contract: Contract, model: str) -> st.SearchStrategy[tuple[str, Json]]:
    return st.tuples(st.just(model), inputs(operation_of(contract, model)))


def scenarios(catalogue: Catalogue, contract: Contract) -> st.SearchStrategy[Json]:
    """A scenario as a JSON value with what differs from the default."""
    create = next(iter(contract.models.values()))
    assert contract.reader is not None
    faults = st.fixed_dictionaries(
        {},
        optional={
            "createPrediction": _scripts(_faults(create, committing=True)),
            "getPrediction": _scripts(_faults(contract.reader, committing=False)),
        },
    )
    limited = st.fixed_dictionaries(
        {"per_minute": st.just(A_SECOND), "burst": st.integers(1, 3)},
        optional={"left": st.integers(0, 1)},
    )
    parts: Mapping[str, st.SearchStrategy[Any]] = {
        "lifecycle": _lifecycles(),
        "sometimes": _rarely(st.lists(_shares(), min_size=1, max_size=2)),
        "faults": faults,
        "faults_per": st.sampled_from(["tenant", "prediction"]),
        "limits": _rarely(
            st.dictionaries(
                st.sampled_from(["createPrediction", "getPrediction"]), limited, min_size=1
            )
        ),
        "stream": _rarely(_streams()),
        "webhooks": _rarely(
            st.fixed_dictionaries(
                {}, optional=dict.fromkeys(("forged", "duplicate", "out_of_order"), st.just(True))
            )
        ),
        "body": _bodies(contract),
        "headers": st.dictionaries(
            st.sampled_from(["X-Served-By", "X-Cost", "x-trace", "ratelimit-remaining"]),
            st.sampled_from(["0", "a b"]),
        ),
        "create_status": st.sampled_from([status for status in create.responses if status < 300]),
        "urls": st.sampled_from(["local", "foreign"]),
        "errors": st.sampled_from(["replicate", "new-api"]),
        "charset": st.just("UTF-8"),
        "gzip": st.just(True),
        "chunked": st.just(True),
        "header_names": st.just("title"),
        "wait": st.sampled_from(["final", "processing"]),
        "retention": st.sampled_from([3600, 0]),
    }
    samples = st.fixed_dictionaries({}, optional=dict(parts)).map(
        lambda scenario: {name: part for name, part in scenario.items() if part is not None}
    )
    return samples.filter(lambda scenario: _is_scenario(catalogue, scenario))


def _rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value in one of eight samples, else None: for parts that are slow or hide others."""
    return st.integers(1, 8).flatmap(lambda number: strategy if number == 7 else st.none())


def _lifecycles() -> st.SearchStrategy[list[Json]]:
    def steps(draw: Any) -> list[Json]:
        end = draw(st.sampled_from(["succeeded", *sorted(TERMINAL - {"succeeded"})]))
        begun = [
            {
                **step,
                "seconds": draw(st.sampled_from(STEP_SECONDS)),
                **draw(st.sampled_from([{}, {}, {"polls": 2}, {"polls": 5}])),
            }
            for step in LONG_STEPS
            if draw(st.booleans())
        ]
        if end == "aborted":
            begun = [step for step in begun if step["status"] == "starting"]
        last = {"status": end}
        if end == "failed" and draw(st.booleans()):
            last["error"] = draw(
                st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
            )
        return [*begun, last]

    return st.composite(steps)()


def _shares() -> st.SearchStrategy[Json]:
    """A lifecycle for a share of the predictions."""
    return st.fixed_dictionaries(
        {"chance": st.sampled_from([0.5, 0.25]), "lifecycle": _lifecycles()}
    )


def _streams() -> st.SearchStrategy[Json]:
    """Faults among the events of a stream."""
    events = st.lists(st.integers(0, 3), unique=True, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "cut_after": st.integers(0, 3),
            "duplicate": events,
            "gap": events,
            "split": st.just(True),
            "retry": st.sampled_from([0, 0.1]),
        },
    )


def _scripts(faults: st.SearchStrategy[Json]) -> st.SearchStrategy[list[Json | None]]:
    script = st.lists(st.none() | faults, min_size=1, max_size=3)
    return st.builds(_with_lasting_end, script, st.sampled_from([False, False, False, True]))


def _with_lasting_end(script: list[Json | None], always: bool) -> list[Json | None]:
    """The script; if `always`, its last fault never ends, unless it is a delay or a wait.

    Those would test nothing.
    """
    last = script[-1]
    if not always or last is None or "delay" in last or "drip" in last or "retry_after" in last:
        return script
    return [*script[:-1], {**last, "times": "always"}]


def _faults(operation: Operation, *, committing: bool) -> st.SearchStrategy[Json]:
    statuses = [
        status for status in operation.responses if status >= 400 and status not in IMPLAUSIBLE
    ]
    failed = st.fixed_dictionaries(
        {"status": st.sampled_from(statuses)},
        optional={
            "page": st.sampled_from(["api", "html", "text", "empty"]),
            "chance": st.sampled_from([0.5, 0.25]),
        },
    )
    throttled = st.fixed_dictionaries(
        {
            "status": st.sampled_from([429, 503]),
            "retry_after": st.sampled_from([0, 1, UNREADABLE_RETRY_AFTER]),
        }
    )
    dropped = st.fixed_dictionaries({"disconnect": st.sampled_from(["reset", "close"])})
    body_broken: st.SearchStrategy[Json] = st.sampled_from(
        [{"cut": 0}, {"cut": 0.5}, {"body": "malformed"}, {"body": "empty"}]
    )
    slow: st.SearchStrategy[Json] = st.sampled_from([{"delay": 0.05}, {"drip": 0.1}])
    fault = st.one_of(failed, dropped, body_broken, slow, throttled)
    if not committing:
        return fault
    response_lost = st.fixed_dictionaries(
        {"status": st.sampled_from([status for status in statuses if status in AMBIGUOUS])}
    )
    return st.one_of(
        fault, st.one_of(response_lost, dropped).map(lambda lost: {**lost, "after": "commit"})
    )


def _bodies(contract: Contract) -> st.SearchStrategy[Json]:
    schema = contract.prediction_schema
    optional = [name for name in schema["properties"] if name not in schema.get("required", [])]
    return st.fixed_dictionaries(
        {},
        optional={
            "input": st.just("effective"),
            "total_time": st.just(True),
            "extra": st.just({"source": "api"})
            | st.dictionaries(
                st.sampled_from(["queue_position", "x", "créé"]), JSON_SCALARS, max_size=2
            ),
            "omit": st.lists(st.sampled_from([*optional, "urls.stream"]), unique=True, max_size=3),
            "null": st.lists(st.sampled_from(list(schema["properties"])), unique=True, max_size=2),
            "fraction": st.integers(0, 9),
        },
    )


def _is_scenario(catalogue: Catalogue, scenario: Json) -> bool:
    try:
        catalogue.parse(scenario)
    except ScenarioError:
        return False
    return True
