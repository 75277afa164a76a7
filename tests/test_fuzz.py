"""A short run of the fuzzer, the same each time. `make fuzz` goes on for as long as one likes."""

import asyncio

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_clients_do_the_double_is_well(seed: int) -> None:
    assert asyncio.run(fuzz(seed, steps=150)) == 150
