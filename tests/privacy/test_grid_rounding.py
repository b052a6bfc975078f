"""Rounding with 16 bits a coordinate: unbiased to within them, every coordinate with coins of its own, the bound kept."""

import math
from fractions import Fraction

import numpy as np
import pytest

from contract.randomness import stream
from privacy import grid, grid_rounding, rounding
from privacy.keystream import Keystream


class FixedWords:
    """Coins that are given."""

    def __init__(self, words: list[int]) -> None:
        self._words = np.array(words, np.uint16)

    def words(self, num_words: int, dtype: type[np.uint16]) -> np.ndarray:
        assert dtype is np.uint16
        taken, self._words = self._words[:num_words], self._words[num_words:]
        return taken


@pytest.mark.parametrize("value", [0.25, -0.25, 1.75, -3.5, 0.0, 2.0**-16, -1.0 + 2.0**-16])
def test_over_all_coins_the_mean_is_the_value_itself_where_16_bits_hold_it(value: float):
    """Over two blocks, each coordinate meets one of all 65,536 coins."""
    count = 1 << 16
    x = np.full(2 * count, value, np.float32)
    coins = FixedWords([*range(count), *([0] * count)])
    rounded, norm = grid_rounding.clip_and_round(x, 1.0, 1 << 60, coins)  # pyright: ignore[reportArgumentType]
    assert np.all(np.abs(rounded - x) < 1)
    assert np.all(rounded[count:] == math.floor(value))
    assert Fraction(int(rounded[:count].sum()), count) == Fraction(value)
    assert norm == int(np.square(rounded.astype(np.int64)).sum())


def test_what_is_finer_than_16_bits_is_cut_towards_zero():
    ones = FixedWords([0xFFFF] * 4)
    x = np.array([1 - 2.0**-20, -(2.0**-20), 2.0**-20, 3 + 2.0**-16], np.float32)
    rounded, _ = grid_rounding.clip_and_round(x, 1.0, 1 << 60, ones)  # pyright: ignore[reportArgumentType]
    assert rounded.tolist() == [1, 0, 0, 4]


@pytest.mark.parametrize("dimension", [1, 2, 3, (1 << 16) - 1, (1 << 16) + 1, (1 << 17) + 3])
def test_any_length_is_rounded_to_neighbours_without_bias(dimension: int):
    x = stream(5, "grid rounding", dimension).normal(0, 10, dimension).astype(np.float32)
    rounded, _ = grid_rounding.clip_and_round(x, 1.0, 1 << 60, Keystream(bytes(32), "coins", dimension))
    assert np.all(np.abs(rounded - x) < 1 + 2.0**-15)
    error, share = rounded - x.astype(np.float64), x - np.floor(x.astype(np.float64))
    assert abs(error.sum()) <= 6 * math.sqrt(float((share * (1 - share)).sum())) + 1


def test_coins_of_different_coordinates_are_independent():
    x = np.full(1 << 17, 0.5, np.float32)
    rounded, _ = grid_rounding.clip_and_round(x, 1.0, 1 << 60, Keystream(bytes(32), "coins", 1))
    rounded = rounded.astype(np.float64) - 0.5
    for lag in (1, 1 << 15, 1 << 16):
        assert abs(4 * (rounded[lag:] * rounded[:-lag]).sum()) <= 6 * math.sqrt(len(x) - lag)


def test_a_rounding_above_the_bound_never_leaves():
    x = np.full(100, 1.5, np.float32)
    bound = rounding.squared_norm_bound(scaled_norm=15.0, dimension=100)
    for number in range(200):
        rounded, norm = grid_rounding.clip_and_round(x, 1.0, bound, Keystream(bytes(32), "coins", number))
        assert norm == int(np.square(rounded).sum()) <= bound
    with pytest.raises(ValueError, match="no rounding"):
        grid_rounding.clip_and_round(x, 1.0, 99, Keystream(bytes(32), "coins", 0))


