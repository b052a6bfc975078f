"""The laws that noise is drawn from, and the sampler of each: a table where the deviation is small, buckets where it is wide."""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import Keystream
from privacy.samplers import bessel, precise, table
from privacy.samplers.wide import TAIL, Wide

WIDE_FROM = 128.0
"""Standard deviation from which buckets are used."""

SKELLAM_LARGEST = 2.0**15
ROUNDED_SMALLEST = 2.0**-7
"""Deviation from which a rounded Gaussian's masses are computed; below it the numbers on the way leave the decimals' exponents."""

_SCALE_BITS = 320


class Sampler(Protocol):
    """Independent integers from a keystream, each within 2^distance_log2 of its law in total variation."""

    @property
    def distance_log2(self) -> int: ...

    @property
    def reach(self) -> int:
        """No draw is larger in magnitude."""
        ...

    def draw(self, stream: Keystream, count: int) -> NDArray[np.int32] | NDArray[np.int64]:
        """`count` draws, shape (count,); equal streams give equal draws."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """exp(-x^2 / (2 deviation^2)): on the reals and rounded to the nearest integer, or as a mass on the integers."""

    deviation: float
    rounded: bool

    def exact(self, x: Decimal) -> Decimal:
        """f(x) to 100 digits."""
        return precise.bell(x, Decimal(self.deviation))

    def ratio(self, x: NDArray[np.float64], top: NDArray[np.float64]) -> NDArray[np.float64]:
        """f(x) / f(top): the exponent is at most 2 and each rounding in it below 14^2 2^-52."""
        return np.exp((top - x) * (top + x) / (2 * self.deviation * self.deviation))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabled:
    """A table with its distance from the law."""

    table: table.Table
    distance_log2: int

    @property
    def reach(self) -> int:
        """No draw is larger in magnitude."""
        return len(self.table.borders) // 2

    def draw(self, stream: Keystream, count: int) -> NDArray[np.int32]:
        """`count` draws, int32, shape (count,)."""
        return self.table.draw(stream, count)


@lru_cache(maxsize=64)
def rounded_gaussian(deviation: float) -> Sampler:
    """A sampler of round(N(0, deviation^2)), to the nearest integer.

    Guarantee:
      An integer plus this noise is the rounding of the integer plus Gaussian noise: whatever holds for the Gaussian mechanism
      holds for it, up to the sampler's distance.

    Raises:
      ValueError: for a deviation that is not finite, or below 2^-7.

    >>> rounded_gaussian(2.0).draw(Keystream(bytes(32), "doc", 0), 3).shape
    (3,)
    """
    _check(deviation)
    if deviation < ROUNDED_SMALLEST:
        raise ValueError(f"rounded Gaussian noise is drawn from a deviation of {ROUNDED_SMALLEST:g} on, not {deviation}")
    if deviation >= WIDE_FROM:
        return Wide(Gaussian(deviation=deviation, rounded=True))
    sigma = Decimal(deviation)
    reach = _reach(deviation)
    below = [precise.scaled(precise.area(Decimal(2 * x + 1) / 2, sigma), _SCALE_BITS) for x in range(reach + 1)]
    return _tabled(2 * below[0], [after - before for before, after in pairwise(below)])


@lru_cache(maxsize=64)
def discrete_gaussian(deviation: float) -> Sampler:
    """A sampler of the mass proportional to exp(-x^2 / (2 deviation^2)) on the integers.

    Source: arXiv:2004.00010v5 (Canonne, Kamath, Steinke), Definition 1.

    >>> discrete_gaussian(10.0).draw(Keystream(bytes(32), "doc", 0), 3).dtype
    dtype('int32')
    """
    _check(deviation)
    law = Gaussian(deviation=deviation, rounded=False)
    if deviation >= WIDE_FROM:
        return Wide(law)
    side = [precise.scaled(law.exact(Decimal(x)), _SCALE_BITS) for x in range(1, _reach(deviation) + 1)]
    return _tabled(1 << _SCALE_BITS, side)


@lru_cache(maxsize=64)
def skellam(deviation: float) -> Sampler:
    """A sampler of the difference of two independent Poisson variables of mean deviation^2 / 2 each.

    Raises:
      ValueError: for a deviation above 2^15.

    Source: arXiv:2110.04995v3 (Agarwal, Kairouz, Liu), definition of the Skellam law.

    >>> skellam(10.0).draw(Keystream(bytes(32), "doc", 0), 3).dtype
    dtype('int32')
    """
    _check(deviation)
    if deviation > SKELLAM_LARGEST:
        raise ValueError(f"Skellam noise is drawn up to a deviation of {SKELLAM_LARGEST:g}, not {deviation}")
    variance = Fraction(deviation * deviation)  # the float nearest to the variance is the variance
    masses = bessel.masses(variance, reach=_skellam_reach(float(variance)))
    if deviation >= WIDE_FROM:
        return Wide(bessel.Skellam(deviation=deviation, masses=masses))
    return _tabled(masses[0], masses[1:])


def _skellam_reach(variance: float) -> int:
    """Where a Skellam variable's tails are below 2^-132, by Bernstein's bound exp(-t^2 / (2 (variance + t / 3)))."""
    return math.ceil(31 + math.sqrt(31**2 + 184 * variance))


def _tabled(centre: int, side: list[int]) -> Tabled:
    weights = [*reversed(side), centre, *side]
    distance = math.ceil(math.log2(len(weights) + 1)) - 128
    return Tabled(table=table.from_weights(first=-len(side), weights=weights), distance_log2=distance)


def _reach(deviation: float) -> int:
    """Where tails are cut; at least 14, so that even a tiny deviation keeps all mass above 2^-145."""
    return math.ceil(TAIL * max(deviation, 1.0)) + 1


def _check(deviation: float) -> None:
    if not (deviation > 0 and math.isfinite(deviation)):
        raise ValueError(f"deviation must be positive and finite, not {deviation}")
