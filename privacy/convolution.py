"""The Renyi curve of a sum of discrete Gaussians from its own masses, where the published bound is loose.

The published bound charges tau for how far the sum is from a discrete Gaussian. Here the masses of the sum are computed by convolution,
and r(j), the divergence of one coordinate from itself shifted by j, from them. Coordinates are independent, so that a change by an
integer vector v costs sum_i r(|v_i|) <= D2^2 max_j r(j) / j^2 over 1 <= j <= D2, in any dimension.

One period of n masses is all of them. Moving every one of the n contributions up by 1 maps what adds up to x onto what adds up to x + n,
and multiplies each probability by exp(-(2 x + n) / (2 sigma_loc^2)). So with f = ln P, exactly and for every sigma_loc,

    f(x + k n) = f(x) - (2 k x + k^2 n) / (2 sigma_loc^2),

and the terms of the divergence, t(x) = P(x + j)^a P(x)^(1 - a), fall from one period to the next by
t(x - n) / t(x) = exp((2 x + 2 a j - n) / (2 sigma_loc^2)): they are added over whole periods around -a j, until the next one holds less
than e^-40 of the last. A narrow sum is no Gaussian in its tails, which is why no rule for Gaussian tails would do.

Masses are sums of positive terms, and those of one period are at least 10^-250, so that their relative error is below 10^-9, which is
charged.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from privacy.events import DistributedEvent

WIDEST = 128.0
"""Largest deviation of a sum for which convolution is worth its time; wider sums have a negligible tau."""
MOST_CONTRIBUTORS = 4096
"""More have a period that holds masses below all numbers."""

_TAIL, _FARTHEST = 37.0, 26.0
_SMALLEST = 1e-250
_BEYOND = 40.0
_RELATIVE_ERROR = 1e-9


def applies(event: DistributedEvent) -> bool:
    """Whether `rdp` can say anything about the event.

    >>> applies(DistributedEvent(mechanism="skellam", dimension=1, squared_norm=1, local_sigma=1.0, contributors=(2,), participations=1))
    False
    """
    if event.mechanism != "ddg" or event.participations < 1 or not event.contributors or event.local_sigma < 0.1:
        return False
    most = max(event.contributors)
    return most <= MOST_CONTRIBUTORS and math.sqrt(most) * event.local_sigma <= WIDEST and min(event.contributors) >= 1


def rdp(alpha: int, *, squared_norm: int, local_sigma: float, contributors: int) -> float:
    """D_alpha of one release, for a whole order; inf for an order that is not worth its time, or masses too small to be held.

    >>> one = rdp(2, squared_norm=1, local_sigma=0.7, contributors=100)
    >>> round(one / (1 / (0.7**2 * 100)), 4)  # against alpha D2^2 / (2 sigma^2)
    1.0024
    """
    largest = math.isqrt(squared_norm)
    if alpha * largest > _FARTHEST * local_sigma * math.sqrt(contributors) or period(local_sigma, contributors) is None:
        return math.inf
    return squared_norm * max((_shift(alpha, j, local_sigma, contributors) / j**2 for j in range(1, largest + 1)), default=0.0)


@lru_cache(maxsize=1 << 16)
def _shift(alpha: int, j: int, local_sigma: float, contributors: int) -> float:
    """r(j), with what rounding may have hidden."""
    periods = 1 + math.ceil(_BEYOND * local_sigma**2 / contributors)
    middle, reach = -alpha * j, contributors // 2 + periods * contributors
    x = np.arange(middle - reach, middle + reach + 1)
    exponents = alpha * _logs(x + j, local_sigma, contributors) + (1 - alpha) * _logs(x, local_sigma, contributors)
    top = float(exponents.max())
    total = math.log(float(np.exp(exponents - top).sum())) + top
    return max(0.0, total) / (alpha - 1) + 3 * alpha * _RELATIVE_ERROR


def _logs(x: NDArray[np.int64], local_sigma: float, contributors: int) -> NDArray[np.float64]:
    """f at integers of any size, by the period."""
    base, half = period(local_sigma, contributors), contributors // 2
    assert base is not None
    k, place = np.divmod(x + half, contributors)
    return base[place] - (2 * k * (place - half) + k * k * contributors) / (2 * local_sigma**2)


@lru_cache(maxsize=64)
def period(local_sigma: float, contributors: int) -> NDArray[np.float64] | None:
    """ln of the masses of the sum at -(n // 2) .. -(n // 2) + n - 1, float64, shape (n,); None where one is below 10^-250.

    >>> values = np.exp(period(1.0, 12))  # all but what lies 6 / sqrt(12) deviations away
    >>> round(float(values.sum()), 3)
    0.915
    """
    x = np.arange(-math.ceil(_TAIL * local_sigma) - 1, math.ceil(_TAIL * local_sigma) + 2, dtype=np.float64)
    power = np.exp(-(x**2) / (2 * local_sigma**2))
    power /= power.sum()
    # No part of the sum is farther out but with probability 2 e^-684 (sub-Gaussian), far below the least mass that is used.
    reach = math.ceil(_TAIL * local_sigma * math.sqrt(contributors)) + contributors
    total, left = np.ones(1), contributors
    while left:
        if left & 1:
            total = _cut(np.convolve(total, power), reach)
        left >>= 1
        if left:
            power = _cut(np.convolve(power, power), reach)
    half, middle = contributors // 2, len(total) // 2
    values = total[middle - half : middle - half + contributors]
    return np.log(values) if values.min() >= _SMALLEST else None


def _cut(masses: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    middle = len(masses) // 2
    return masses[max(0, middle - reach) : middle + reach + 1]
