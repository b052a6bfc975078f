"""Clipping and stochastic rounding in one pass over the cache, for grids of moderate fineness.

The same conditional rounding as `rounding.round_within`, with 16 random bits a coordinate: x is cut to q = trunc(2^16 x), a whole number of
2^-16 steps, and floor((q + r) / 2^16) with r uniform in [0, 2^16) is a neighbour of q / 2^16 whose mean is exactly q / 2^16. What is
cut off is a bias towards 0 of less than 2^-16 steps a coordinate, and scaling in single precision moves x by at most |x| 2^-23;
sensitivity depends on neither, since it rests on the integer vector's own norm.
"""

import numpy as np
from numpy.typing import NDArray

from privacy import rounding
from privacy.keystream import Keystream

FRACTION_BITS = 16
LARGEST_NORM = (1 << 31 - FRACTION_BITS) - 2
"""In steps: 2^16 times a clipped value and one random number more stay within 31 bits."""
_BLOCK = 1 << 16
_LOW = (1 << FRACTION_BITS) - 1


def clip_and_round(vector: NDArray[np.float32], factor: float, bound: int, stream: Keystream) -> NDArray[np.int32]:
    """`factor` times `vector`, rounded stochastically and drawn again until the squared norm is at most `bound`.

    Args:
      vector: shape (d,), finite.
      factor: scales it, clipping included; the norm afterwards is at most `LARGEST_NORM`.
      stream: two coordinates of a block share a word of 32 bits, that of the first half its low bits.

    Returns:
      int32, shape (d,), squared norm at most `bound`.

    Raises:
      ValueError: if 1000 attempts in a row exceed `bound`, which cannot be chance for a vector within the declared norm.

    Guarantee:
      The squared norm of what is returned never exceeds `bound`.

    Source: arXiv:2102.06387v4, the client's procedure (conditional randomized rounding).
    """
    out = np.empty(vector.shape, np.int32)
    whole = np.float32(factor * (1 << FRACTION_BITS))
    rounding.redrawn_until_within(bound, lambda: _round_once(vector, whole, stream, out))
    return out


def _round_once(vector: NDArray[np.float32], factor: np.float32, stream: Keystream, out: NDArray[np.int32]) -> int:
    """One attempt into `out`, block by block so that all of a block stays in the cache; the exact squared norm of the result."""
    size, total = min(_BLOCK, vector.size), 0
    real, coins = np.empty(size, np.float32), np.empty((size + 1) // 2, np.int32)
    for start in range(0, vector.size, _BLOCK):
        part, rounded = vector[start : start + _BLOCK], out[start : start + _BLOCK]
        scaled = real[: part.size]
        np.multiply(part, factor, out=scaled)
        np.copyto(rounded, scaled, casting="unsafe")  # cuts towards 0
        _add_coins(rounded, stream, coins)
        rounded >>= FRACTION_BITS
        total += rounding.squared_norm(rounded)
    return total


def _add_coins(cut: NDArray[np.int32], stream: Keystream, coins: NDArray[np.int32]) -> None:
    """Adds a number of 16 uniform bits to each value, in place."""
    first = (cut.size + 1) // 2
    words = stream.words(first, np.uint32)
    low = coins[:first]
    np.bitwise_and(words.view(np.int32), _LOW, out=low)
    cut[:first] += low
    high = coins[: cut.size - first]
    np.right_shift(words[: high.size], np.uint32(FRACTION_BITS), out=high.view(np.uint32))
    cut[first:] += high
