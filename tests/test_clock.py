"""How time passes for a tenant, in each mode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockserver.clock import FROZEN_START, MODES, SECOND, Clock, Mode, parse_timestamp, timestamp


class Wall:
    """A wall clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = 1_000 * SECOND

    def __call__(self) -> int:
        return self.time


def clock(mode: Mode, speed: float = 1.0) -> tuple[Clock, Wall]:
    wall = Wall()
    return Clock(mode, speed, wall), wall


def test_under_autojump_the_instant_is_the_walls_and_nothing_elapses() -> None:
    tenant, wall = clock("autojump")
    wall.time += 5 * SECOND
    assert (tenant.now(), tenant.elapsed()) == (1_005 * SECOND, 0)


def test_under_real_time_runs_with_the_wall_times_the_speed() -> None:
    tenant, wall = clock("real", speed=10)
    wall.time += 5 * SECOND
    assert (tenant.now(), tenant.elapsed()) == (1_050 * SECOND, 50 * SECOND)
    assert tenant.seconds_until(70 * SECOND) == 2


def test_frozen_time_stands_at_a_fixed_instant_until_it_is_advanced() -> None:
    tenant, wall = clock("frozen")
    wall.time += 5 * SECOND
    assert (timestamp(tenant.now()), tenant.elapsed()) == ("2025-01-01T00:00:00.000Z", 0)
    tenant.advance(3 * SECOND)
    assert (tenant.now(), tenant.elapsed()) == (FROZEN_START + 3 * SECOND, 3 * SECOND)
    assert tenant.seconds_until(10 * SECOND) is None


@pytest.mark.parametrize("mode", MODES)
def test_time_can_be_advanced_in_every_mode(mode: Mode) -> None:
    tenant, _ = clock(mode)
    now, elapsed = tenant.now(), tenant.elapsed()
    tenant.advance(7)
    assert (tenant.now(), tenant.elapsed()) == (now + 7, elapsed + 7)


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_a_change_of_mode_goes_on_from_the_present(before: Mode, after: Mode) -> None:
    tenant, wall = clock(before, speed=3)
    wall.time += 5 * SECOND
    now, elapsed = tenant.now(), tenant.elapsed()
    tenant.change(after)
    assert (tenant.now(), tenant.elapsed()) == (now, elapsed)
    tenant.change(after, now=42)
    assert (tenant.now(), tenant.elapsed()) == (42, elapsed)


@given(
    st.sampled_from(MODES),
    st.lists(
        st.one_of(
            st.tuples(st.just("wall"), st.integers(0, 10**12)),
            st.tuples(st.just("advance"), st.integers(0, 10**12)),
            st.tuples(st.sampled_from(MODES), st.floats(0.01, 100)),
        )
    ),
)
def test_time_never_runs_backwards(mode: Mode, steps: list[tuple[str, float]]) -> None:
    tenant, wall = clock(mode)
    for name, amount in steps:
        now, elapsed = tenant.now(), tenant.elapsed()
        if name == "wall":
            wall.time += int(amount)
        elif name == "advance":
            tenant.advance(int(amount))
        else:
            tenant.change(name, speed=amount)  # type: ignore[arg-type]
        assert tenant.now() >= now
        assert tenant.elapsed() >= elapsed


@given(st.integers(0, 253_402_300_799 * SECOND))
def test_a_timestamp_is_read_back_to_the_nanosecond(instant: int) -> None:
    text = timestamp(instant)
    assert parse_timestamp(text) == instant
    fraction = text.rpartition(".")[2].rstrip("Z")
    assert 3 <= len(fraction) <= 9
    assert len(fraction) == 3 or not fraction.endswith("0")


def test_other_zones_are_read_too() -> None:
    assert parse_timestamp("2025-01-01T01:00:00.5+01:00") == FROZEN_START + SECOND // 2


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2025-01-01", "2025-01-01T00:00:00", "2025-13-01T00:00:00Z"]
)
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_timestamp(text)
