"""Updates of devices side by side are rounded as each would be alone: the same integers, the same bound, coins of their own."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from client_sim.compiled_rounding import CompiledRows, compiled_rows
from client_sim.encoding import GridEncoder
from client_sim.exact_sums import ExactSum
from client_sim.update_rounding import UpdateRounding
from contract.randomness import stream
from privacy import grid, grid_rounding, rounding
from privacy.keystream import Keystream
from privacy.norm_tracking import RoundNorms

DIMENSION, LANES = 9_001, 4
GRID = grid.plan(dimension=DIMENSION, clip_norm=1.0)
SEED = bytes(range(32))


def updates(*spreads: float) -> NDArray[np.float32]:
    rows = [stream(3, "updates", place).normal(0, spread, DIMENSION) for place, spread in enumerate(spreads)]
    return np.asarray(rows, np.float32)


def added(rounding_: UpdateRounding, devices: list[int], rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], list[int]]:
    total = np.zeros(DIMENSION, np.int64)
    with ExactSum(total) as summing:
        found = rounding_.add_rows(summing, devices, rows, [dict[str, float]() for _ in devices])
    return total, [norm for norm, _ in found]


def test_with_a_seed_the_sum_is_that_of_each_alone_to_the_bit() -> None:
    rows = updates(1e-4, 0.5, 1e-30, 3.0)
    together = UpdateRounding(GridEncoder(GRID), SEED, 5, lanes=LANES)
    alone = UpdateRounding(GridEncoder(GRID), SEED, 5)
    assert together.side_by_side
    assert not alone.side_by_side
    for count in (1, 3, 4):
        each = [alone.encoded(device, row, {}) for device, row in zip(range(count), rows, strict=False)]
        total, norms = added(together, list(range(count)), rows)
        assert np.array_equal(total, sum(update.vector.astype(np.int64) for update in each))
        assert norms == [update.norm_squared for update in each]


def test_without_a_seed_devices_have_coins_of_their_own_and_none_is_read_twice() -> None:
    rows = np.full((LANES, DIMENSION), 0.5 * GRID.step, np.float32)
    together, seen = UpdateRounding(GridEncoder(GRID), None, 0, lanes=LANES), list[NDArray[np.float64]]()
    for _ in range(2):
        seen += [added(together, [place], rows)[0] - 0.5 for place in range(LANES)]
        total, norms = added(together, list(range(LANES)), rows)
        assert sum(norms) == total.sum()  # each is 0 or 1
    for one in range(len(seen)):
        for other in range(one):
            assert abs(4 * float(seen[one] @ seen[other])) < 6 * math.sqrt(DIMENSION)


def test_what_exceeds_the_bound_is_drawn_again_and_never_added() -> None:
    # Every coordinate between two whole numbers of steps, where rounding adds the most to the norm.
    length = (np.floor(1 / GRID.step / np.sqrt(DIMENSION)) + 0.5) * GRID.step * np.sqrt(DIMENSION)
    exact = grid.Grid(dimension=DIMENSION, clip_norm=float(length), step=GRID.step, beta=0.999)
    rows = np.full((LANES, DIMENSION), length / np.sqrt(DIMENSION), np.float32)
    together, alone = (UpdateRounding(GridEncoder(exact), SEED, 0, lanes=lanes) for lanes in (LANES, 1))
    drawn_again = 0
    for first in range(0, 8 * LANES, LANES):
        devices = list(range(first, first + LANES))
        drawn_again += together._attempted(devices, rows)[1].count(None)
        total, norms = added(together, devices, rows)
        assert max(norms) <= exact.norm_bound_squared
        each = [alone.encoded(device, row, {}) for device, row in zip(devices, rows, strict=True)]
        assert np.array_equal(total, sum(update.vector.astype(np.int64) for update in each))
    assert 0 < drawn_again < 8 * LANES


def test_rows_that_leave_their_bound_whatever_is_drawn_are_refused() -> None:
    together = UpdateRounding(GridEncoder(GRID), None, 0, lanes=LANES)

    class TooLong(CompiledRows):
        def __call__(self, *given: object) -> NDArray[np.float32]:
            return np.full((LANES, DIMENSION), 1 << 14, np.float32)

    together._rows = TooLong(LANES, DIMENSION)
    total, norms = added(together, list(range(LANES)), updates(1, 1, 1, 1))
    assert max(norms) <= GRID.norm_bound_squared  # each went the way of one device
    assert np.abs(total).max() < 1 << 14


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_device_that_diverged_contributes_nothing_and_its_neighbours_what_they_would_alone(wrong: float) -> None:
    rows = updates(1e-3, 1e-3, 1e-3, 1e-3)
    rows[2, 17] = wrong
    together = UpdateRounding(GridEncoder(GRID), SEED, 0, lanes=LANES)
    total = np.zeros(DIMENSION, np.int64)
    with ExactSum(total) as summing:
        found = together.add_rows(summing, [7, 8, 9, 10], rows, [{"loss": wrong}] * LANES)
    assert [measured["diverged"] for _, measured in found] == [0.0, 0.0, 1.0, 0.0]
    assert [norm == 0 for norm, _ in found] == [False, False, True, False]
    assert all(measured["loss"] == 0.0 for _, measured in found)
    alone = UpdateRounding(GridEncoder(GRID), SEED, 0)
    each = [
        alone.encoded(device, rows[row], {}).vector.astype(np.int64) for row, device in enumerate((7, 8, 9, 10)) if row != 2
    ]
    assert np.array_equal(total, sum(each))


def test_only_plain_grids_of_moderate_fineness_are_rounded_side_by_side() -> None:
    norms = RoundNorms(fixed_norm=1.0, clip_norm=1.0, clip_bits=True)
    finest = grid.finest(dimension=DIMENSION, clip_norm=1.0)
    for encoder in (GridEncoder(GRID, norms), GridEncoder(finest)):
        assert not UpdateRounding(encoder, None, 0, lanes=LANES).side_by_side
    with pytest.raises(ValueError, match="too fine"):
        finest.attempted(updates(1.0), Keystream(SEED, "c", 0), lengths=[1.0], cut=CompiledRows(1, DIMENSION))
    assert compiled_rows(1, DIMENSION) is None
    assert compiled_rows(1_000, 1 << 20) is None


def test_updates_of_another_shape_or_length_are_refused() -> None:
    coins, cut = Keystream(SEED, "c", 0), CompiledRows(2, DIMENSION)
    for rows, lengths in ((np.zeros((2, 3), np.float32), [0.0]), (np.zeros((1, DIMENSION), np.float32), [0.0, 0.0])):
        with pytest.raises(ValueError, match="must have shape"):
            GRID.attempted(rows, coins, lengths=lengths, cut=cut)
    with pytest.raises(ValueError, match="not finite"):
        GRID.attempted(np.zeros((2, DIMENSION), np.float32), coins, lengths=[0.0, math.nan], cut=cut)


@pytest.mark.parametrize("dimension", [1, 5, 1023, 1024, 1025, 9_001, 54_270])
def test_lengths_and_norms_of_rows_are_those_of_each_to_the_bit(dimension: int) -> None:
    generator = stream(9, "rows", dimension)
    for scale in (0.0, 1e-25, 1e-3, 1.0, 1e30):
        rows = (generator.normal(0, 1, (5, dimension)) * scale).astype(np.float32)
        assert grid_rounding.lengths(rows) == [grid_rounding.length(row) for row in rows]
    for largest in (1, 300, 4_095, (1 << 15) - 1):
        rows = generator.integers(-largest, largest + 1, (3, dimension)).astype(np.float32)
        assert rounding.squared_norms(rows) == [sum(int(value) ** 2 for value in row) for row in rows]
