"""A public random rotation that spreads a vector's norm evenly: interleaving, random signs, Hadamard transforms of blocks.

Coordinate i goes to block i mod (number of blocks), which spreads each layer of a model over all blocks; within a block, signs drawn
from a public seed and a Hadamard matrix make every coordinate about as large as every other. The whole is orthogonal, so that norms
stay what they are, and it is undone exactly after summing, up to floating point.

For a vector with norm r in a block of B, a rotated coordinate is sub-Gaussian over the signs with variance proxy r^2 / B (Hoeffding).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream

LARGEST_BLOCK = 1 << 17
LARGEST_PADDED = 1 << 48
"""No vector is longer: a length stays exact in floating point."""
_COLUMNS = 1 << 12
_LOW, _MIDDLE, _STACK, _LONG = 32, 16, 64, 1 << 13
"""Orders of the small Hadamard matrices, rows of a row's piece that are multiplied together, and from where on butterflies are faster."""
_Array = TypeVar("_Array", bound=NDArray[np.float32] | NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A rotation of vectors of `dimension` into `blocks` blocks of `block`, a power of two.

    >>> rotation = plan(3)
    >>> seed, x = bytes(32), np.array([3.0, -4.0, 12.0])
    >>> rotated = rotation.apply(x, seed)
    >>> rotated.shape, bool(np.isclose(np.linalg.norm(rotated), 13)), rotation.undo(rotated, seed).round(9)
    ((4,), True, array([ 3., -4., 12.]))
    """

    dimension: int
    blocks: int
    block: int

    def __post_init__(self) -> None:
        if self.block < 1 or self.block & (self.block - 1):
            raise ValueError(f"block must be a power of two, not {self.block}")
        if self.padded > LARGEST_PADDED:
            raise ValueError(f"blocks must be fewer than {self.blocks}: no vector is so long")
        if not 1 <= self.dimension <= self.padded:
            raise ValueError(f"dimension must lie in [1, {self.padded}], not {self.dimension}")

    @classmethod
    def from_json(cls, mapping: object) -> "Rotation":
        """The rotation of a plan.

        Raises:
          ValueError: for anything else.

        >>> Rotation.from_json({"dimension": 3, "blocks": 1, "block": 4}).padded
        4
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(mapping, dict) or set(cast(dict[object, object], mapping)) != names:
            raise ValueError("no rotation: its fields are others")
        values = cast(dict[str, Any], mapping)
        if any(type(value) is not int for value in values.values()):
            raise ValueError("no rotation: its sizes are integers")
        return cls(**values)

    @property
    def padded(self) -> int:
        """Length of a rotated vector."""
        return self.blocks * self.block

    def apply(self, vector: _Array, seed: bytes, *, factor: float = 1.0) -> _Array:
        """`factor` times `vector`, shape (dimension,), rotated: shape (padded,), same type."""
        signs = _signs(self, seed, vector.dtype.char)
        spread = np.empty((self.blocks, self.block), vector.dtype)
        whole, rest = divmod(self.dimension, self.blocks)
        columns = vector[: whole * self.blocks].reshape(whole, self.blocks).T
        for start in range(0, whole, _COLUMNS):  # what a stretch of columns touches stays in the cache
            stretch = np.s_[:, start : min(start + _COLUMNS, whole)]
            np.multiply(columns[stretch], signs[stretch], out=spread[stretch])
            spread[stretch] *= vector.dtype.type(factor)
        spread[:, whole:] = 0
        if rest:
            spread[:rest, whole] = vector[whole * self.blocks :] * signs[:rest, whole] * vector.dtype.type(factor)
        _transform(spread)
        return cast(_Array, spread.reshape(-1))

    def undo(self, rotated: NDArray[Any], seed: bytes, *, factor: float = 1.0) -> NDArray[np.float64]:
        """`factor` times the vector, float64, shape (dimension,), whose rotation is `rotated`, numbers of any type, shape (padded,)."""
        spread, table = rotated.reshape(self.blocks, self.block).astype(np.float64), np.empty((self.block, self.blocks))
        _transform(spread)
        signs = _signs(self, seed, "d")
        for start in range(0, self.block, _COLUMNS):
            stretch, part = np.s_[:, start : start + _COLUMNS], table[start : start + _COLUMNS]
            np.multiply(spread[stretch].T, signs[stretch].T, out=part)
            part *= factor
        return table.reshape(-1)[: self.dimension]


def plan(dimension: int, *, largest_block: int = LARGEST_BLOCK) -> Rotation:
    """The rotation with the fewest blocks of one size up to `largest_block` (a power of two).

    >>> plan(1_412_250).padded == 11 * 2**17, plan(5, largest_block=1 << 30).padded
    (True, 8)
    """
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, not {dimension}")
    block = min(1 << (dimension - 1).bit_length(), largest_block)
    return Rotation(dimension=dimension, blocks=-(-dimension // block), block=block)


def hadamard(rows: _Array) -> _Array:
    """Each row times the symmetric orthonormal Hadamard matrix: shape (m, B), B a power of two, same type.

    >>> hadamard(np.array([[1.0, 1.0]])).round(6)
    array([[1.414214, 0.      ]])
    """
    out = rows.copy()
    _transform(out)
    out *= rows.dtype.type(1 / math.sqrt(rows.shape[1]))
    return cast(_Array, out)


def _transform(rows: NDArray[Any]) -> None:
    """Each row times the Hadamard matrix of plus and minus ones, in place, shape (m, B), row by row so that a row stays in the cache.

    That matrix is a Kronecker product: a row's low bits come first, a few at a time by small matrices, its high bits by butterflies, which
    take over where their halves have become so long that additions alone are faster. Every product is below the size from which matrix
    libraries start threads: those would fight over a pinned core.
    """
    length, kind = rows.shape[1], rows.dtype.char
    spare = np.empty(length, rows.dtype)
    low = min(_LOW, length)
    for row in rows:
        stack = min(_STACK, length // low)
        np.matmul(row.reshape(-1, stack, low), _sylvester(low, kind), out=spare.reshape(-1, stack, low))
        done, source, out = low, spare, row
        while done < length:
            factor = min(_MIDDLE, length // done) if done < _LONG else 2
            if factor > 2:
                shape = (-1, factor, done)
                np.matmul(_sylvester(factor, kind), source.reshape(shape), out=out.reshape(shape))
            else:
                pairs, found = source.reshape(-1, 2, done), out.reshape(-1, 2, done)
                np.add(pairs[:, 0], pairs[:, 1], out=found[:, 0])
                np.subtract(pairs[:, 0], pairs[:, 1], out=found[:, 1])
            done, source, out = done * factor, out, source
        if source is not row:
            row[:] = source


@lru_cache(maxsize=16)
def _sylvester(order: int, dtype: str) -> NDArray[Any]:
    """The Hadamard matrix of plus and minus ones, shape (order, order), order a power of two."""
    index = np.arange(order)
    signs = [[1 - 2 * (int(row & column).bit_count() & 1) for column in index] for row in index]
    return np.array(signs, dtype)


@lru_cache(maxsize=4)
def _signs(rotation: Rotation, seed: bytes, dtype: str) -> NDArray[Any]:
    """Plus or minus one over the root of the block, which makes the rotation orthonormal; shape (blocks, block)."""
    packed = np.frombuffer(Keystream(seed, "rotation signs", 0).read(-(-rotation.padded // 8)), np.uint8)
    bits = np.unpackbits(packed, count=rotation.padded)
    sizes = np.array([1, -1], dtype) / np.dtype(dtype).type(math.sqrt(rotation.block))
    return sizes[bits].reshape(rotation.blocks, rotation.block)
