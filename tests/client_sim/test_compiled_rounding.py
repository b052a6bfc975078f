"""The compiled rounding of long vectors gives the integers of the passes, whatever is rounded."""

import numpy as np
import pytest
from numpy.typing import NDArray

from client_sim.compiled_rounding import SHORTEST, CompiledCut, compiled_cut
from contract.randomness import stream
from privacy import grid, grid_rounding
from privacy.keystream import Keystream

DIMENSION = SHORTEST + 77


def coins(number: int) -> Keystream:
    return Keystream(bytes(32), "coins", number)


@pytest.mark.parametrize("spread", [1e-30, 1e-3, 1.0, 30.0])
def test_it_gives_the_integers_of_the_passes(spread: float) -> None:
    generator, cut = stream(4, "compiled rounding"), CompiledCut()
    vector = (generator.normal(0, spread, DIMENSION) * 10.0 ** generator.integers(-12, 1, DIMENSION)).astype(np.float32)
    vector[:4] = [0.0, -0.0, 1e-42, -1e-42]
    for number, factor in enumerate((1.0, 0.9137, 17.3)):
        passes, norm = grid_rounding.clip_and_round(vector, factor, 1 << 60, coins(number))
        compiled, same = grid_rounding.clip_and_round(vector, factor, 1 << 60, coins(number), cut=cut)
        assert np.array_equal(passes, compiled)
        assert compiled.dtype == np.int32
        assert norm == same


@pytest.mark.parametrize("spread", [1e-9, 1e-3, 1.0, 1e30])
def test_both_ways_give_what_the_definition_says_in_whole_numbers(spread: float) -> None:
    """Products of two floats are exact in doubles, and are rounded once; all that follows is whole."""
    chosen = grid.plan(dimension=DIMENSION, clip_norm=0.7)
    delta = stream(5, "by definition").normal(0, spread, DIMENSION).astype(np.float32)
    norm = grid_rounding.length(delta)
    factor = np.float32(min(1.0, 0.7 / norm) / chosen.step * (1 << 16))
    cut_off = np.trunc((delta.astype(np.float64) * float(factor)).astype(np.float32)).astype(np.int64)
    words = np.frombuffer(coins(3).read(2 * DIMENSION), "<u2").astype(np.int64)
    expected = (cut_off + words) // (1 << 16)
    for cut in (None, CompiledCut()):
        vector, squared = chosen.rounded(delta, coins(3), cut=cut)
        assert np.array_equal(vector, expected)
        assert squared == int(np.square(expected).sum()) <= chosen.norm_bound_squared


def test_an_earlier_vector_stays_when_the_next_is_rounded() -> None:
    cut, half = CompiledCut(), np.full(DIMENSION, 0.5, np.float32)
    one = np.float32(1 << 16)
    first = cut(half, one, coins(1))
    kept = first.copy()
    second = cut(half, one, coins(2))
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_what_is_drawn_again_is_the_same_and_within_the_bound() -> None:
    chosen = grid.plan(dimension=DIMENSION, clip_norm=1.0)
    # Every coordinate between two whole numbers of steps, where rounding adds the most to the norm.
    length = (np.floor(1 / chosen.step / np.sqrt(DIMENSION)) + 0.5) * chosen.step * np.sqrt(DIMENSION)
    delta = np.full(DIMENSION, length / np.sqrt(DIMENSION), np.float32)
    exact = grid.Grid(dimension=DIMENSION, clip_norm=float(length), step=chosen.step, beta=0.999)
    drawn_again = 0
    for number in range(8):
        passes, compiled = coins(number), coins(number)
        vectors = [exact.rounded(delta, passes), exact.rounded(delta, compiled, cut=CompiledCut())]
        assert np.array_equal(vectors[0][0], vectors[1][0])
        assert vectors[0][1] == vectors[1][1] <= exact.norm_bound_squared
        after = passes.read(16)
        assert after == compiled.read(16)
        drawn_again += after != Keystream(bytes(32), "coins", number, offset=2 * DIMENSION).read(16)
    assert drawn_again


def test_a_cut_that_gives_too_much_never_leaves() -> None:
    def wrong(vector: NDArray[np.float32], factor: np.float32, stream: Keystream) -> NDArray[np.int32]:
        del factor, stream
        return np.full(vector.shape, 1 << 30, np.int32)

    with pytest.raises(ValueError, match="no rounding"):
        grid.plan(dimension=4, clip_norm=1.0).rounded(np.zeros(4, np.float32), coins(0), cut=wrong)


def test_short_vectors_go_the_way_of_the_passes() -> None:
    assert compiled_cut(SHORTEST - 1) is None
    assert isinstance(compiled_cut(SHORTEST), CompiledCut)
