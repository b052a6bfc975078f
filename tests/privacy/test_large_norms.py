"""Squared norms far beyond 2^53 are exact, as Python's integers have them."""

import numpy as np
import pytest

from privacy import rounding


@pytest.mark.parametrize("largest", [2**31 - 1, 2**26, 3])
def test_a_squared_norm_is_that_of_pythons_integers(largest: int) -> None:
    values = np.array([-largest, largest, largest - 1, 0, 1] * 20_000, np.int32)
    assert rounding.squared_norm(values) == sum(int(value) ** 2 for value in values.tolist())


def test_the_most_negative_value_is_squared_whole() -> None:
    assert rounding.squared_norm(np.full(40_000, -(2**31), np.int32)) == 40_000 * 2**62
