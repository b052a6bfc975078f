"""The Renyi curve of a sum of discrete Gaussians from its own masses, where the published bound is loose.

The published bound charges tau for how far the sum is from a discrete Gaussian. Here the masses of the sum are computed by convolution,
and r(j), the divergence of one coordinate from itself shifted by j, from them. Coordinates are independent, so that a change by an
integer vector v costs sum_i r(|v_i|) <= D2^2 max_j r(j) / j^2 over 1 <= j <= D2, in any dimension.

Masses are sums of positive terms and are kept down to 10^-300, so that their relative error is below 10^-9, which is charged.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from privacy.events import DistributedEvent

WIDEST = 128.0
"""Largest deviation of a sum for which convolution is worth its time; wider sums have a negligible tau."""

_WINDOW, _USED = 37.0, 33.0
_MARGIN = 7.0
_RELATIVE_ERROR = 1e-9


def applies(event: DistributedEvent) -> bool:
    """Whether `rdp` can say anything about the event.

    >>> applies(DistributedEvent(mechanism="skellam", dimension=1, squared_norm=1, local_sigma=1.0, contributors=(2,), participations=1))
    False
    """
    if event.mechanism != "ddg" or event.participations < 1 or not event.contributors or event.local_sigma < 0.1:
        return False
    return math.sqrt(max(event.contributors)) * event.local_sigma <= WIDEST and min(event.contributors) >= 1


def rdp(alpha: int, *, squared_norm: int, local_sigma: float, contributors: int) -> float:
    """D_alpha of one release, for a whole order; inf where the order reaches too far into the tails.

    >>> one = rdp(2, squared_norm=1, local_sigma=0.7, contributors=100)
    >>> round(one / (1 / (0.7**2 * 100)), 4)  # against alpha D2^2 / (2 sigma^2)
    1.0024
    """
    largest = math.isqrt(squared_norm)
    return squared_norm * max((_shift(alpha, j, local_sigma, contributors) / j**2 for j in range(1, largest + 1)), default=0.0)


@lru_cache(maxsize=1 << 16)
def _shift(alpha: int, j: int, local_sigma: float, contributors: int) -> float:
    """r(j), with what rounding may have hidden."""
    masses = sum_masses(local_sigma, contributors)
    sigma = local_sigma * math.sqrt(contributors)
    if (alpha - 1) * j + _MARGIN * sigma > _USED * sigma - j:
        return math.inf
    logs = np.log(masses)
    middle, used = len(masses) // 2, math.floor(_USED * sigma)
    x = np.arange(-used, used - j + 1) + middle
    exponents = alpha * logs[x + j] + (1 - alpha) * logs[x]
    top = float(exponents.max())
    total = math.log(float(np.exp(exponents - top).sum())) + top
    return max(0.0, total) / (alpha - 1) + 3 * alpha * _RELATIVE_ERROR


@lru_cache(maxsize=64)
def sum_masses(local_sigma: float, contributors: int) -> NDArray[np.float64]:
    """Masses of the sum of `contributors` discrete Gaussians at -w .. w, w = 37 deviations of the sum; they add up to 1.

    >>> values = sum_masses(1.0, 4)
    >>> round(float(values.sum()), 9), len(values) % 2
    (1.0, 1)
    """
    sigma = local_sigma * math.sqrt(contributors)
    window = math.ceil(_WINDOW * sigma)
    reach = math.ceil(_WINDOW * local_sigma) + 1
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    power = np.exp(-(x**2) / (2 * local_sigma**2))
    power /= power.sum()
    total: NDArray[np.float64] | None = None
    left = contributors
    while left:
        if left & 1:
            total = power if total is None else _cut(np.convolve(total, power), window)
        left >>= 1
        if left:
            power = _cut(np.convolve(power, power), window)
    assert total is not None
    padded = np.zeros(2 * window + 1)
    half = min(len(total) // 2, window)
    padded[window - half : window + half + 1] = total[len(total) // 2 - half : len(total) // 2 + half + 1]
    return np.maximum(padded, np.finfo(np.float64).tiny)


def _cut(masses: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    middle = len(masses) // 2
    return masses[max(0, middle - window) : middle + window + 1]
