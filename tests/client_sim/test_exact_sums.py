"""Sums in 32 bits never overflow, and lose nothing."""

import numpy as np
import pytest

from client_sim.exact_sums import ExactSum
from contract.randomness import stream
from privacy.rounding import squared_norm


@pytest.mark.parametrize("largest", [3, 1 << 20, 1 << 29, (1 << 31) - 1])
def test_the_sum_is_that_in_64_bits(largest: int) -> None:
    generator = stream(1, "exact sums", largest)
    vectors = generator.integers(-largest, largest + 1, (40, 5)).astype(np.int32)
    total = np.zeros(5, np.int64)
    with ExactSum(total) as summing:
        for vector in vectors:
            summing.add(vector, squared_norm(vector))
    assert np.array_equal(total, vectors.sum(axis=0, dtype=np.int64))


def test_one_coordinate_at_the_edge_of_32_bits_is_carried_over() -> None:
    total, one = np.zeros(1, np.int64), np.array([(1 << 30) - 1], np.int32)
    with ExactSum(total) as summing:
        for _ in range(7):
            summing.add(one, int(one[0]) ** 2)
    assert total.tolist() == [7 * ((1 << 30) - 1)]


def test_what_was_in_the_total_stays() -> None:
    total = np.array([5], np.int64)
    with ExactSum(total) as summing:
        summing.add(np.array([-(1 << 31)], np.int32), 1 << 62)
        summing.add(np.array([0], np.int32), 0)
    assert total.tolist() == [5 - (1 << 31)]


@pytest.mark.parametrize("largest", [3, 1 << 12, (1 << 15) - 1])
def test_rows_in_single_precision_lose_nothing(largest: int) -> None:
    generator = stream(2, "exact rows", largest)
    total, expected = np.zeros(5, np.int64), np.zeros(5, np.int64)
    with ExactSum(total) as summing:
        for count in (1, 5, 900):
            rows = generator.integers(-largest, largest + 1, (count, 5))
            rows[:, 0] = largest
            summing.add_rows(rows.astype(np.float32), [squared_norm(row.astype(np.int32)) for row in rows])
            summing.add(rows[0].astype(np.int32), squared_norm(rows[0].astype(np.int32)))
            expected += rows.sum(axis=0) + rows[0]
    assert np.array_equal(total, expected)
