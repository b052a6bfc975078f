"""Noise streams on the integer grid: independent and by binary tree (with or without Honaker's estimator).

Every number drawn is named by (run key, mechanism, node), so that a resumed run repeats the noise of its first attempt, and no
number serves two nodes. A stream yields integers to add to each leaf's integer sum; the running total of sums and noise is then
the mechanism's estimate of the prefix sum.

Floating point cannot leak (Mironov 2012): noise is integer, sums are integer, and everything after them is integer arithmetic or
a function of released integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream
from privacy.samplers import Sampler

WEIGHT_BITS = 16
"""Honaker's weights are multiples of 2^-16, which costs less than 10^-9 of the variance."""


_Integers: TypeAlias = NDArray[np.int32] | NDArray[np.int64]
_IN_CACHE = 1 << 14
"""Coordinates that are worked on together: three vectors of them stay in a core's cache."""


class NoiseStream(Protocol):
    """The noise of one run, leaf by leaf."""

    @property
    def leaf(self) -> int:
        """Index of the leaf that `next` serves."""
        ...

    def next(self) -> NDArray[np.int64]:
        """Noise to add to this leaf's sum, int64, shape (d,); moves on to the next leaf."""
        ...


@dataclass(slots=True, kw_only=True)
class NoNoise:
    """Zeros: for training without any guarantee."""

    dimension: int
    leaf: int = 0

    def next(self) -> NDArray[np.int64]:
        """Zeros, shape (d,)."""
        self.leaf += 1
        return np.zeros(self.dimension, np.int64)


@dataclass(slots=True, kw_only=True)
class IndependentNoise:
    """One draw from `sampler` a coordinate and leaf.

    Guarantee:
      Each leaf's sum is released by the mechanism of the sampler's law, independently of the others.
    """

    dimension: int
    sampler: Sampler
    key: bytes = field(repr=False)
    leaf: int = 0

    def next(self) -> NDArray[np.int64]:
        """This leaf's noise, shape (d,)."""
        noise = self.sampler.draw(Keystream(self.key, "independent noise", self.leaf), self.dimension)
        self.leaf += 1
        return noise.astype(np.int64, copy=False)


class TreeNoise:
    """Noise of a binary tree over the leaves; node (level, last leaf) is drawn when its last leaf arrives.

    `honaker`: a node's estimate combines its own noised sum with the estimates of its two children, with the weight
    w_m = 1 / (2 - 2^-m) at level m for its own (the inverse variances), which leaves the variance sigma^2 / (2 - 2^-m).

    Guarantee:
      Released prefixes are a function of the noised integer sums of the complete nodes alone, one draw of `sampler` a node and
      coordinate. Proof for Honaker: the integer estimate of a node is e = floor((a y + (2^16 - a)(e_l + e_r) + 2^15) / 2^16) for
      its noised sum y and its children's estimates. If e_l = S_l + n_l, e_r = S_r + n_r, y = S + x with S = S_l + S_r, the sum
      comes out of the floor and e = S + n with n = floor((a x + (2^16 - a)(n_l + n_r) + 2^15) / 2^16), which is what is computed
      here. So adding n to S is the same as computing e from the y's.

    Source: arXiv:2103.00039v3 (Kairouz et al.), tree aggregation; Honaker 2015, "Efficient use of differentially private binary trees",
    estimation from below.
    """

    def __init__(
        self, *, dimension: int, sampler: Sampler, key: bytes, honaker: bool, restart_every: int | None, first_leaf: int = 0
    ) -> None:
        self._dimension, self._sampler, self._key = dimension, sampler, key
        self._honaker, self._restart_every = honaker, restart_every
        self._roots: list[tuple[int, _Integers]] = []
        self._leaf = first_leaf - first_leaf % restart_every if restart_every else 0
        while self._leaf < first_leaf:
            for _ in self._advance():
                pass

    @property
    def leaf(self) -> int:
        """Index of the leaf that `next` serves."""
        return self._leaf

    def next(self) -> NDArray[np.int64]:
        """What this leaf changes in the prefix's noise, shape (d,): the new root's, less that of the roots it takes in."""
        replaced = list(self._advance())
        root = self._roots[-1][1]
        change = np.subtract(root, replaced[0], dtype=np.int64) if replaced else root.astype(np.int64)
        for noise in replaced[1:]:
            change -= noise
        return change

    def _advance(self) -> Iterator[_Integers]:
        """Adds one leaf and yields the noise of the roots that are merged into its tree."""
        leaf = self._leaf
        self._leaf += 1
        if self._restart_every and leaf % self._restart_every == 0:
            self._roots.clear()
        position = leaf % self._restart_every if self._restart_every else leaf
        top = (~position & (position + 1)).bit_length() - 1  # trailing ones: how many levels this leaf completes
        noise = self._draw(leaf, 0 if self._honaker or top == 0 else top)
        for level in range(1, top + 1):
            _, left = self._roots.pop()
            if self._honaker:
                noise = _honaker(self._draw(leaf, level), noise, left, level, dtype=self._dtype(level))
            yield left
        self._roots.append((top, noise))

    def _draw(self, leaf: int, level: int) -> _Integers:
        return self._sampler.draw(Keystream(self._key, "tree node", leaf << 8 | level), self._dimension)

    def _dtype(self, level: int) -> type[np.int32] | type[np.int64]:
        """The narrower type that holds every estimate at `level`: half the memory of a tree, and of its traffic.

        An estimate is a weighted mean of a draw and of two estimates' sum, rounded: at most twice those below it, and 1.
        """
        most = self._sampler.reach
        for _ in range(level):
            most = 2 * most + 1
        return np.int32 if most < 1 << 31 else np.int64


def _honaker(
    own: _Integers, right: _Integers, left: _Integers, level: int, *, dtype: type[np.int32] | type[np.int64]
) -> _Integers:
    """Noise of the combined estimate of a node at `level`, of a type that holds it; may overwrite `own`."""
    weight = round((1 << WEIGHT_BITS) / (2 - 2.0**-level))
    combined: NDArray[Any] = own if own.dtype == dtype else np.empty(len(own), dtype)
    for start in range(0, len(own), _IN_CACHE):
        here = slice(start, start + _IN_CACHE)
        below = right[here].astype(np.int64)
        below += left[here]
        below *= (1 << WEIGHT_BITS) - weight
        below += own[here].astype(np.int64) * weight
        below += 1 << (WEIGHT_BITS - 1)
        below >>= WEIGHT_BITS
        combined[here] = below
    return combined
