"""Signed integers into words of 64 bits and back.

A word is sum_j x_j 2^(B j) mod 2^64 over integers that were not wrapped, j being the lane. Lane j of a vector of W words holds the
coordinates j W to (j + 1) W - 1, so that packing and unpacking are a few passes over contiguous memory.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secagg.parameters import WORD_BITS, Vector

_TYPES = ("int64", "int32")
_SLICE = 1 << 14


def pack(vectors: tuple[Vector, ...], inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.uint64]:
    """All vectors' words, one behind the other, uint64, shape (words,).

    Args:
      inputs: signed integers by vector name, int32 or int64, shape (length,) each.

    Guarantee:
      The word sum of any devices is a function of their integer sum, coordinate by coordinate, and of nothing else about them, whether
      or not a lane overflows: packing is a homomorphism from the integers to the words modulo 2^64.

    >>> update = Vector(name="u", length=4, lane_bits=16, largest=9)
    >>> hex(pack((update,), {"u": np.array([1, -1, 2, 3])})[0])
    '0x30001ffff0001'
    """
    words = np.empty(sum(vector.words for vector in vectors), dtype=np.uint64)
    start = 0
    for vector in vectors:
        _pack_one(vector, inputs[vector.name], words[start : start + vector.words])
        start += vector.words
    return words


def unpack(vectors: tuple[Vector, ...], words: NDArray[np.uint64]) -> dict[str, NDArray[np.int64]]:
    """The sums behind summed words, int64, shape (length,) by vector name.

    Lane sums in [-2^(B-1), 2^(B-1)) come back exactly. A lane sum X beyond comes back as the representative of X mod 2^B in that
    range, and the next lane of the same word moves by the number of wraps, (X - representative) / 2^B.

    >>> update = Vector(name="u", length=4, lane_bits=16, largest=9)
    >>> unpack((update,), pack((update,), {"u": np.array([1, -1, 2, 3])}) * np.uint64(5))["u"].tolist()
    [5, -5, 10, 15]
    """
    sums: dict[str, NDArray[np.int64]] = {}
    start = 0
    for vector in vectors:
        sums[vector.name] = _unpack_one(vector, words[start : start + vector.words])
        start += vector.words
    return sums


def fault(vectors: tuple[Vector, ...], inputs: Mapping[str, NDArray[np.int64]]) -> str | None:
    """What is wrong with a device's own inputs, or None.

    >>> fault((Vector(name="u", length=2, lane_bits=16, largest=9),), {"u": np.array([3, -10])})
    'vector u: values must lie in [-9, 9]'
    """
    if set(inputs) != {vector.name for vector in vectors}:
        return f"the vectors must be {', '.join(vector.name for vector in vectors)}, not {', '.join(inputs) or 'none'}"
    for vector in vectors:
        values = inputs[vector.name]
        if str(values.dtype) not in _TYPES:
            return f"vector {vector.name}: the type must be int64 or int32, not {values.dtype}"
        if values.shape != (vector.length,):
            return f"vector {vector.name}: the shape must be ({vector.length},), not {values.shape}"
        if int(values.max()) > vector.largest or int(values.min()) < -vector.largest:
            return f"vector {vector.name}: values must lie in [{-vector.largest}, {vector.largest}]"
    return None


def overflow_bound(deviation: float, lane_bits: int) -> float:
    """Bound on the probability that one lane's sum leaves [-2^(B-1), 2^(B-1)), for a sub-Gaussian sum.

    Args:
      deviation: s with E exp(l X) <= exp(l^2 s^2 / 2) for the lane sum X and all l.

    Returns:
      2 exp(-2^(2B-2) / (2 s^2)), at most 1 (Chernoff).

    >>> overflow_bound(100.0, 12) < 1e-90, overflow_bound(1e9, 12)
    (True, 1.0)
    """
    half = 2.0 ** (lane_bits - 1)
    return min(1.0, 2.0 * math.exp(-((half / deviation) ** 2) / 2.0))


def _pack_one(vector: Vector, values: NDArray[np.int64], words: NDArray[np.uint64]) -> None:
    """Slice by slice, so that what the lanes add up to stays in the cache."""
    shifted = np.empty(min(_SLICE, vector.words), dtype=np.int64)
    signed = words.view(np.int64)
    for start in range(0, vector.words, _SLICE):
        part = signed[start : start + _SLICE]
        part[:] = values[start : start + len(part)]  # a negative number becomes its residue modulo 2^64
        for lane in range(1, vector.lanes):
            first = lane * vector.words + start
            added = values[first : min(first + len(part), len(values))]
            np.left_shift(added, lane * vector.lane_bits, out=shifted[: len(added)], dtype=np.int64, casting="same_kind")
            part[: len(added)] += shifted[: len(added)]


def _unpack_one(vector: Vector, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    bits = np.int64(vector.lane_bits)
    away = np.int64(WORD_BITS - vector.lane_bits)
    values = np.empty(vector.length, dtype=np.int64)
    for start in range(0, vector.words, _SLICE):
        rest = words[start : start + _SLICE].view(np.int64).copy()
        low = np.empty_like(rest)
        for lane in range(vector.lanes):
            np.left_shift(rest, away, out=low)
            np.right_shift(low, away, out=low)  # arithmetic: the lane's sign is spread
            first = lane * vector.words + start
            part = values[first : first + len(rest)]
            part[:] = low[: len(part)]
            rest -= low
            rest >>= bits  # what is shifted in belongs to lanes above the last
    return values
