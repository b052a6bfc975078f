"""No leaf's noise is given out twice, and a leaf without a release leaves none behind that should not be there."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from server.leaf_noise import LeafNoise


def counting() -> Callable[[], NDArray[np.int64]]:
    """Increments 1, 10, 100, ...: a sum of some tells which."""
    drawn = iter(range(9))
    return lambda: np.full(3, 10 ** next(drawn), np.int64)


@pytest.mark.parametrize(("independent", "expected"), [(False, 111), (True, 100)])
def test_a_leaf_without_a_release_counts_for_correlated_noise_alone(independent: bool, expected: int) -> None:
    noise = LeafNoise(counting(), next_leaf=0, independent=independent)
    assert noise.through(2).tolist() == [expected] * 3


def test_a_released_leaf_is_refused() -> None:
    noise = LeafNoise(counting(), next_leaf=0)
    noise.through(3)
    with pytest.raises(ValueError, match="leaf 3 was released before; the next one is 4"):
        noise.through(3)


def test_adding_leaves_the_total_as_it_was() -> None:
    total = np.arange(3)
    total.setflags(write=False)
    assert LeafNoise(counting(), next_leaf=0).added_to(total, 0).tolist() == [1, 2, 3]
    assert total.tolist() == [0, 1, 2]


@pytest.mark.parametrize("independent", [True, False])
def test_noise_that_was_prepared_is_the_noise_that_would_have_been_drawn(independent: bool) -> None:
    prepared, drawn = (LeafNoise(counting(), next_leaf=0, independent=independent) for _ in range(2))
    for leaf in (0, 1, 4):
        prepared.prepare()
        prepared.prepare()
        assert prepared.through(leaf).tolist() == drawn.through(leaf).tolist()
