"""From rho (zero-concentrated differential privacy) to (epsilon, delta) and back, under two conversions.

`generic` holds for every rho-zCDP mechanism; `exact` only where the privacy loss is that of a Gaussian with mu = sqrt(2 rho):
Gaussian noise on real values, or rounded after it was added. Both are upper bounds that are met with equality for the curve
they assume.
"""

import math
from collections.abc import Callable

from scipy.special import log_ndtr

_RELATIVE_STEP = 1e-13


def epsilon_generic(rho: float, delta: float) -> float:
    """The smallest epsilon at `delta` that follows from rho-zCDP, minimised over all real orders alpha > 1.

    Returns inf for an infinite rho.

    Raises:
      ValueError: for a negative rho or a delta outside (0, 1).

    Guarantee:
      A rho-zCDP mechanism is (epsilon, delta)-DP. Any order gives a valid bound, so the minimiser's tolerance costs tightness
      only.

    Source: arXiv:2004.00010v4 (Canonne, Kamath, Steinke), Proposition 12, for the Renyi curve alpha rho.

    >>> round(epsilon_generic(0.806122, 1e-10), 4)
    8.8985
    """
    _check(rho, delta)
    if rho == 0 or math.isinf(rho):
        return rho

    def bound(log_excess: float) -> float:
        return rdp_bound(rho * (1 + math.exp(log_excess)), 1 + math.exp(log_excess), delta)

    middle = 0.5 * math.log(math.log(1 / delta) / rho)
    return max(0.0, bound(_golden(bound, middle - 12, middle + 12)))


def rdp_bound(divergence: float, alpha: float, delta: float) -> float:
    """Epsilon at `delta` from a Renyi divergence of order `alpha` (may be negative: read that as 0).

    Source: arXiv:2004.00010v4, Proposition 12.

    >>> round(rdp_bound(2.0, 4.0, 1e-5), 4)
    5.0879
    """
    return divergence + (-math.log(delta) - math.log(alpha)) / (alpha - 1) + math.log1p(-1 / alpha)


def log_delta_exact(rho: float, epsilon: float) -> float:
    """Natural log of the delta of a Gaussian mechanism with mu = sqrt(2 rho) at `epsilon`.

    Source: arXiv:1805.06530v2 (Balle, Wang), Theorem 8; Gaussian DP, arXiv:1905.02383v3, Corollary 2.13.

    >>> round(math.exp(log_delta_exact(0.5, 1.0)), 6)
    0.126937
    """
    if rho == 0:
        return -math.inf
    mu = math.sqrt(2 * rho)
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return first + math.log(-math.expm1(second - first)) if second < first else -math.inf


def epsilon_exact(rho: float, delta: float) -> float:
    """The smallest epsilon at `delta` of a Gaussian mechanism with mu = sqrt(2 rho).

    Raises:
      ValueError: for a negative rho or a delta outside (0, 1).

    Guarantee:
      Exact for (adaptive compositions of) Gaussian mechanisms whose squared sensitivity-to-noise ratios sum to 2 rho, and for
      everything computed from their outputs.

    >>> round(epsilon_exact(0.806122, 1e-10), 3), round(epsilon_exact(0.81, 1e-10), 3)
    (8.526, 8.549)
    """
    _check(rho, delta)
    if rho == 0 or math.isinf(rho):
        return rho
    target = math.log(delta)
    if log_delta_exact(rho, 0.0) <= target:
        return 0.0
    return _least(lambda epsilon: log_delta_exact(rho, epsilon) <= target, epsilon_generic(rho, delta))


def epsilon_loose(rho: float, delta: float) -> float:
    """rho + 2 sqrt(rho ln(1/delta)), the bound of 2016, for comparison with older reports only.

    Source: arXiv:1605.02065v1 (Bun, Steinke), Proposition 1.3.

    >>> round(epsilon_loose(0.81, 1e-10), 3)
    9.447
    """
    _check(rho, delta)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def rho_for(epsilon: float, delta: float, conversion: Callable[[float, float], float]) -> float:
    """The largest rho whose epsilon at `delta` under `conversion` is at most `epsilon`.

    >>> round(rho_for(1.0, 1e-10, epsilon_exact), 6), round(rho_for(1.0, 1e-10, epsilon_generic), 6)
    (0.014522, 0.013243)
    """
    if not epsilon > 0 or math.isinf(epsilon):
        raise ValueError(f"epsilon must be positive and finite, not {epsilon}")
    _check(0.0, delta)
    low, high = 0.0, epsilon
    while conversion(high, delta) <= epsilon:
        low, high = high, 2 * high
    while high - low > _RELATIVE_STEP * high:
        middle = (low + high) / 2
        if conversion(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def with_distance(epsilon_at: Callable[[float], float], delta: float, distance: float) -> float:
    """Epsilon at `delta` of a mechanism whose output law is within `distance` in total variation of one with `epsilon_at`.

    Two laws P, Q within tau of P', Q' satisfy P(S) <= e^eps Q(S) + delta' + tau (1 + e^eps); so the answer is the smallest
    epsilon with epsilon_at(delta - tau (1 + e^eps)) <= eps, found from below, or inf if there is none.

    Args:
      epsilon_at: epsilon as a function of delta, non-increasing.
      distance: tau, the sum over all draws of each draw's distance from its law.

    >>> with_distance(lambda delta: epsilon_exact(0.5, delta), 1e-6, 1e-3)
    inf
    """
    epsilon = epsilon_at(delta)
    while distance > 0 and math.isfinite(epsilon):
        left = delta - distance * (1 + math.exp(min(epsilon, 700.0)))
        if left <= 0:
            return math.inf
        following = epsilon_at(left)
        if following <= epsilon * (1 + _RELATIVE_STEP):
            return max(epsilon, following)
        epsilon = following
    return epsilon


def _least(holds: Callable[[float], bool], high: float) -> float:
    """The smallest argument in (0, high] for which the monotone predicate holds, from above."""
    low = 0.0
    while not holds(high):
        low, high = high, 2 * high + 1e-9
    while high - low > _RELATIVE_STEP * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _golden(function: Callable[[float], float], low: float, high: float) -> float:
    """About where a function with one valley between `low` and `high` is least (golden-section search)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-9:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return left


def _check(rho: float, delta: float) -> None:
    if not rho >= 0:
        raise ValueError(f"rho must not be negative, not {rho}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
