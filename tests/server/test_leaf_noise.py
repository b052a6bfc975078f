"""Noise that is drawn ahead is the noise that would have been drawn, and no leaf's noise is given out twice."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from server.leaf_noise import LeafNoise


def counting() -> Callable[[], NDArray[np.int64]]:
    """Increments 1, 10, 100, ...: a sum of some tells which."""
    drawn = iter(range(9))
    return lambda: np.full(3, 10 ** next(drawn), np.int64)


@pytest.mark.parametrize("independent", [False, True])
def test_what_is_prepared_is_what_is_given(independent: bool) -> None:
    ahead, later = (LeafNoise(counting(), next_leaf=0, independent=independent) for _ in range(2))
    for leaf in (0, 1, 4, 5):
        ahead.prepare(leaf)
        assert (ahead.through(leaf) == later.through(leaf)).all()


def test_noise_that_was_prepared_for_a_round_without_release_goes_to_the_next() -> None:
    correlated = LeafNoise(counting(), next_leaf=0)
    correlated.prepare(0)  # the budget did not allow it: the same leaf again
    correlated.prepare(0)
    correlated.prepare(1)  # charged, and never released
    assert correlated.through(2).tolist() == [111, 111, 111]


def test_independent_noise_of_a_leaf_without_release_is_dropped() -> None:
    alone = LeafNoise(counting(), next_leaf=0, independent=True)
    alone.prepare(0)
    assert alone.through(1).tolist() == [10, 10, 10]


def test_a_released_leaf_is_refused_before_anything_is_charged() -> None:
    noise = LeafNoise(counting(), next_leaf=0)
    noise.through(3)
    with pytest.raises(ValueError, match="leaf 3 was released before; the next one is 4"):
        noise.prepare(3)
    with pytest.raises(ValueError, match="leaf 2 was released before"):
        noise.through(2)


def test_what_goes_wrong_while_drawing_ahead_comes_out_of_the_leaf() -> None:
    def broken() -> NDArray[np.int64]:
        raise ArithmeticError("a noise buffer left 62 bits")

    noise = LeafNoise(broken, next_leaf=0)
    noise.prepare(0)
    with pytest.raises(ArithmeticError, match="62 bits"):
        noise.through(0)


def test_adding_leaves_the_total_as_it_was() -> None:
    total = np.arange(3)
    total.setflags(write=False)
    assert LeafNoise(counting(), next_leaf=0).added_to(total, 0).tolist() == [1, 2, 3]
    assert total.tolist() == [0, 1, 2]
