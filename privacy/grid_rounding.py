"""Clipping and stochastic rounding in one pass over the cache, for grids of moderate fineness.

The same conditional rounding as `rounding.round_within`, with 16 random bits a coordinate: x is cut to q = trunc(2^16 x), a whole number of
2^-16 steps, and floor((q + r) / 2^16) with r uniform in [0, 2^16) is a neighbour of q / 2^16 whose mean is exactly q / 2^16. What is
cut off is a bias towards 0 of less than 2^-16 steps a coordinate, and scaling in single precision moves x by at most |x| 2^-23;
sensitivity depends on neither, since it rests on the integer vector's own norm.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy import rounding
from privacy.keystream import Keystream

Cut: TypeAlias = Callable[[NDArray[np.float32], np.float32, Keystream], NDArray[np.int32]]
"""(vector, 2^16 times the factor, stream) -> floor((trunc(2^16 x) + r) / 2^16), int32 of shape (d,), r being the stream's next d words."""
RowsCut: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32], Keystream | Sequence[Keystream]], NDArray[np.float32]]
"""The same of the first rows of (k, d), with a factor for each of those rows; they share one stream, or each has its own."""
FRACTION_BITS = 16
LARGEST_NORM = (1 << 31 - FRACTION_BITS) - 2
"""In steps: 2^16 times a clipped value and one random number more stay within 31 bits."""
_BLOCK = 1 << 16
_ROW = 1 << 10
_SMALLEST, _LARGEST = 2.0**-80, 2.0**120
"""Squared norms that single precision cannot have got wrong: squares that vanish in it add up to less than 2^-98 in 2^28 coordinates."""


def length(vector: NDArray[np.float32]) -> float:
    """The L2 norm of `vector`, float32 of shape (d,), to within 2^-15 of itself; not finite if a value is not.

    That it is not exact costs nothing but now and then another draw: what is clipped by it is held to its bound as integers.

    >>> length(np.array([3, 4], np.float32)), length(np.array([1e-30, 2.0**100], np.float32))
    (5.0, 1.2676506002282294e+30)
    """
    whole = vector.size // _ROW * _ROW
    rows, rest = vector[:whole].reshape(-1, _ROW), vector[whole:]
    # Rows of 2^10 err by at most 2^10 2^-24 of themselves, and no matrix library starts threads for them.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squared = float(np.vecdot(rows, rows).astype(np.float64).sum()) + float(np.vecdot(rest, rest))
    if not _SMALLEST <= squared <= _LARGEST or vector.size >> 28:
        squared = float(np.einsum("i,i->", vector, vector, dtype=np.float64))
    return math.sqrt(squared)


def lengths(rows: NDArray[np.float32]) -> list[float]:
    """`length` of each of `rows`, shape (k, d), to the bit.

    >>> lengths(np.array([[3, 4], [0, 2]], np.float32))
    [5.0, 2.0]
    """
    whole = rows.shape[1] // _ROW * _ROW
    parts, rest = rows[:, :whole].reshape(len(rows), -1, _ROW), rows[:, whole:]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squared = np.vecdot(parts, parts).astype(np.float64).sum(axis=1) + np.vecdot(rest, rest)
    ordinary = (squared >= _SMALLEST) & (squared <= _LARGEST) & (not rows.shape[1] >> 28)
    if ordinary.all():
        return np.sqrt(squared).tolist()  # a square root is rounded correctly, whoever takes it
    return [math.sqrt(one) if sound else length(row) for row, one, sound in zip(rows, squared.tolist(), ordinary, strict=True)]


def clip_and_round(
    vector: NDArray[np.float32], factor: float, bound: int, stream: Keystream, *, cut: Cut | None = None
) -> tuple[NDArray[np.int32], int]:
    """`factor` times `vector`, rounded stochastically and drawn again until the squared norm is at most `bound`.

    Args:
      vector: shape (d,), finite.
      factor: scales it, clipping included; the norm afterwards is at most `LARGEST_NORM`.
      stream: a word of 16 bits for each coordinate, in their order.
      cut: a faster way for this length; what it gives is held to `bound` like anything else.

    Returns:
      int32, shape (d,), and its exact squared norm, at most `bound`.

    Raises:
      ValueError: if 1000 attempts in a row exceed `bound`, which cannot be chance for a vector within the declared norm.

    Guarantee:
      The squared norm of what is returned never exceeds `bound`.

    Source: arXiv:2102.06387v4, the client's procedure (conditional randomized rounding).
    """
    whole = np.float32(factor * (1 << FRACTION_BITS))
    found = np.empty(vector.shape if cut is None else 0, np.int32)

    def attempt() -> int:
        nonlocal found
        if cut is None:
            return _round_once(vector, whole, stream, found)
        found = cut(vector, whole, stream)
        return rounding.squared_norm(found)

    norm_squared = rounding.redrawn_until_within(bound, attempt)
    return found, norm_squared


def _round_once(vector: NDArray[np.float32], factor: np.float32, stream: Keystream, out: NDArray[np.int32]) -> int:
    """One attempt into `out`, block by block so that all of a block stays in the cache; the exact squared norm of the result."""
    scaled, total = np.empty(min(_BLOCK, vector.size), np.float32), 0
    for start in range(0, vector.size, _BLOCK):
        part, rounded = vector[start : start + _BLOCK], out[start : start + _BLOCK]
        real = scaled[: part.size]
        np.multiply(part, factor, out=real)
        np.copyto(rounded, real, casting="unsafe")  # cuts towards 0
        rounded += stream.words(part.size, np.uint16)
        rounded >>= FRACTION_BITS
        total += rounding.squared_norm(rounded)
    return total
