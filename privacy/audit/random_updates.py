"""An estimate of epsilon from canary devices whose updates are random directions (Andrew et al. 2023).

A random unit vector is nearly orthogonal to everything else, so that the projection of the released sum on it says how much of that
canary the mechanism let through, compared with directions that no device sent. It is an estimate, tight for Gaussian noise and without
a guarantee: it warns, it never fails an audit.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtr, ndtr

from contract import randomness

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Epsilon at `delta`, with the bootstrap interval that the number of canaries leaves."""

    epsilon: float
    low: float
    high: float
    level: float
    delta: float
    canaries: int


def estimate(
    sent: Floats, unsent: Floats, *, delta: float, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> Estimate:
    """Epsilon between two normal laws fitted to the statistics of sent and of unsent directions.

    Args:
      sent, unsent: float64, shapes (n,) and (m,), at least 2 each: projections on the released model, or for a release of every
        round the sum or the largest of the projections on the rounds' updates.

    Source: arXiv:2302.03098v3, section 4; the law of unsent directions is measured and not taken to be N(0, 1/d), which makes it
      usable for statistics over all rounds, and both laws share one deviation unless the data refute it.

    >>> rows = np.linspace(-1.7, 1.7, 60)
    >>> estimate(rows + 1.0, rows, delta=1e-5).epsilon > estimate(rows + 0.5, rows, delta=1e-5).epsilon
    True
    """
    if len(sent) < 2 or len(unsent) < 2:
        raise ValueError(f"an estimate needs two sent and two unsent directions, not {len(sent)} and {len(unsent)}")
    generator = randomness.stream(seed, "estimate")
    found = sorted(
        _epsilon(
            sent[generator.integers(len(sent), size=len(sent))],
            unsent[generator.integers(len(unsent), size=len(unsent))],
            delta,
        )
        for _ in range(resamples)
    )
    low, high = (float(np.quantile(found, q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return Estimate(epsilon=_epsilon(sent, unsent, delta), low=low, high=high, level=level, delta=delta, canaries=len(sent))


def epsilon_of_normals(mean: float, deviation: float, null_mean: float, null_deviation: float, delta: float) -> float:
    """The smallest epsilon at which two normal laws are (epsilon, delta)-close, in the worse of both directions.

    >>> round(epsilon_of_normals(1.0, 1.0, 0.0, 1.0, 1e-5), 3)
    4.377
    """
    if not deviation > 0 or not null_deviation > 0:
        return math.inf if mean != null_mean or deviation != null_deviation else 0.0
    first, second = (mean, deviation), (null_mean, null_deviation)
    return max(_one_way(first, second, delta), _one_way(second, first, delta))


def direction(dimension: int, *labels: int | str, seed: int) -> NDArray[np.float32]:
    """A uniformly random unit vector, float32, shape (dimension,), named by its labels.

    >>> round(float(np.linalg.norm(direction(100, "canary", 3, seed=0))), 5)
    1.0
    """
    drawn = randomness.stream(seed, "direction", *labels).standard_normal(dimension)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def _epsilon(sent: Floats, unsent: Floats, delta: float) -> float:
    one, other = float(sent.std(ddof=1)), float(unsent.std(ddof=1))
    if one > 0 and other > 0 and _variances_agree(one, other, len(sent), len(unsent)):
        one = other = math.sqrt(((len(sent) - 1) * one**2 + (len(unsent) - 1) * other**2) / (len(sent) + len(unsent) - 2))
    return epsilon_of_normals(float(sent.mean()), one, float(unsent.mean()), other, delta)


def _variances_agree(one: float, other: float, n: int, m: int) -> bool:
    """Whether an F test at 1% lets two deviations pass as equal.

    Additive noise gives both laws the same deviation, and at a small delta a chance difference of two estimated ones would count for more
    than the shift itself.
    """
    below = float(fdtr(n - 1, m - 1, (one / other) ** 2))
    return 0.005 <= below <= 0.995


def _one_way(p: tuple[float, float], q: tuple[float, float], delta: float) -> float:
    if _hockey_stick(p, q, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _hockey_stick(p, q, high) > delta:
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _hockey_stick(p, q, middle) <= delta else (middle, high)
    return high


def _hockey_stick(p: tuple[float, float], q: tuple[float, float], epsilon: float) -> float:
    """sup over sets S of P(S) - e^epsilon Q(S): S is where the log-likelihood ratio, a quadratic, is at least epsilon."""
    (m, s), (n, t) = p, q
    # ln p/q - epsilon = a x^2 + b x + c
    a = 0.5 / t**2 - 0.5 / s**2
    b = m / s**2 - n / t**2
    c = math.log(t / s) - 0.5 * (m / s) ** 2 + 0.5 * (n / t) ** 2 - epsilon
    if abs(a) < 1e-12 * (1 / s**2 + 1 / t**2):
        if b == 0:
            return max(0.0, -math.expm1(epsilon)) if c >= 0 else 0.0
        edge = -c / b
        ends = [(edge, math.inf)] if b > 0 else [(-math.inf, edge)]
    else:
        discriminant = b**2 - 4 * a * c
        if discriminant <= 0:
            ends = [(-math.inf, math.inf)] if a > 0 else []
        else:
            roots = sorted(((-b - math.sqrt(discriminant)) / (2 * a), (-b + math.sqrt(discriminant)) / (2 * a)))
            ends = [(-math.inf, roots[0]), (roots[1], math.inf)] if a > 0 else [(roots[0], roots[1])]
    return sum(_mass(m, s, low, high) - math.exp(min(epsilon, 700.0)) * _mass(n, t, low, high) for low, high in ends)


def _mass(mean: float, deviation: float, low: float, high: float) -> float:
    below, above = (low - mean) / deviation, (high - mean) / deviation
    # In the upper tail the difference of two numbers near 1 would be all rounding.
    return float(ndtr(-below) - ndtr(-above)) if below > 0 else float(ndtr(above) - ndtr(below))
