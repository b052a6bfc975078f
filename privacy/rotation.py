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
        if not 1 <= self.dimension <= self.padded:
            raise ValueError(f"dimension must lie in [1, {self.padded}], not {self.dimension}")

    @property
    def padded(self) -> int:
        """Length of a rotated vector."""
        return self.blocks * self.block

    def apply(self, vector: _Array, seed: bytes) -> _Array:
        """`vector`, shape (dimension,), rotated: shape (padded,), same type."""
        wide = np.zeros(self.padded, vector.dtype)
        wide[: self.dimension] = vector
        spread = np.ascontiguousarray(wide.reshape(self.block, self.blocks).T)
        spread *= _signs(self, seed)
        return cast(_Array, hadamard(cast(_Array, spread)).reshape(-1))

    def undo(self, rotated: _Array, seed: bytes) -> _Array:
        """The vector, shape (dimension,), whose rotation is `rotated`, shape (padded,)."""
        spread = hadamard(cast(_Array, rotated.reshape(self.blocks, self.block))) * _signs(self, seed)
        return cast(_Array, np.ascontiguousarray(spread.T).reshape(-1)[: self.dimension])


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

    Butterflies on contiguous halves, row by row so that a row stays in the cache; a transposition in between keeps the halves of the low
    bits contiguous too. No matrix library takes part: its threads would fight over a pinned core.

    >>> hadamard(np.array([[1.0, 1.0]])).round(6)
    array([[1.414214, 0.      ]])
    """
    length = rows.shape[1]
    low = 1 << ((length.bit_length() - 1) // 2)
    out = np.empty_like(rows)
    for row, target in zip(rows, out, strict=True):
        high_done = _butterflies(row.reshape(length // low, low).copy())
        low_done = _butterflies(np.ascontiguousarray(high_done.T))
        target.reshape(length // low, low)[:] = low_done.T
    out *= rows.dtype.type(1 / math.sqrt(length))
    return out


def _butterflies(table: NDArray[Any]) -> NDArray[Any]:
    """Unnormalised Hadamard transform along the first axis, in place, shape (a power of two, anything)."""
    width = 1
    while width < len(table):
        pairs = table.reshape(-1, 2, width * table.shape[1])
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        width *= 2
    return table


@lru_cache(maxsize=4)
def _signs(rotation: Rotation, seed: bytes) -> NDArray[np.int8]:
    """Plus or minus one, int8, shape (blocks, block)."""
    packed = np.frombuffer(Keystream(seed, "rotation signs", 0).read(-(-rotation.padded // 8)), np.uint8)
    bits = np.unpackbits(packed, count=rotation.padded).view(np.int8)
    return (1 - 2 * bits).reshape(rotation.blocks, rotation.block)
