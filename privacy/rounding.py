"""Conditional stochastic rounding to integers, and the norm that it cannot exceed.

A real vector x is rounded coordinate by coordinate to one of its two neighbours, without bias, and the whole vector is drawn
again until its squared norm is at most a public bound. The bound is what sensitivity rests on: it holds always, for every
input and every source of randomness, since a vector above it never leaves.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream

DEFAULT_BETA = math.exp(-0.5)
_BLOCK = 1 << 16
_NORM_BLOCK = 1 << 17
_MOST_ATTEMPTS = 1000
_ROW = 1 << 13
SINGLE_BELOW = float(1 << 18)
"""Up to which scaled norm single precision is used: its error in the norm is then far below the half unit that rounding is allowed."""


def squared_norm_bound(*, scaled_norm: float, dimension: int, beta: float = DEFAULT_BETA) -> int:
    """The integer D2^2: the squared norm that a rounded vector of norm at most `scaled_norm` may have.

    Args:
      scaled_norm: c s, the norm of x in integer units.
      dimension: d, at least 1.
      beta: probability with which at most one attempt at rounding fails, in [0, 1); 0 asks for the bound that no attempt fails.

    Returns:
      floor of min{(c s + sqrt d)^2 ; (c s)^2 + d/4 + sqrt(2 ln(1/beta)) (c s + sqrt(d)/2)}. Squared norms of integer vectors
      are integers, so that the floor loses nothing.

    Source: arXiv:2102.06387v4 (Kairouz, Liu, Steinke), main theorem, the definition of Delta_2^2.

    >>> squared_norm_bound(scaled_norm=4.0, dimension=4), squared_norm_bound(scaled_norm=4.0, dimension=4, beta=0.0)
    (22, 36)
    """
    if not scaled_norm > 0 or not math.isfinite(scaled_norm):
        raise ValueError(f"scaled_norm must be positive and finite, not {scaled_norm}")
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, not {dimension}")
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), not {beta}")
    worst = (scaled_norm + math.sqrt(dimension)) ** 2
    if beta == 0:
        return math.floor(worst)
    slack = math.sqrt(2 * math.log(1 / beta)) * (scaled_norm + math.sqrt(dimension) / 2)
    return math.floor(min(worst, scaled_norm**2 + dimension / 4 + slack))


def scaled_to_norm(vector: NDArray[np.float32], *, clip_norm: float, scale: float) -> NDArray[np.float32] | NDArray[np.float64]:
    """`vector` clipped to `clip_norm` and multiplied by `scale`, shape (d,), in single precision up to `SINGLE_BELOW`, in double beyond.

    Raises:
      ValueError: for a value that is not finite.

    >>> scaled_to_norm(np.array([3, 4], np.float32), clip_norm=1.0, scale=10.0)
    array([6., 8.], dtype=float32)
    """
    factor = clipping_factor(vector, clip_norm=clip_norm, scale=scale)
    if clip_norm * scale < SINGLE_BELOW:
        return vector * np.float32(factor)
    return vector.astype(np.float64) * factor


def clipping_factor(vector: NDArray[np.float32], *, clip_norm: float, scale: float) -> float:
    """What `vector`, shape (d,), is multiplied by to be clipped to `clip_norm` and scaled by `scale`.

    Raises:
      ValueError: for a value that is not finite.

    >>> clipping_factor(np.array([3, 4], np.float32), clip_norm=1.0, scale=10.0)
    2.0
    """
    blocks = (vector[start : start + _BLOCK].astype(np.float64) for start in range(0, vector.size, _BLOCK))
    norm = math.sqrt(sum(sum(_row_norms(block)) for block in blocks))
    if not math.isfinite(norm):
        raise ValueError("the vector holds a value that is not finite")
    return scale * (min(1.0, clip_norm / norm) if norm > 0 else 1.0)


def squared_norm(vector: NDArray[np.int32]) -> int:
    """Exact squared norm of an integer vector of any size and magnitude below 2^31.

    In single precision where it holds it, else in double, else in two halves of 32 bits. All terms are whole and not negative, and rounding
    is monotone. So a partial sum in single (double) precision is exact as long as it is below 2^24 (2^53), in whatever order the terms are
    taken; and once one is at least that large, or a value is, so is the result.

    >>> squared_norm(np.array([3, -4], np.int32))
    25
    """
    total, single = 0, True
    for start in range(0, vector.size, _NORM_BLOCK):
        block = vector[start : start + _NORM_BLOCK]
        norm = _whole_norm(block.astype(np.float32), below=1 << 24) if single else None
        if norm is None:
            single, norm = False, _whole_norm(block.astype(np.float64), below=1 << 53)
        if norm is None:
            squares = np.square(block.astype(np.int64))  # at most 2^62; a block's halves add up to less than 2^63
            norm = (int((squares >> 32).sum()) << 32) + int((squares & 0xFFFFFFFF).sum())
        total += norm
    return total


def squared_norms(rows: NDArray[np.float32]) -> list[int]:
    """`squared_norm` of each of `rows`, shape (k, d), whole numbers below 2^24 in single precision.

    >>> squared_norms(np.array([[3, -4], [0, 4095]], np.float32))
    [25, 16769025]
    """
    whole = rows.shape[1] // _ROW * _ROW
    parts = rows[:, :whole].reshape(len(rows), -1, _ROW)
    found = np.concatenate([np.vecdot(parts, parts), np.vecdot(rows[:, whole:], rows[:, whole:])[:, None]], axis=1)
    if found.size and found.max() < 1 << 24:  # and so every partial sum was exact, see `squared_norm`
        return found.astype(np.int64).sum(axis=1).tolist()
    return [squared_norm(row.astype(np.int32)) for row in rows]


def round_within(scaled: NDArray[np.float64] | NDArray[np.float32], bound: int, stream: Keystream) -> NDArray[np.int32]:
    """`scaled` rounded stochastically, redrawn until its squared norm is at most `bound`.

    Args:
      scaled: shape (d,), |values| below 2^31.
      bound: D2^2 as `squared_norm_bound` gives it.
      stream: where the coins come from; each is compared at 32 bits (float64) or 24 bits (float32), so that the bias of a
        coordinate is below 2^-24.

    Returns:
      int32, shape (d,), squared norm at most `bound`.

    Raises:
      ValueError: if 1000 attempts in a row exceed `bound`, which cannot be chance for a vector within the declared norm.

    Guarantee:
      The squared norm of what is returned never exceeds `bound`.

    Source: arXiv:2102.06387v4, the client's procedure (conditional randomized rounding).
    """
    out = np.empty(scaled.shape, np.int32)
    redrawn_until_within(bound, lambda: _round_once(scaled, stream, out))
    return out


def redrawn_until_within(bound: int, attempt: Callable[[], int]) -> int:
    """Calls `attempt`, which draws a rounding anew and returns its exact squared norm, until that is at most `bound`; returns it.

    Raises:
      ValueError: after 1000 attempts.

    >>> redrawn_until_within(4, iter([9, 5, 3]).__next__)
    3
    """
    for _ in range(_MOST_ATTEMPTS):
        if (norm_squared := attempt()) <= bound:
            return norm_squared
    raise ValueError(f"no rounding of this vector has a squared norm of at most {bound}")


def _round_once(scaled: NDArray[np.float64] | NDArray[np.float32], stream: Keystream, out: NDArray[np.int32]) -> int:
    """One attempt into `out`, block by block so that all of a block stays in the cache; the exact squared norm of the result."""
    norm = 0
    for start in range(0, scaled.size, _BLOCK):
        part, rounded = scaled[start : start + _BLOCK], out[start : start + _BLOCK]
        floor = np.floor(part)
        uniform = _uniform(part, stream)
        up = uniform < part - floor
        np.copyto(uniform, up, casting="unsafe")  # NumPy adds floats of one type faster than truth values to integers
        floor += uniform
        np.copyto(rounded, floor, casting="unsafe")
        norm += squared_norm(rounded)
    return norm


def _uniform(like: NDArray[np.float64] | NDArray[np.float32], stream: Keystream) -> NDArray[np.float64] | NDArray[np.float32]:
    """Uniform multiples of 2^-24 (float32) or 2^-32 (float64) in [0, 1), in the shape and type of `like`."""
    words = stream.words(like.size, np.uint32)
    if like.dtype == np.float32:
        single = (words >> np.uint32(8)).view(np.int32).astype(np.float32)
        single *= np.float32(2.0**-24)
        return single
    return words.astype(np.float64) * 2.0**-32


def _whole_norm(block: NDArray[np.float32] | NDArray[np.float64], *, below: int) -> int | None:
    """Exact squared norm of whole numbers, at most 2^17; None where a part of it is not below `below`."""
    parts = _row_norms(block)
    return None if max(parts) >= below else sum(map(int, parts))


def _row_norms(values: NDArray[np.float32] | NDArray[np.float64]) -> list[float]:
    """Squared norms of stretches of `values`, each so short that no matrix library starts threads: they would fight over a pinned core."""
    whole = values.size // _ROW * _ROW
    rows = values[:whole].reshape(-1, _ROW)
    found: list[float] = np.vecdot(rows, rows).tolist()
    return [*found, float(np.vecdot(values[whole:], values[whole:]))] if whole < values.size else found
