"""The public integer grid of central differential privacy: clip, round, check the norm, sum integers.

A device's update leaves as integers that count steps of a public power of two. Sums are then exact and the same in every order
of arrival, and the rounding is inside the accounted sensitivity: the mechanism is calibrated to `norm_bound_squared`, which the
device keeps by construction and the server checks.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from contract.canonical import Json, plain
from contract.entropy import Entropy
from privacy import grid_rounding, rounding
from privacy.keystream import KEY_BYTES, Keystream

LARGEST_INFLATION = 1.001
LARGEST_DIMENSION = 1 << 48
"""A length stays exact in floating point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Integer vectors in steps of `step`, within a norm that exceeds the clip norm by rounding only.

    Args:
      dimension: d, at least 1.
      clip_norm: c > 0, the L2 norm to which an update is clipped.
      step: length of one step; a power of two, so that scaling is exact in floating point.
      beta: see `rounding.squared_norm_bound`.

    >>> grid = plan(dimension=3, clip_norm=1.0)
    >>> vector = grid.encode(np.array([3.0, 0.0, 4.0], np.float32), lambda n: bytes(n))
    >>> grid.accepts(vector), np.round(grid.decode(vector.astype(np.int64)), 2)
    (True, array([0.6, 0. , 0.8]))
    """

    dimension: int
    clip_norm: float
    step: float
    beta: float = rounding.DEFAULT_BETA

    def __post_init__(self) -> None:
        if not (self.step > 0 and math.frexp(self.step)[0] == 0.5):
            raise ValueError(f"step must be a power of two, not {self.step}")
        if not (self.clip_norm > 0 and math.isfinite(self.clip_norm)):
            raise ValueError(f"clip_norm must be positive and finite, not {self.clip_norm}")
        if math.isqrt(self.norm_bound_squared) >= 1 << 30:
            raise ValueError(f"step {self.step} is too small for clip_norm {self.clip_norm}: values would leave 31 bits")

    @property
    def norm_bound_squared(self) -> int:
        """The largest squared norm, in steps, of a vector that may enter a sum."""
        return _norm_bound(self.clip_norm / self.step, self.dimension, self.beta)

    @property
    def inflation(self) -> float:
        """sqrt(norm_bound_squared) in units of the clip norm: what rounding adds to the sensitivity."""
        return math.sqrt(self.norm_bound_squared) * self.step / self.clip_norm

    def to_json(self) -> dict[str, Json]:
        """What a device is told, canonical-ready."""
        return {"kind": "grid", **cast(dict[str, Json], plain(self))}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> "Grid":
        """The grid that `to_json` wrote.

        Raises:
          ValueError: for a mapping that describes no grid.
        """
        if mapping.get("kind") != "grid" or set(mapping) != {"kind", "dimension", "clip_norm", "step", "beta"}:
            raise ValueError(f"no grid: {sorted(mapping)}")
        if type(mapping["dimension"]) is not int or not 1 <= mapping["dimension"] <= LARGEST_DIMENSION:
            raise ValueError(f"dimension cannot be {mapping['dimension']!r:.80}")
        return cls(
            dimension=mapping["dimension"],
            clip_norm=float(mapping["clip_norm"]),
            step=float(mapping["step"]),
            beta=float(mapping["beta"]),
        )

    def encode(self, delta: NDArray[np.float32], entropy: Entropy) -> NDArray[np.int32]:
        """Clips `delta` (float32, shape (d,)) to the clip norm and rounds it to the grid, int32 shape (d,).

        Raises:
          ValueError: for another shape, or a value that is not finite.

        Guarantee:
          `accepts` holds for the result, whatever `delta` and `entropy` are. The bias of a coordinate of x
          steps is at most 2^-16 steps, 2^-24 on grids finer than `grid_rounding.LARGEST_NORM`, and |x| 2^-23 more where it is
          scaled in single precision (norms below `rounding.SINGLE_BELOW` steps).
        """
        return self.rounded(delta, Keystream(entropy(KEY_BYTES), "stochastic rounding", 0))[0]

    def rounded(
        self,
        delta: NDArray[np.float32],
        coins: Keystream,
        *,
        length: float | None = None,
        cut: grid_rounding.Cut | None = None,
    ) -> tuple[NDArray[np.int32], int]:
        """`encode` with the coins that come next in a stream, and the exact squared norm of what it gives.

        Args:
          length: `grid_rounding.length(delta)`, where it is known already.
          cut: as in `grid_rounding.clip_and_round`; for a grid that is finer it is of no use.

        Raises:
          ValueError: as `encode`.

        Guarantee: as `encode`; the squared norm is at most `norm_bound_squared`.
        """
        if delta.shape != (self.dimension,):
            raise ValueError(f"delta must have shape ({self.dimension},), not {delta.shape}")
        vector, bound = delta.astype(np.float32, copy=False), self.norm_bound_squared
        if self.is_moderate:
            factor = self._factor(grid_rounding.length(vector) if length is None else length)
            return grid_rounding.clip_and_round(vector, factor, bound, coins, cut=cut)
        scaled = rounding.scaled_to_norm(vector, clip_norm=self.clip_norm, scale=1 / self.step)
        whole = rounding.round_within(scaled, bound, coins)
        return whole, rounding.squared_norm(whole)

    @property
    def is_moderate(self) -> bool:
        """Whether values are small enough for `grid_rounding`."""
        return math.isqrt(self.norm_bound_squared) <= grid_rounding.LARGEST_NORM

    def attempted(
        self,
        deltas: NDArray[np.float32],
        coins: Keystream | Sequence[Keystream],
        *,
        lengths: Sequence[float],
        cut: grid_rounding.RowsCut,
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The first attempt of `rounded` for several updates at once, and the exact squared norms of what it gives.

        Args:
          deltas: shape (k, d), an update in each of the first rows.
          coins: one stream for all, or one for each update.
          lengths: `grid_rounding.lengths` of the updates.

        Returns:
          Whole numbers in single precision, shape (n, d) for n updates. Those whose squared norm exceeds `norm_bound_squared` must not
          leave: they are to be drawn again, by `rounded`.

        Raises:
          ValueError: for a grid that is not `is_moderate`, deltas of another shape, or a length that is not finite.
        """
        if not self.is_moderate:
            raise ValueError(f"a grid of step {self.step} is too fine to round several vectors at once")
        if deltas.ndim != 2 or deltas.shape[1] != self.dimension or len(deltas) < len(lengths):
            raise ValueError(f"{len(lengths)} deltas must have shape (k, {self.dimension}), not {deltas.shape}")
        factors = np.array([self._factor(length) * (1 << grid_rounding.FRACTION_BITS) for length in lengths], np.float32)
        whole = cut(deltas, factors, coins)
        return whole, rounding.squared_norms(whole)

    def _factor(self, length: float) -> float:
        """What an update of this length is multiplied by."""
        if not math.isfinite(length):
            raise ValueError("the vector holds a value that is not finite")
        return (self.clip_norm / length if length > self.clip_norm else 1.0) / self.step

    def accepts(self, vector: NDArray[np.int32]) -> bool:
        """Whether `vector` is a contribution that the accounting covers: int32, shape (d,), within the norm."""
        return (
            vector.dtype == np.int32
            and vector.shape == (self.dimension,)
            and rounding.squared_norm(vector) <= self.norm_bound_squared
        )

    def decode(self, total: NDArray[np.int64]) -> NDArray[np.float64]:
        """A sum of grid vectors (int64, shape (d,)) in real units, float64."""
        return np.multiply(total, self.step, dtype=np.float64)


