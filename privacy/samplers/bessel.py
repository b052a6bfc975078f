"""Skellam masses: ratios of modified Bessel functions, exactly by backward recurrence, quickly by the slope of their logarithm.

P(x) = exp(-mu) I_|x|(mu) for the variance mu.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.samplers import precise

_GUARD_BITS = 480
_KEEP_BITS = 320
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def masses(variance: Fraction, *, reach: int) -> list[int]:
    """I_x(variance) for x = 0 .. reach up to a common factor, whole numbers with I_0 at 2^320.

    Miller's backward recurrence I_(x-1) = I_(x+1) + (2 x / variance) I_x is started where the true value is below 2^-400 of the last
    one kept; it is stable in this direction.

    Source: Abramowitz and Stegun, 9.6.26 and 9.12, example 1.

    >>> values = masses(Fraction(2), reach=30)
    >>> round(values[1] / values[0], 6)  # I_1(2) / I_0(2)
    0.697775
    """
    start = reach + 64
    while _falls(float(variance), reach, start) < 400:
        start += start // 8 + 16
    values = [0] * (start + 2)
    values[start] = 1 << _GUARD_BITS
    for x in range(start, 0, -1):
        values[x - 1] = values[x + 1] + 2 * x * variance.denominator * values[x] // variance.numerator
    return [(value << _KEEP_BITS) // values[0] for value in values[: reach + 1]]


def _falls(variance: float, reach: int, start: int) -> float:
    """At least how many bits I_start lies below I_reach: Amos 1974 (Mathematics of Computation 28, Eq. 9) bounds I_(x+1) / I_x."""
    x = np.arange(reach, start, dtype=np.float64) + 0.5
    return float(-np.log2(variance / (x + np.sqrt(x * x + variance * variance))).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Skellam:
    """The law as a density for `wide.Wide`; `deviation` is at least 128.

    Args:
      masses: as `masses` gives them, up to 14 deviations at least.
    """

    deviation: float
    masses: Sequence[int] = field(repr=False)
    rounded: bool = False

    def exact(self, x: Decimal) -> Decimal:
        """P(x) / P(0) for a whole number x; 0 beyond the masses kept."""
        index = abs(int(x))
        with localcontext(precise.CONTEXT):
            return Decimal(self.masses[index]) / self.masses[0] if index < len(self.masses) else Decimal(0)

    def ratio(self, x: NDArray[np.float64], top: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(x) / P(top): the slope of ln I_x(mu) in x, integrated from `top` to x by Gauss-Legendre quadrature.

        With r^2 = x^2 + mu^2 the uniform expansion ln I_x = r - x asinh(x/mu) - ln(2 pi r) / 2 + (3 - 5 x^2/r^2) / (24 r) + ... has
        the slope -asinh(x/mu) - x / (2 r^2) - (13 x - 15 x^3/r^2) / (24 r^3); what is left out is below 2^-42 over a bucket at
        deviation 128, and falls with the sixth power.

        Source: Abramowitz and Stegun, 9.7.7.
        """
        mu = self.deviation * self.deviation
        half = (x - top) / 2
        total = np.zeros_like(x)
        for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
            at = top + half * (1 + node)
            square = at * at + mu * mu
            correction = at * (13 - 15 * at * at / square) / (24 * square * np.sqrt(square))
            total += weight * (np.arcsinh(at / mu) + at / (2 * square) + correction)
        return np.exp(-half * total)
