"""The fixed cases: first the plain one, then one difference each, the likeliest bugs first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mockserver.check.generate.inputs import boundary_inputs
from mockserver.check.model import Case, operation_of
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.scenarios.timeline import TERMINAL

Json = dict[str, Any]
# Longer than `Prefer: wait` waits, so that every client has to poll. Under autojump this takes no
# real time.
LONG_STEPS: list[Json] = [
    {"status": "starting", "seconds": 1},
    {"status": "processing", "seconds": 120},
]
REAL_TIME_LIFECYCLE: list[Json] = [
    {"status": "starting", "seconds": 0.2},
    {"status": "processing", "seconds": 1.2},
    {"status": "succeeded"},
]
_SUCCEEDING: list[Json] = [*LONG_STEPS, {"status": "succeeded"}]
# Statuses that no gateway has a reason to send for a valid create.
IMPLAUSIBLE = frozenset({404, 405, 413, 415})
# Statuses that do not say whether a create took effect; after 429 and 503 it did not.
AMBIGUOUS = (500, 502, 504)
UNREADABLE_RETRY_AFTER = "soon"
# Seconds; generated clients ignore a Retry-After of more than a minute, and retry immediately.
LONG_RETRY_AFTER = 90
# Requests per minute; the outcome of a faster limit would depend on the speed of the machine.
A_SECOND = 60
# With a Content-Length that matches.
MAX_DRIP = 600  # seconds, as the schema of scenarios has it
SPOILT_BODIES: tuple[Json, ...] = ({"body": "malformed"}, {"body": "empty"})


def fixed_cases(
    contract: Contract, models: Sequence[str], client_timeout: float | None
) -> Iterator[Case]:
    """The cases in the order of their runs; some may be invalid under other contracts."""
    first = models[0]
    minimal = next(boundary_inputs(operation_of(contract, first)))
    reader = contract.reader
    assert reader is not None
    yield Case(model=first, input=minimal)
    # Every client has to poll here. It comes early, since the operations that a client has used
    # decide which cases are run.
    yield Case(model=first, input=minimal, scenario={"lifecycle": _SUCCEEDING})
    for scenario in _most_likely():
        yield Case(model=first, input=minimal, scenario=scenario)
    for model in models:
        for inputs in boundary_inputs(operation_of(contract, model)):
            yield Case(model=model, input=inputs)
    for scenario in _others(contract, operation_of(contract, first), reader, client_timeout):
        yield Case(model=first, input=minimal, scenario=scenario)
    yield Case(
        model=first, input=minimal, scenario={"lifecycle": REAL_TIME_LIFECYCLE}, clock="real"
    )


def _most_likely() -> Iterator[Json]:
    yield from ({"faults": {"createPrediction": [fault]}} for fault in _lost_responses())
    yield from _ends()


def _others(
    contract: Contract, create: Operation, reader: Operation, client_timeout: float | None
) -> Iterator[Json]:
    succeeding = _SUCCEEDING
    yield from (
        {"faults": {"createPrediction": [fault]}} for fault in _refusals(create, IMPLAUSIBLE)
    )
    polling = [*_refusals(reader, IMPLAUSIBLE - {404}), *_broken_responses()]
    yield from (
        {"lifecycle": succeeding, "faults": {"getPrediction": [fault]}} for fault in polling
    )
    yield from ({"lifecycle": lifecycle} for lifecycle in _many_polls())
    yield {"urls": "foreign"}
    yield {"lifecycle": succeeding, "urls": "foreign"}
    yield from _variety(contract)
    yield {"lifecycle": succeeding, "wait": "processing"}
    yield {"wait": "final"}
    yield {"lifecycle": succeeding, "faults": {"getPrediction": [{"status": 404, "times": 2}]}}
    yield {"retention": 0}
    for status in (401, 402, 422, 429):
        yield {"errors": "new-api", "faults": {"createPrediction": [{"status": status}]}}
    yield {
        "errors": "new-api",
        "lifecycle": succeeding,
        "faults": {"getPrediction": [{"status": 401}]},
    }
    for end in ("failed", "canceled"):
        yield {"lifecycle": [*LONG_STEPS, {"status": end}], "webhooks": {"forged": True}}
    for quirk in (
        {"cut_after": 1},
        {"cut_after": 0},
        {"cut_after": 1, "retry": 0.1},
        {"duplicate": [0, 1]},
        {"duplicate": [1, 2]},
        {"gap": [1]},
        {"split": True},
    ):
        yield {"stream": quirk}
    yield from ({"webhooks": part} for part in _odd_webhooks())
    yield from _endless(client_timeout)
    yield from _throttled(succeeding)
    yield from _outages(succeeding)
    for fault in (
        {"status": 404},
        {"status": 503},
        {"cut": 0.5},
        {"disconnect": "reset"},
        *SPOILT_BODIES,
    ):
        yield {"faults": {name: [fault] for name in _delivering(contract)}}
    yield {"lifecycle": succeeding, "faults": {"getPrediction": [{"delay": 0.3}, {"drip": 0.3}]}}
    yield {"faults": {"createPrediction": [{"delay": 2, "after": "commit"}]}}
    if client_timeout is None:  # these last until the deadline, so they come last
        yield from _useless_webhooks()
        yield _silent_poll()
        yield _silent_create()
        yield {"faults": {"createPrediction": [{"status": 429, "retry_after": LONG_RETRY_AFTER}]}}


def _many_polls() -> Iterator[list[Json]]:
    """Lifecycles in which a status stays the same for many polls."""
    starting, processing = LONG_STEPS
    yield [{**starting, "polls": 3}, processing, {"status": "succeeded"}]
    for polls in (3, 12, 60):
        yield [starting, {**processing, "polls": polls}, {"status": "succeeded"}]


def _ends() -> Iterator[Json]:
    """Every terminal status, for clients that poll and for clients that use `Prefer: wait`."""
    for status in sorted(TERMINAL):
        begun = LONG_STEPS[:1] if status == "aborted" else LONG_STEPS
        yield {"lifecycle": [*begun, {"status": status}]}
        yield {"lifecycle": [{"status": status}]}
    # Ends after `Prefer: wait` has expired.
    yield {"lifecycle": [{"status": "starting", "seconds": 120}, {"status": "aborted"}]}
    yield {"lifecycle": [LONG_STEPS[0], {"status": "failed", "error": "NSFW content detected"}]}
    yield {"lifecycle": [*LONG_STEPS, {"status": "failed", "error": None}]}
    yield {"lifecycle": [{"status": "failed", "error": None}]}
    yield {"lifecycle": [LONG_STEPS[0], {"status": "canceled"}]}


def _lost_responses() -> Iterator[Json]:
    """The create takes effect, but its response is lost."""
    yield {"disconnect": "reset", "after": "commit"}
    yield {"disconnect": "close", "after": "commit"}
    yield from ({"status": status, "after": "commit"} for status in AMBIGUOUS)
    yield from _broken_responses()


def _broken_responses() -> Iterator[Json]:
    yield from ({"cut": 0.5}, *SPOILT_BODIES)


def _refusals(operation: Operation, without: frozenset[int]) -> Iterator[Json]:
    statuses = [status for status in operation.responses if status >= 400 and status not in without]
    yield from ({"status": status} for status in statuses)
    yield from ({"status": status, "page": "html"} for status in statuses if status in (429, 502))
    yield from ({"status": status, "page": "empty"} for status in statuses if status in (429, 500))
    yield from ({"disconnect": how} for how in ("reset", "close"))


def _variety(contract: Contract) -> Iterator[Json]:
    """What the contract leaves open, one variation at a time."""
    schema = contract.prediction_schema
    nested = [f"urls.{name}" for name in schema["properties"].get("urls", {}).get("properties", {})]
    optional = [
        name for name in schema["properties"] if name not in schema.get("required", [])
    ] + nested
    yield {"body": {"extra": {"queue_position": 3, "x_nested": {"list": [1, None]}}}}
    yield {"body": {"null": ["logs"]}}
    yield from ({"body": {"omit": [name]}} for name in optional)
    yield from ({"body": {"null": [name]}} for name in schema["properties"] if name != "logs")
    yield from ({"body": {"fraction": digits}} for digits in (0, 6, 9, 3))
    yield {"body": {"extra": {"source": "api"}, "total_time": True}}
    yield {"body": {"input": "effective"}}
    yield {"headers": {"X-Request-Cost": "0", "ratelimit-remaining": "599", "ratelimit-reset": "1"}}
    yield {"charset": "UTF-8"}
    yield {"gzip": True}
    yield {"chunked": True}
    yield {"header_names": "title"}
    yield from ({"create_status": status} for status in (200, 201, 202))


def _throttled(succeeding: list[Json]) -> Iterator[Json]:
    """Retry-After in every form. Each takes a second, so they come late."""
    create, poll = "createPrediction", "getPrediction"
    yield from (
        {"faults": {create: [{"status": status, "retry_after": 1}]}} for status in (429, 503)
    )
    yield {"faults": {create: [{"status": 429, "retry_after": 1, "times": 2}]}}
    yield {"faults": {create: [{"status": 429, "retry_after": UNREADABLE_RETRY_AFTER}]}}
    yield {"lifecycle": succeeding, "faults": {poll: [{"status": 429, "retry_after": 1}]}}
    yield {
        "lifecycle": succeeding,
        "faults": {poll: [{"status": 429, "retry_after": UNREADABLE_RETRY_AFTER}]},
    }
    yield {"faults": {create: [{"status": 429, "retry_after": 1, "header": False}]}}
    yield {"limits": {create: {"per_minute": A_SECOND, "left": 0}}}
    yield {"lifecycle": succeeding, "limits": {poll: {"per_minute": A_SECOND}}}
    yield {"faults": {create: [{"status": 429, "retry_after_date": 0.3}]}}
    yield {"lifecycle": succeeding, "faults": {poll: [{"status": 503, "retry_after_date": 0.3}]}}


def _outages(succeeding: list[Json]) -> Iterator[Json]:
    """Failures that last."""
    for fault in ({"status": 503}, {"status": 429}, {"disconnect": "reset"}):
        endless = [{**fault, "times": "always"}]
        yield {"lifecycle": succeeding, "faults": {"getPrediction": endless}}
        yield {"faults": {"createPrediction": endless}}
    spoilt: tuple[Json, ...] = ({"status": 404}, {"cut": 0.5}, SPOILT_BODIES[0])
    yield from (
        {"lifecycle": succeeding, "faults": {"getPrediction": [{**fault, "times": "always"}]}}
        for fault in spoilt
    )
    yield {"faults": {"createPrediction": [{"cut": 0.5, "times": "always"}]}}
    for status in (401, 402, 422):
        yield {"faults": {"createPrediction": [{"status": status, "times": "always"}]}}
    for status in (401, 403):
        yield {
            "lifecycle": succeeding,
            "faults": {"getPrediction": [{"status": status, "times": "always"}]},
        }


def _endless(client_timeout: float | None) -> Iterator[Json]:
    """Predictions and responses that never end, for a client that declares a timeout."""
    if client_timeout is None:
        return
    yield {"lifecycle": [{"status": "starting", "seconds": 0.4}, {"status": "processing"}]}
    yield {"lifecycle": [{"status": "starting"}]}
    yield {
        "lifecycle": [{"status": "starting"}],
        "faults": {"cancelPrediction": [{"status": 503, "times": "always"}]},
    }
    yield {
        "lifecycle": [{"status": "starting"}],
        "faults": {"cancelPrediction": [{"stall": 0.5}]},
    }
    # Each piece arrives within a timeout for reading, the whole body does not within the client's.
    yield {
        "lifecycle": _SUCCEEDING,
        "faults": {"getPrediction": [{"drip": min(MAX_DRIP, 2 * client_timeout + 4)}]},
    }
    yield _silent_poll()
    yield from _useless_webhooks()
    yield _silent_create()


def _odd_webhooks() -> Iterator[Json]:
    """Faults among webhooks that still let a client learn the outcome."""
    yield from ({"forged": True}, {"duplicate": True}, {"out_of_order": True}, {"late": 0.3})


def _useless_webhooks() -> Iterator[Json]:
    """Webhooks that a client must not trust; unless it polls too, it waits for its timeout."""
    for part in ({"signature": "wrong"}, {"timestamp": "stale"}, {"lost": True}):
        yield {"webhooks": part}


def _silent_poll() -> Json:
    """A response to a poll that stalls halfway."""
    return {"lifecycle": _SUCCEEDING, "faults": {"getPrediction": [{"stall": 0.5}]}}


def _silent_create() -> Json:
    """The same for a create that has taken effect: the client must not repeat it."""
    return {"faults": {"createPrediction": [{"stall": 0.5}]}}


def _delivering(contract: Contract) -> list[str]:
    return [
        operation.operation_id
        for operation in contract.of_role("deliver")
        if operation.method == "GET"
    ]
