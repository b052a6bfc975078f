"""White-box tests of what a mechanism claims about itself: the scale of its noise, its freshness, and how much one device can move a sum.

Each test has a null hypothesis that every correct implementation satisfies, an exact or normal law under it, and a function that says
with what power it catches a stated fault. They read releases of updates that are known (zeros, or one canary's direction).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def noise_scale_p_value(noise: Floats, *, sigma: float) -> float:
    """Tests that the noise's deviation is at least `sigma`, from a release of zero updates; small p: there is less noise than claimed.

    Args:
      noise: independent draws of mean 0, float64, any shape; rounding to integers adds variance and so only raises p.

    Guarantee:
      For N(0, s^2) with s >= sigma, P[p <= x] <= x: the sum of squares over s^2 is chi-square.

    >>> noise_scale_p_value(np.tile([1.0, -1.0], 200), sigma=2.0) < 1e-4
    True
    """
    if not sigma > 0 or noise.size == 0:
        raise ValueError(f"the test needs noise and a positive sigma, not {noise.size} draws and {sigma}")
    return float(stats.chi2.cdf(float(np.sum(np.square(noise, dtype=np.float64))) / sigma**2, noise.size))


def noise_scale_power(*, draws: int, ratio: float, level: float) -> float:
    """The chance to catch noise of `ratio` times the claimed deviation.

    >>> noise_scale_power(draws=100, ratio=0.5, level=1e-4) > 0.9999
    True
    """
    return float(stats.chi2.cdf(float(stats.chi2.ppf(level, draws)) / ratio**2, draws))


def noise_reuse_p_value(first: Floats, second: Floats) -> float:
    """Tests that two noises are uncorrelated; small p: one was computed from the other, or both are the same.

    Args:
      first, second: float64, shape (n,), n >= 4, two releases of zero updates (whitened, where the mechanism correlates them).

    Guarantee:
      For independent normal draws p is uniform: r sqrt((n - 2) / (1 - r^2)) has Student's law with n - 2 degrees of freedom.

    >>> noise_reuse_p_value(np.array([1.0, -2.0, 0.5, 3.0, -1.0]), np.array([1.0, -2.0, 0.5, 3.0, -1.0]))
    0.0
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) < 4:
        raise ValueError(f"the test needs two vectors of one length, at least 4, not {first.shape} and {second.shape}")
    n = len(first)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    r = float(first @ second) / norms if norms else 1.0
    left = 1 - r * r
    if left <= 1e-15:
        return 0.0
    return float(2 * stats.t.sf(abs(r) * math.sqrt((n - 2) / left), n - 2))


def noise_reuse_power(*, draws: int, share: float, level: float) -> float:
    """The chance to catch two noises whose correlation is `share`, by Fisher's transformation.

    >>> noise_reuse_power(draws=1000, share=0.5, level=1e-4) > 0.9999
    True
    """
    if abs(share) >= 1:
        return 1.0
    shift = math.atanh(share) * math.sqrt(draws - 3)
    edge = float(stats.norm.isf(level / 2))
    return float(stats.norm.sf(edge - shift) + stats.norm.cdf(-edge - shift))


def sensitivity_p_value(projection: float, *, bound: float, sigma: float) -> float:
    """Tests that a canary moved the released sum along its own direction by at most `bound`; small p: a bound was not kept.

    Two bounds are tested so: the clip norm (`bound` = c for one release) and the number of participations (`bound` = k c for the total of
    all rounds, under a separation that allows k).

    Args:
      projection: of the noised total on the canary's unit direction, other devices' known contributions taken off.
      bound: the most that the canary may contribute along it.
      sigma: deviation of the noise along any unit direction.

    Guarantee:
      If the contribution is at most `bound` and the noise normal with deviation at most `sigma`, P[p <= x] <= x.

    >>> sensitivity_p_value(10.0, bound=1.0, sigma=1.0) < 1e-4
    True
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, not {sigma}")
    return float(stats.norm.sf((projection - bound) / sigma))


def sensitivity_power(*, excess: float, sigma: float, level: float) -> float:
    """The chance to catch a contribution that exceeds its bound by `excess`.

    >>> round(sensitivity_power(excess=0.0, sigma=1.0, level=0.01), 4)
    0.01
    """
    return float(stats.norm.sf(float(stats.norm.isf(level)) - excess / sigma))
