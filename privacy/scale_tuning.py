"""Tuning the scale of distributed sums during training, from released sums alone, at a price that was fixed before the first round.

The published scale leaves room for a sum of n updates that all point the same way. Real sums are shorter, so that a finer scale fits the
same lane; then rounding adds less to the sensitivity, and the same guarantee needs less noise. The norm of the next sum is guessed from the
last released one, whose noise is already charged: a function of released values costs nothing.

Price. A run is charged for its *base*, the plan that it starts with. A tuned plan has a scale s' >= s and local noise in the same
proportion to the inflated norm, sigma' / D2' = sigma / D2. Its bounds are nowhere above those of the base, at any order and for any number
of contributors:

- D2' >= D2, since the squared norm bound grows with the scale in each of its branches; so sigma' >= sigma.
- Discrete Gaussian (`distributed_curves.discrete_gaussian`): D2 / sigma is the same, tau falls with sigma, and so do tau d and sqrt(d) tau.
  In the middle term D1 / sigma is min(sqrt(d), D2) times D2 / sigma, so that D1 tau / sigma could grow through D2 tau alone; with sigma
  proportional to D2 that is x exp(-2 pi^2 x^2 k / (k + 1)) for k >= 1 up to a factor, which falls from x = 1 / (pi sqrt(2)) = 0.226 on.
- Skellam (`distributed_curves.skellam`): D2^2 / mu is the same and mu grows, so that D2^2 / mu^2, D1 / mu^2 (D1 <= D2^2) and
  D1 / mu = min(sqrt(d) / D2, 1) D2^2 / mu do not grow.
- Where tau d counts, the accountant may take the exact masses of the base's sum instead of the published bound, and no such argument is
  known for those; a base with a tau d that counts is therefore refused.

Overflow. `sum_norm_at` is the norm of a sum for which the published formula gives a scale; `DistributedPlan.overflow_probability` is
proved for sums up to it. That the next sum is no longer rests on the guess, which may fail; then coordinates overflow, which costs
accuracy and not privacy. A sum that has overflowed fills its lane evenly and so looks longer than any that fits: the scale falls again.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from privacy import distributed_curves
from privacy.distributed import TAIL_Z, DistributedPlan
from privacy.distributed_plans import finest_useful_scale, scale_for

SAFETY = 2.0
"""The next sum may be so much longer than the last one."""
STEPS_A_DOUBLING = 4
"""Scales are the base's times powers of 2^(1/4), so that few tables are made and a released sum says little more than it must."""
_NEGLIGIBLE = 1e-6
_DEVIATIONS = 4.0


def check_base(base: DistributedPlan) -> None:
    """Refuses a plan whose scale cannot be tuned at a fixed price.

    Raises:
      ValueError: for a plan without noise, or discrete Gaussian noise so narrow that the published bound is not what is charged.
    """
    if base.local_sigma == 0:
        raise ValueError("scale auto needs noise: without it a released sum is not charged")
    narrow = base.mechanism == "ddg" and (
        distributed_curves.tau(base.devices, base.local_sigma) * base.padded_dimension >= _NEGLIGIBLE
    )
    if narrow:
        raise ValueError(
            f"scale auto needs more than {base.bits} bits: local noise of {base.local_sigma:.3g} units is too narrow to be tuned"
        )


def at_scale(base: DistributedPlan, scale: float) -> DistributedPlan:
    """The tuned plan at `scale`, a function of the base and the scale alone.

    Raises:
      ValueError: for a scale below the base's, for which the base's price would not do.

    Guarantee:
      Costs at most what `base` costs (module docstring).
    """
    if not scale >= base.scale:
        raise ValueError(f"scale must be at least {base.scale}, not {scale}")
    if scale == base.scale:
        return base
    finer = dataclasses.replace(base, scale=scale, sum_norm=sum_norm_at(base, scale))
    # Rounded up: the noise is at least in proportion to the inflated norm.
    sigma = base.local_sigma * math.sqrt(finer.squared_norm / base.squared_norm) * (1 + 1e-12)
    honest = math.sqrt(base.minimum_survivors - base.corrupt)
    return dataclasses.replace(finer, local_sigma=sigma, noise_multiplier=sigma * honest / (scale * base.clip_norm))


def sum_norm_at(base: DistributedPlan, scale: float) -> float:
    """The norm of a sum, in units of the update, for which the published formula gives `scale` in the base's lane.

    >>> from privacy import distributed_plans
    >>> plan = distributed_plans.plan(mechanism="ddg", dimension=4096, clip_norm=1.0, noise_multiplier=0.5, devices=200, bits=12)
    >>> round(sum_norm_at(plan, plan.scale), 6)
    200.0
    """
    room = math.sqrt(4.0**base.bits - base.devices * TAIL_Z**2) / (2 * TAIL_Z * scale)
    return math.sqrt(max(0.0, room**2 - (base.noise_multiplier * base.clip_norm) ** 2) * base.rotation.block)


def sum_norm_estimate(released: NDArray[np.float64], *, noise_variance: float) -> float:
    """An upper estimate of the norm of the sum under the noise: sqrt(|released|^2 - d v), plus four standard errors.

    Args:
      released: a noised sum, shape (d,); in a rotated basis as well as in the update's own.
      noise_variance: v, of each coordinate.

    >>> round(sum_norm_estimate(np.full(10_000, 0.1), noise_variance=0.0), 6)
    10.0
    """
    squared = float(np.dot(released, released))
    size = released.size
    error = _DEVIATIONS * math.sqrt(
        2 * size * noise_variance**2 + 4 * noise_variance * max(0.0, squared - size * noise_variance)
    )
    return math.sqrt(max(0.0, squared - size * noise_variance + error))


def retuned(
    base: DistributedPlan,
    current: DistributedPlan,
    released: NDArray[np.float64],
    *,
    survivors: int,
    stretch: float = 1.0,
) -> DistributedPlan:
    """The plan for the next round: the same lane, at the scale that the last sum's length allows.

    Args:
      base: what is charged.
      current: the plan of the round that `released` is of.
      released: its noised sum in units of the update.
      survivors: contributions in it.
      stretch: how much longer updates will be next, where a clip that moves (`norm_tracking`) says so.

    Guarantee:
      Costs nothing: a function of released values, and the next round's plan costs at most what the base costs (`at_scale`).
    """
    guess = SAFETY * stretch * sum_norm_estimate(released, noise_variance=current.sum_variance(survivors))
    most = base.devices * base.clip_norm
    fits = scale_for(base, min(max(guess, base.clip_norm), most))
    wanted = min(fits, finest_useful_scale(base))
    steps = max(0, math.floor(STEPS_A_DOUBLING * math.log2(wanted / base.scale) + 1e-9))
    return at_scale(base, base.scale * 2.0 ** (steps / STEPS_A_DOUBLING))
