"""Renyi curves of sums of integer noises: discrete Gaussian and Skellam.

Notation follows arXiv:2102.06387v4 and arXiv:2110.04995v3: D2 and D1 are the norms of one encoded contribution, d its dimension,
sigma_loc the deviation of one contributor's noise in integers, n the contributors whose noise the adversary does not know.

Both bounds are evaluated at whole orders (the Skellam bound is proved for those). Between them (alpha - 1) D_alpha is convex in
alpha, so that its chord is a bound.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from privacy import convolution
from privacy.events import DistributedEvent

MECHANISMS = ("ddg", "skellam")
NARROWEST = 0.5
"""The least deviation of one discrete Gaussian for which the published bound on sums of them is proved."""
_NEGLIGIBLE = 1e-6
"""What tau adds where it is so small is not worth a convolution."""
_TERMS = 1 << 16
"""Of tau, that are added one by one; each of the others is at most the last of these."""
_ORDERS = range(2, 257)


@lru_cache(maxsize=1024)
def tau(contributors: int, local_sigma: float) -> float:
    """How far the sum of n discrete Gaussians is from a discrete Gaussian: |ln of the ratio of masses| at every point, at most.

    Source: arXiv:2102.06387v4, main theorem (10 sum_(k=1)^(n-1) exp(-2 pi^2 sigma_loc^2 k / (k + 1))). It is proved from a deviation of
    `NARROWEST` on; below, this is a number without a theorem.

    >>> [float(f"{tau(100, sigma):.5g}") for sigma in (0.3, 0.5, 0.7, 1.0)]
    [182.2, 9.7012, 0.19141, 0.00054779]
    """
    k = np.arange(1, min(contributors, _TERMS + 1), dtype=np.float64)
    terms = np.exp(-2 * np.pi**2 * local_sigma**2 * k / (k + 1))
    rest = max(0, contributors - 1 - _TERMS) * float(terms[-1]) if len(terms) else 0.0
    return 10 * (math.fsum(terms.tolist()) + rest)


def discrete_gaussian(alpha: float, *, squared_norm: int, dimension: int, local_sigma: float, contributors: int) -> float:
    """D_alpha of one release whose noise is the sum of `contributors` discrete Gaussians; inf where no theorem bounds it.

    Args:
      alpha: order above 1.
      squared_norm: D2^2.

    Source: arXiv:2102.06387v4, main theorem and the Renyi bounds for sums of discrete Gaussians behind it (Proposition 14, which asks for
    sigma_loc >= 1/2); D1 <= min(sqrt(d) D2, D2^2). One discrete Gaussian alone: arXiv:2004.00010v5, for every deviation.

    >>> round(discrete_gaussian(2.0, squared_norm=10**8, dimension=1, local_sigma=1e3, contributors=100), 6)
    1.0
    >>> discrete_gaussian(2.0, squared_norm=1, dimension=1, local_sigma=0.49, contributors=100)
    inf
    """
    if contributors > 1 and local_sigma < NARROWEST:
        return math.inf
    t = tau(contributors, local_sigma)
    sigma = math.sqrt(contributors) * local_sigma
    norm, one_norm = math.sqrt(squared_norm), _one_norm(squared_norm, dimension)
    return min(
        alpha * squared_norm / (2 * sigma**2) + t * dimension,
        alpha / 2 * (squared_norm / sigma**2 + 2 * one_norm * t / sigma + t**2 * dimension),
        alpha / 2 * (norm / sigma + math.sqrt(dimension) * t) ** 2,
    )


def skellam(alpha: int, *, squared_norm: int, dimension: int, local_sigma: float, contributors: int) -> float:
    """D_alpha of one release with Skellam noise of total variance `contributors` local_sigma^2, for a whole order.

    Source: arXiv:2110.04995v3 (Agarwal, Kairouz, Liu), main theorem on the multi-dimensional Skellam mechanism.

    >>> round(skellam(2, squared_norm=10**8, dimension=10, local_sigma=1e3, contributors=100), 6)
    1.0
    """
    mu = contributors * local_sigma**2
    one_norm = _one_norm(squared_norm, dimension)
    excess = min(((2 * alpha - 1) * squared_norm + 6 * one_norm) / (4 * mu**2), 3 * one_norm / (2 * mu))
    return alpha * squared_norm / (2 * mu) + excess


def rdp(event: DistributedEvent) -> Callable[[float], float]:
    """The curve of an event at any real order above 1: its dearest `participations` releases, added.

    Where tau counts and the sum is narrow, the curve of the exact masses (`convolution`) is taken instead if it is lower.

    Raises:
      ValueError: for an unknown mechanism or values that no mechanism has.
    """
    _check(event)
    dearest = sorted(event.contributors)[: event.participations]
    if not dearest or event.participations == 0:
        return lambda _: 0.0
    if dearest[0] < 1 or event.local_sigma == 0:
        return lambda _: math.inf
    counts = {count: dearest.count(count) for count in set(dearest)}

    def whole(alpha: int) -> float:
        if alpha == 1:
            return 0.0  # weighted by alpha - 1 below
        parts = [times * _one(event, alpha, count) for count, times in counts.items()]
        return math.fsum(parts)

    def curve(alpha: float) -> float:
        low = math.floor(alpha)
        if low == alpha:
            return whole(low)
        share = alpha - low
        return ((1 - share) * (low - 1) * whole(low) + share * low * whole(low + 1)) / (alpha - 1)

    return curve


@lru_cache(maxsize=1024)
def published_rho(event: DistributedEvent) -> float:
    """The least rho with D_alpha <= alpha rho at every whole order up to 256, for all releases of `event`; inf where nothing is proved.

    By the published bounds alone: the exact masses, which `rdp` may take where a sum is narrow, cost seconds, and are never dearer.

    Raises:
      ValueError: as `rdp`.

    >>> wide = DistributedEvent(mechanism="ddg", dimension=8, squared_norm=100, local_sigma=10.0, contributors=(4,), participations=1)
    >>> round(published_rho(wide), 6)  # D2^2 / (2 n sigma_loc^2)
    0.125
    """
    _check(event)
    dearest = sorted(event.contributors)[: event.participations]
    if dearest and (dearest[0] < 1 or event.local_sigma == 0):
        return math.inf
    return max(math.fsum(_published(event, alpha, count) for count in dearest) / alpha for alpha in _ORDERS)


def _published(event: DistributedEvent, alpha: int, count: int) -> float:
    bound = discrete_gaussian if event.mechanism == "ddg" else skellam
    return bound(
        alpha, squared_norm=event.squared_norm, dimension=event.dimension, local_sigma=event.local_sigma, contributors=count
    )


def _one(event: DistributedEvent, alpha: int, count: int) -> float:
    published = _published(event, alpha, count)
    if (
        event.mechanism != "ddg"
        or not convolution.applies(event)
        or tau(count, event.local_sigma) * event.dimension < _NEGLIGIBLE
    ):
        return published
    exact = convolution.rdp(alpha, squared_norm=event.squared_norm, local_sigma=event.local_sigma, contributors=count)
    return min(published, exact)


def _one_norm(squared_norm: int, dimension: int) -> float:
    return min(math.sqrt(dimension * squared_norm), float(squared_norm))


def _check(event: DistributedEvent) -> None:
    if event.mechanism not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {MECHANISMS}, not {event.mechanism!r}")
    if event.dimension < 1 or event.squared_norm < 1 or not event.local_sigma >= 0:
        raise ValueError(f"no such encoding: {event.dimension=}, {event.squared_norm=}, {event.local_sigma=}")
    if event.participations < 0 or any(count < 0 for count in event.contributors):
        raise ValueError("participations and contributors must not be negative")