def plan(
    *, dimension: int, clip_norm: float, beta: float = rounding.DEFAULT_BETA, inflation: float = LARGEST_INFLATION
) -> Grid:
    """The coarsest power-of-two grid on which rounding inflates the norm by at most `inflation` (a factor above 1).

    >>> plan(dimension=1_412_250, clip_norm=0.3).inflation <= 1.001
    True
    """
    if not inflation > 1:
        raise ValueError(f"inflation must exceed 1, not {inflation}")
    if not (clip_norm > 0 and math.isfinite(clip_norm)):
        raise ValueError(f"clip_norm must be positive and finite, not {clip_norm}")
    step = 2.0 ** math.floor(math.log2(clip_norm))
    while math.sqrt(rounding.squared_norm_bound(scaled_norm=clip_norm / step, dimension=dimension, beta=beta)) * step > (
        inflation * clip_norm
    ):
        step /= 2
    return Grid(dimension=dimension, clip_norm=clip_norm, step=step, beta=beta)


@functools.lru_cache(maxsize=256)
def _norm_bound(scaled_norm: float, dimension: int, beta: float) -> int:
    """Kept, since it is asked for again with every vector."""
    return rounding.squared_norm_bound(scaled_norm=scaled_norm, dimension=dimension, beta=beta)


def finest(*, dimension: int, clip_norm: float) -> Grid:
    """The finest grid whose values fit 31 bits, for sums without noise, where precision is all that counts.

    >>> finest(dimension=3, clip_norm=1.0).step == 2.0**-28
    True
    """
    return Grid(dimension=dimension, clip_norm=clip_norm, step=2.0 ** (math.floor(math.log2(clip_norm)) - 28))
