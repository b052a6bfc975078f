"""The skew normal law: fitted to the references' scores, and evaluated far out in its tail.

Notation follows Azzalini 1985: density 2 phi(u) Phi(alpha u) / omega, u = (x - xi) / omega.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr
from scipy.stats import skewnorm

Floats = NDArray[np.float64]
_LARGEST_SKEWNESS = 0.99
"""No skew normal has a skewness of 0.9953 or more."""
_FITTED_REFERENCES = 20_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewNormal:
    """A fitted law.

    Args:
      xi, omega, alpha: location, scale > 0, shape.
      distance: the largest distance between its distribution function and the references' own (Kolmogorov-Smirnov); an
        extrapolation from a poor fit is worth little.
    """

    xi: float
    omega: float
    alpha: float
    distance: float = 0.0

    def log_survival(self, x: Floats) -> Floats:
        """Natural log of P[X >= x], float64, shape of `x`; accurate where the probability itself underflows.

        >>> law = SkewNormal(xi=0.0, omega=1.0, alpha=0.0)
        >>> [round(v, 6) for v in law.log_survival(np.array([0.0, 40.0])).tolist()]
        [-0.693147, -804.608442]
        """
        u = (np.asarray(x, np.float64) - self.xi) / self.omega
        return np.array([_log_tail(float(value), self.alpha) for value in u.reshape(-1)]).reshape(u.shape)

    def density(self, x: Floats) -> Floats:
        """The density at `x`, float64, shape of `x`."""
        u = (np.asarray(x, np.float64) - self.xi) / self.omega
        return np.exp(_log_density(u, self.alpha)) / self.omega


def fit(references: Floats) -> SkewNormal:
    """The maximum-likelihood skew normal of (at most 20,000 evenly spread) references, started from their moments.

    Raises:
      ValueError: for fewer than 8 references, or references that are all alike.

    >>> law = fit(np.linspace(-1.0, 1.0, 101))
    >>> round(law.xi + law.omega * law.alpha, 1) == round(law.xi, 1)
    True
    """
    if len(references) < 8:
        raise ValueError(f"a law needs at least 8 references, not {len(references)}")
    kept = np.asarray(references, np.float64)
    if len(kept) > _FITTED_REFERENCES:
        # Evenly spread over the *sorted* scores, so that the fit does not depend on the order in which they were drawn.
        picks = np.linspace(0, len(kept) - 1, _FITTED_REFERENCES).round().astype(np.int64)
        kept = np.sort(kept)[picks]
    if not float(kept.std()) > 0:
        raise ValueError("the references all have the same score")
    start = _by_moments(kept)
    found = _by_likelihood(kept, start)
    ordered = np.sort(kept)
    at = skewnorm.cdf(ordered, found.alpha, loc=found.xi, scale=found.omega)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(float(np.max(steps[1:] - at)), float(np.max(at - steps[:-1])))
    return SkewNormal(xi=found.xi, omega=found.omega, alpha=found.alpha, distance=distance)


def _by_moments(x: Floats) -> SkewNormal:
    mean, deviation = float(x.mean()), float(x.std())
    skewness = float(np.mean(((x - mean) / deviation) ** 3))
    limited = max(-_LARGEST_SKEWNESS, min(_LARGEST_SKEWNESS, skewness))
    power = abs(limited) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))), limited)
    omega = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    return SkewNormal(
        xi=mean - omega * delta * math.sqrt(2 / math.pi), omega=omega, alpha=delta / math.sqrt(max(1 - delta**2, 1e-12))
    )


def _by_likelihood(x: Floats, start: SkewNormal) -> SkewNormal:
    def loss(point: Floats) -> float:
        xi, log_omega, alpha = (float(value) for value in point)
        return log_omega - float(np.mean(_log_density((x - xi) / math.exp(log_omega), alpha)))

    first = np.array([start.xi, math.log(start.omega), start.alpha])
    found = minimize(loss, first, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 600})
    best = found.x if float(found.fun) < loss(first) else first
    return SkewNormal(xi=float(best[0]), omega=math.exp(float(best[1])), alpha=float(best[2]))


def _log_density(u: Floats, alpha: float) -> Floats:
    return math.log(2) - 0.5 * u**2 - 0.5 * math.log(2 * math.pi) + log_ndtr(alpha * u)


def _log_tail(u: float, alpha: float) -> float:
    """ln of the integral of the density from u on: pieces of doubling width until a piece adds nothing.

    The density is log-concave, so that beyond its mode every piece is smaller than the one before and 2^-60 ends the sum.
    """
    # The first piece is as wide as the density's own scale there: its logarithm's slope is at most |u| (1 + alpha^2) + ...
    width = 1.0 / (1.0 + abs(u) * (1.0 + alpha**2 * (alpha * u < 0)))
    total, left = -math.inf, u
    while True:
        points = left + 0.5 * width * (_NODES + 1)
        values = _log_density(points, alpha) + np.log(0.5 * width * _WEIGHTS)
        top = float(values.max())
        piece = top + math.log(float(np.exp(values - top).sum()))
        total = float(np.logaddexp(total, piece))
        left += width
        if piece < total - 42 and left > 1.0:
            return total
        width = min(2 * width, 1.0)
