"""A prediction's state is a pure function of its timeline, its cancel, and the time that has passed for it."""

import re
from itertools import pairwise

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from mockserver.backend.backend import Backend, Options
from mockserver.backend.prediction import (
    Prediction,
    advance_to,
    advance_to_next,
    cancel,
    data_removed,
    effective_timeline,
    entered,
    next_stage,
    prediction_id,
    shard_of,
    stage_at,
    worked,
)
from mockserver.clock import SECOND, parse_timestamp
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.timeline import TERMINAL, build_timeline
from tests.helpers.documents import CONTRACT

BACKEND = Backend(CONTRACT, Catalogue(CONTRACT), Options())

ORDER = {"starting": 0, "processing": 1, **dict.fromkeys(TERMINAL, 2)}
SECONDS = st.floats(0, 100, allow_nan=False)
AGES = st.integers(0, 300 * SECOND)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """A prediction with any lifecycle that the contract allows."""
    steps: list[tuple[str, float | None, str | None, int]] = []
    end = draw(st.sampled_from([*sorted(TERMINAL), None]))
    if draw(st.booleans()) or end in ("aborted", None):
        steps.append(("starting", draw(SECONDS), None, 1))
    if end != "aborted" and draw(st.booleans()):
        steps.append(("processing", draw(SECONDS), None, 1))
    if end is not None:
        steps.append((end, None, "why" if end == "failed" else None, 1))
    return Prediction(
        id="w44zs9cet5rmc0cqzp49gpkhf8",
        operation_id="o",
        input=b"{}",
        given_size=None,
        created_at=draw(st.integers(0, 10**10)) * 1_000_000,
        created_elapsed=draw(st.integers(0, 10**15)),
        timeline=build_timeline(steps),
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
def test_a_cancel_wins_only_before_the_end_and_then_for_good(
    prediction: Prediction, at: int, later: int
) -> None:
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
def test_work_begins_before_it_ends(
    prediction: Prediction, age: int, canceled_at: int | None
) -> None:
    if canceled_at is not None:
        prediction = cancel(prediction, canceled_at)
    started, ended = worked(effective_timeline(prediction), stage_at(prediction, age))
    assert (ended is not None) is (status(prediction, age) in TERMINAL)
    assert 0 <= (started or 0) <= (ended or started or 0) <= age
    passed = {stage.status for stage in effective_timeline(prediction) if stage.at <= age}
    assert (started is not None) is bool(passed & {"processing", "succeeded"})


@given(
    predictions(), AGES, st.none() | AGES, st.lists(st.integers(0, 2**32), min_size=2, max_size=2)
)
def test_what_is_shown_of_a_prediction_agrees_with_itself_and_the_contract(
    prediction: Prediction, age: int, canceled_at: int | None, seeds: list[int]
) -> None:
    operation = next(iter(CONTRACT.models.values()))
    reader = CONTRACT.of_role("get")[0]
    if canceled_at is not None:
        prediction = cancel(prediction, canceled_at)
    for seed in seeds:
        encoded = msgspec.json.encode({"prompt": "a cat", operation.picture["seed"]: seed})
        own = msgspec.structs.replace(
            prediction, operation_id=operation.operation_id, input=encoded
        )
        rendered = BACKEND.renderer.render(
            BACKEND.store.tenant("t"),
            own,
            "http://127.0.0.1:1",
            "local",
            age=age,
            include_expired=True,
        )
        assert reader.check_response(200, "application/json", rendered) == []
        if rendered.get("logs"):
            met = [stage.status for stage in effective_timeline(own) if stage.at <= age]
            assert re.findall(r"seed: (\d+)", rendered["logs"]) == [str(seed)] * met.count(
                "processing"
            )
        created, started, completed = (
            parse_timestamp(rendered[name]) if rendered.get(name) else None
            for name in ("created_at", "started_at", "completed_at")
        )
        assert created == own.created_at
        assert (completed is not None) is (rendered["status"] in TERMINAL)
        metrics = rendered.get("metrics", {})
        if started is not None and completed is not None and "predict_time" in metrics:
            assert metrics["predict_time"] == (completed - started) / SECOND
        assert ("predict_time" in metrics) <= (started is not None and completed is not None)


@given(predictions())
def test_jumping_lands_on_each_change_and_comes_to_an_end(prediction: Prediction) -> None:
    elapsed = prediction.created_elapsed
    for _ in range(len(prediction.timeline)):
        age = prediction.age(elapsed)
        coming = next_stage(prediction, age)
        moved = advance_to_next(prediction, age)
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
    seen = [
        stage for after, until in pairwise(edges) for stage in entered(prediction, after, until)
    ]
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
def test_moving_on_changes_nothing_but_the_time(
    prediction: Prediction, age: int, later: int
) -> None:
    moved = advance_to(prediction, age, later)
    assert moved.age(7) - prediction.age(7) == later - age
    assert msgspec.structs.replace(moved, time_offset=prediction.time_offset) == prediction


def test_a_shard_is_the_token_s_crc_32_in_three_digits() -> None:
    # 0xCBF43926 is the check value of this CRC in every catalogue of them.
    assert shard_of("123456789") == str(0xCBF43926)[-3:] == "262"
    assert [shard_of(token) for token in ("anonymous", "test-000001", "é")] == ["014", "788", "425"]


@given(
    st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64), st.integers(0, 2**32)
)
def test_ids_are_fixed_by_key_and_number_and_look_like_the_documents(
    key: bytes, other: bytes, number: int
) -> None:
    assume(key != other)
    identifier = prediction_id("042", key, number)
    assert identifier == prediction_id("042", key, number)
    assert (
        len(
            {identifier, prediction_id("042", key, number + 1), prediction_id("042", other, number)}
        )
        == 3
    )
    assert identifier.startswith("042")
    assert re.fullmatch(
        CONTRACT.document["components"]["schemas"]["PredictionId"]["pattern"], identifier
    )


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 10**11), st.integers(1, 10**11))
def test_a_status_lasts_as_many_reads_as_it_has_polls(
    starting: int, processing: int, first: int, second: int
) -> None:
    timeline = build_timeline(
        [
            ("starting", max(first, starting) / SECOND, None, starting),
            ("processing", max(second, processing) / SECOND, None, processing),
            ("succeeded", None, None, 1),
        ]
    )
    job = Prediction("i", "o", b"{}", None, 0, 0, timeline, 0)

    statuses: list[str] = []
    while not statuses or statuses[-1] != "succeeded":
        job = advance_to_next(job, job.age(0))
        statuses.append(status(job, job.age(0)))

    expected = ["starting"] * (starting - 1) + ["processing"] * processing
    assert statuses == [*expected, "succeeded"]
