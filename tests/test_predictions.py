"""A prediction's state is a pure function of its timeline, its cancel, and the time that has passed for it."""

import re
from itertools import pairwise

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from mockserver.clock import SECOND, parse_timestamp
from mockserver.lifecycle import TERMINAL, timeline
from mockserver.predictions import (
    Prediction,
    cancel,
    data_removed,
    effective_timeline,
    entered,
    jump,
    jump_to,
    next_stage,
    prediction_id,
    stage_at,
    times,
)
from tests.documents import CONTRACT

ORDER = {"starting": 0, "processing": 1, **dict.fromkeys(TERMINAL, 2)}
SECONDS = st.floats(0, 100, allow_nan=False)
AGES = st.integers(0, 300 * SECOND)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """A prediction with any lifecycle that the contract allows."""
    steps: list[tuple[str, float | None, str | None]] = []
    end = draw(st.sampled_from([*sorted(TERMINAL), None]))
    if draw(st.booleans()) or end in ("aborted", None):
        steps.append(("starting", draw(SECONDS), None))
    if end != "aborted" and draw(st.booleans()):
        steps.append(("processing", draw(SECONDS), None))
    if end is not None:
        steps.append((end, None, "why" if end == "failed" else None))
    return Prediction(
        id="w44zs9cet5rmc0cqzp49gpkhf8",
        tenant="t",
        operation_id="o",
        input=b"{}",
        given_size=None,
        created_at=draw(st.integers(0, 10**10)) * 1_000_000,
        born=draw(st.integers(0, 10**15)),
        timeline=timeline(steps),
        retention=draw(st.integers(0, 3600 * SECOND)),
    )


def status(prediction: Prediction, age: int) -> str:
    return stage_at(prediction, age).status


@given(predictions(), AGES, AGES, st.none() | AGES)
def test_statuses_never_go_back_and_a_terminal_one_stays(
    prediction: Prediction, one: int, other: int, canceled_at: int | None
) -> None:
    if canceled_at is not None:
        prediction = cancel(prediction, canceled_at)
    early, late = sorted((one, other))
    before, after = status(prediction, early), status(prediction, late)
    assert ORDER[before] <= ORDER[after]
    if before in TERMINAL:
        assert after == before


@given(predictions(), AGES, AGES)
def test_a_cancel_wins_only_before_the_end_and_then_for_good(prediction: Prediction, at: int, later: int) -> None:
    canceled = cancel(prediction, at)
    if status(prediction, at) in TERMINAL:
        assert canceled is prediction
    else:
        assert status(canceled, at) == status(canceled, at + later) == "canceled"
        assert next_stage(canceled, at) is None
        if at > 0:
            assert status(canceled, at - 1) == status(prediction, at - 1)


@given(predictions(), AGES, AGES)
def test_a_second_cancel_changes_nothing(prediction: Prediction, at: int, later: int) -> None:
    canceled = cancel(prediction, at)
    assert cancel(canceled, at + later) == canceled or status(prediction, at) in TERMINAL


@given(predictions(), AGES, st.none() | AGES)
def test_timestamps_are_in_order_and_agree_with_the_metrics(
    prediction: Prediction, age: int, canceled_at: int | None
) -> None:
    if canceled_at is not None:
        prediction = cancel(prediction, canceled_at)
    known = times(prediction, age)
    created = prediction.created_at
    started = parse_timestamp(known["started_at"]) if "started_at" in known else None
    completed = parse_timestamp(known["completed_at"]) if "completed_at" in known else None
    ended = status(prediction, age) in TERMINAL
    assert (completed is not None) is ended
    assert created <= (started or created) <= (completed or started or created) <= created + age
    if started is not None and completed is not None:
        assert known["predict_time"] == (completed - started) / SECOND
    if completed is not None:
        assert known["total_time"] == (completed - created) / SECOND
    if status(prediction, age) in ("processing", "succeeded", "failed"):
        assert started is not None
    if status(prediction, age) in ("starting", "aborted"):
        assert started is None


@given(predictions())
def test_jumping_lands_on_each_change_and_comes_to_an_end(prediction: Prediction) -> None:
    elapsed = prediction.born
    for _ in range(len(prediction.timeline)):
        age = prediction.age(elapsed)
        coming = next_stage(prediction, age)
        moved = jump(prediction, age)
        if coming is None:
            assert moved is prediction
        else:
            assert moved.age(elapsed) == coming.at
            assert status(moved, moved.age(elapsed)) == stage_at(prediction, coming.at).status
        prediction = moved
    assert next_stage(prediction, prediction.age(elapsed)) is None


@given(predictions(), st.lists(AGES), st.none() | AGES)
def test_each_stage_is_entered_once_however_time_is_cut_up(
    prediction: Prediction, cuts: list[int], canceled_at: int | None
) -> None:
    if canceled_at is not None:
        prediction = cancel(prediction, canceled_at)
    edges = [-1, *sorted(cuts), 400 * SECOND]
    seen = [stage for after, until in pairwise(edges) for stage in entered(prediction, after, until)]
    assert seen == list(effective_timeline(prediction))
    assert [stage.at for stage in seen] == sorted(stage.at for stage in seen)


@given(predictions(), AGES, st.integers(0, 10**13))
def test_data_are_removed_once_their_time_is_over_and_not_before_the_end(
    prediction: Prediction, age: int, since: int
) -> None:
    now = prediction.created_at + since
    removed = data_removed(prediction, age, now)
    stage = stage_at(prediction, age)
    over = max(age, since) >= stage.at + prediction.retention
    assert removed is (stage.status in TERMINAL and over)


@given(predictions(), AGES, AGES)
def test_moving_on_changes_nothing_but_the_time(prediction: Prediction, age: int, later: int) -> None:
    moved = jump_to(prediction, age, later)
    assert moved.age(7) - prediction.age(7) == later - age
    assert msgspec.structs.replace(moved, jumped=prediction.jumped) == prediction


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64), st.integers(0, 2**32))
def test_ids_are_fixed_by_key_and_number_and_look_like_the_documents(key: bytes, other: bytes, number: int) -> None:
    assume(key != other)
    identifier = prediction_id(key, number)
    assert identifier == prediction_id(key, number)
    assert len({identifier, prediction_id(key, number + 1), prediction_id(other, number)}) == 3
    assert re.fullmatch(CONTRACT.document["components"]["schemas"]["PredictionId"]["pattern"], identifier)
