"""How likely a sum leaves its lane: a Chernoff bound that holds for every set of updates within the clip norm.

A coordinate of the sum is signal + rounding + noise. The signal is a rotated coordinate of a vector of norm at most S in a block of B,
sub-Gaussian with proxy S^2 / B over the public signs, which are drawn after the updates. Rounding moves it by less than 1 a device.
The noise is a sum of discrete Gaussians (sub-Gaussian with their sigma^2, arXiv:2004.00010v5) or a Skellam variable
(moment generating function exp(mu (cosh t - 1))). No independence between coordinates is used.
"""

import math

import numpy as np


def coordinate(*, mechanism: str, bits: int, devices: int, sum_norm: float, block: int, local_sigma: float) -> float:
    """An upper bound on the probability that one coordinate of a sum of `devices` leaves [-2^(bits-1), 2^(bits-1)).

    Args:
      sum_norm: the most that the norm of the sum of scaled updates can be, in integer units.
      block: B, over which the rotation spreads.

    >>> coordinate(mechanism="ddg", bits=16, devices=100, sum_norm=1e5, block=1 << 17, local_sigma=100.0) < 1e-100
    True
    """
    room = 2.0 ** (bits - 1) - devices
    if room <= 0:
        return 1.0
    signal, noise = sum_norm**2 / block, devices * local_sigma**2
    slope = room / (signal + noise) if signal + noise > 0 else math.inf
    if math.isinf(slope):
        return 0.0
    if mechanism == "ddg":
        return min(1.0, 2 * math.exp(-room * slope / 2))
    t = np.minimum(np.geomspace(slope / 64, slope, 257), 50.0)
    exponents = t**2 * signal / 2 + noise * (np.cosh(t) - 1) - t * room
    return min(1.0, 2 * math.exp(float(exponents.min())))
