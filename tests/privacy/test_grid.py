"""Rounding to the grid: the norm never exceeds its bound, nothing is biased, sums are exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.randomness import stream
from privacy import grid, rounding
from privacy.grid import Grid
from privacy.keystream import Keystream


def entropy(num_bytes: int) -> bytes:
    return bytes(range(num_bytes))


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    clip_norm=st.floats(1e-3, 100),
    coarse=st.integers(0, 8),
)
@settings(max_examples=150, deadline=None)
def test_every_encoded_vector_keeps_the_norm_bound(values: list[float], clip_norm: float, coarse: int):
    chosen = grid.plan(dimension=len(values), clip_norm=clip_norm)
    chosen = Grid(dimension=chosen.dimension, clip_norm=clip_norm, step=chosen.step * 2.0**coarse, beta=chosen.beta)
    vector = chosen.encode(np.array(values, np.float32), entropy)
    assert sum(int(x) ** 2 for x in vector) <= chosen.norm_bound_squared
    assert chosen.accepts(vector)


def test_a_vector_one_above_the_bound_is_not_accepted():
    chosen = Grid(dimension=2, clip_norm=4.0, step=1.0, beta=0.0)
    assert chosen.norm_bound_squared == math.floor((4 + math.sqrt(2)) ** 2) == 29
    assert chosen.accepts(np.array([5, 2], np.int32))
    assert not chosen.accepts(np.array([5, 3], np.int32))
    assert not chosen.accepts(np.array([5, 2], np.int64))
    assert not chosen.accepts(np.array([5], np.int32))


def test_squared_norm_is_exact_where_floats_and_64_bits_would_not_be():
    vector = np.full(100, (1 << 31) - 1, np.int32)
    assert rounding.squared_norm(vector) == 100 * ((1 << 31) - 1) ** 2
    assert rounding.squared_norm(np.array([-(1 << 31)], np.int32)) == 1 << 62


def test_rounding_is_unbiased_and_goes_to_neighbours_only():
    x = np.array([0.25, -0.25, 1.75, -3.5, 0.0], np.float64)
    keys = [Keystream(bytes([i % 256, i // 256] + [0] * 30), "coins", 0) for i in range(4000)]
    draws = np.array([rounding.round_within(x, 100, key) for key in keys])
    assert np.all(np.abs(draws - x) < 1)
    spread = np.sqrt((x - np.floor(x)) * (np.ceil(x) - x) / 4000)
    assert np.all(np.abs(draws.mean(axis=0) - x) <= 5 * spread)


def test_the_bound_holds_the_stated_share_of_first_attempts():
    generator = stream(3, "rounding")
    dimension, scaled_norm, beta = 400, 30.0, math.exp(-0.5)
    bound = rounding.squared_norm_bound(scaled_norm=scaled_norm, dimension=dimension, beta=beta)
    x = np.full(dimension, scaled_norm / math.sqrt(dimension))  # every coordinate at 1.5: the most variance rounding can have
    coins = generator.random((5000, dimension)) < (x - np.floor(x))
    norms = ((np.floor(x) + coins) ** 2).sum(axis=1)
    assert (norms <= bound).mean() >= 1 - beta


def test_production_needs_conditional_rounding():
    """Deviation of the noise in grid steps at z 7 where rounding inflates by 0.1%, conditional against nearest."""

    def steps(beta: float) -> float:
        low, high = 1.0, 1e9
        while high / low > 1 + 1e-9:
            middle = math.sqrt(low * high)
            bound = rounding.squared_norm_bound(scaled_norm=middle, dimension=1_412_250, beta=beta)
            low, high = (low, middle) if bound <= (1.001 * middle) ** 2 else (middle, high)
        return 7 * high

    assert f"{steps(math.exp(-0.5)):.1e}" == "9.5e+04"
    assert f"{7 * math.sqrt(1_412_250) / 2 / 0.001:.1e}" == "4.2e+06"  # nearest: half a step a coordinate
    assert grid.plan(dimension=1_412_250, clip_norm=0.3).inflation <= 1.001


def test_sums_do_not_depend_on_order_and_decode_to_the_mean():
    chosen, generator = grid.plan(dimension=50, clip_norm=1.0), stream(1, "sums")
    deltas = generator.normal(0, 0.1, (64, 50)).astype(np.float32)
    coded = [chosen.encode(delta, lambda n, i=i: bytes([i]) * n).astype(np.int64) for i, delta in enumerate(deltas)]
    assert np.array_equal(sum(coded), sum(reversed(coded)))
    assert np.abs(chosen.decode(sum(coded)) - deltas.sum(axis=0)).max() <= 64 * chosen.step


def test_json_gives_the_same_grid():
    chosen = grid.plan(dimension=5, clip_norm=0.3)
    assert Grid.from_json(chosen.to_json()) == chosen
    with pytest.raises(ValueError, match="no grid"):
        Grid.from_json({"kind": "other"})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_never_leaves(value: float):
    with pytest.raises(ValueError, match="not finite"):
        grid.plan(dimension=2, clip_norm=1.0).encode(np.array([value, 0], np.float32), entropy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"step": 0.3}, "power of two"), ({"clip_norm": 0.0}, "clip_norm"), ({"step": 2.0**-40}, "31 bits")],
)
def test_a_grid_that_cannot_be_is_refused(changes: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Grid(**{"dimension": 2, "clip_norm": 1.0, "step": 0.5, **changes})  # type: ignore[arg-type]