def test_the_largest_norm_still_fits_31_bits():
    x = np.array([grid_rounding.LARGEST_NORM, -grid_rounding.LARGEST_NORM], np.float32)
    ones = FixedWords([0xFFFF, 0xFFFF])
    rounded, _ = grid_rounding.clip_and_round(x, 1.0, 1 << 60, ones)  # pyright: ignore[reportArgumentType]
    assert rounded.tolist() == [grid_rounding.LARGEST_NORM, -grid_rounding.LARGEST_NORM]


@pytest.mark.parametrize("dimension", [1, 5, 1023, 1024, 1025, 70_000, 1_412_250])
def test_the_length_in_single_precision_is_right_to_a_few_millionths(dimension: int):
    generator = stream(7, "lengths", dimension)
    for scale in (1e-25, 1e-18, 1.0, 1e17, 1e30):
        vector = (generator.normal(0, 1, dimension) * scale).astype(np.float32)
        exact = math.sqrt(math.fsum(np.square(vector.astype(np.float64))))
        assert grid_rounding.length(vector) == pytest.approx(exact, rel=3e-6)
    even = np.full(dimension, 0.1, np.float32)
    assert grid_rounding.length(even) == pytest.approx(float(np.float32(0.1)) * math.sqrt(dimension), rel=2.0**-15)


def test_one_long_coordinate_among_many_short_ones_is_no_longer_than_the_length():
    """So that what is clipped by the length leaves 31 bits nowhere, although the sum may lose the short ones."""
    for at in (0, 1000, 1023, 4000, 4095):
        vector = np.full(4096, 1e-4, np.float32)
        vector[at] = 1.0
        assert grid_rounding.length(vector) >= 1 - 2.0**-23


def test_the_length_of_nothing_is_zero_and_that_of_no_number_is_none():
    assert grid_rounding.length(np.zeros(2000, np.float32)) == 0.0
    assert math.isnan(grid_rounding.length(np.array([1, math.nan], np.float32)))
    assert math.isinf(grid_rounding.length(np.array([1] * 2000 + [-math.inf], np.float32)))


def test_rounding_with_a_streams_coins_is_rounding_with_its_entropy():
    for chosen in (grid.finest(dimension=3, clip_norm=1.0), grid.plan(dimension=3, clip_norm=1.0)):
        delta = np.array([3.0, 0.1, -4.0], np.float32)
        vector, norm = chosen.rounded(delta, Keystream(bytes(32), "stochastic rounding", 0))
        assert np.array_equal(vector, chosen.encode(delta, lambda count: bytes(count)))
        assert norm == sum(int(value) ** 2 for value in vector) <= chosen.norm_bound_squared


def test_fine_grids_go_the_way_of_doubles():
    for chosen in (grid.finest(dimension=3, clip_norm=1.0), grid.plan(dimension=3, clip_norm=1.0)):
        vector = chosen.encode(np.array([3.0, 0.0, -4.0], np.float32), lambda count: bytes(count))
        assert np.abs(chosen.decode(vector.astype(np.int64)) - [0.6, 0, -0.8]).max() <= 2 * chosen.step


def test_squared_norms_are_exact_on_both_sides_of_single_precision():
    generator = stream(8, "norms")
    for largest in (10, 20, 300, 4095, 4096, 5000, 1 << 20, 1 << 29):
        values = generator.integers(-largest, largest + 1, 70_001).astype(np.int32)
        assert rounding.squared_norm(values) == sum(int(value) ** 2 for value in values.tolist())


@pytest.mark.parametrize("value", [16385.3, 30000.7, -29999.999, 0.1])
def test_the_bias_of_a_large_coordinate_is_that_of_single_precision(value: float):
    """Over all coins, for a factor that no float32 holds: 2^-16 steps and |x| 2^-23, and not 2^-16 alone."""
    count, factor = 1 << 16, 0.9137
    given, coins = np.full(count, value, np.float32), FixedWords(list(range(count)))
    rounded, _ = grid_rounding.clip_and_round(given, factor, 1 << 60, coins)  # pyright: ignore[reportArgumentType]
    total = int(rounded.sum(dtype=np.int64))
    x = float(np.float32(value)) * factor
    bias = abs(total / count - x)
    assert bias <= 2.0**-16 + abs(x) * 2.0**-23
    assert (bias > 2.0**-16) == (abs(x) > 1000)
