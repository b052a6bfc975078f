"""Tuning the scale of distributed sums during training, from released sums alone.

The published scale leaves room for a sum of n updates that all point the same way. Real sums are shorter, so that a finer scale fits the
same lane. The norm of the next sum is guessed from the last released ones, whose noise is already charged: a function of released values
costs nothing. The guess may be wrong; then coordinates overflow, which costs accuracy, and the plan's bound on that rests on the guess.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from privacy.distributed import DistributedPlan
from privacy.distributed_plans import scale_for

SAFETY = 2.0
"""The next sum may be so much longer than the last one."""

_DEVIATIONS = 4.0


def sum_norm_estimate(released: NDArray[np.float64], *, noise_variance: float) -> float:
    """An upper estimate of the norm of the sum under the noise: sqrt(|released|^2 - d v), plus four standard errors.

    Args:
      released: a decoded noised sum, shape (d,).
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


def retuned(plan: DistributedPlan, released: NDArray[np.float64], *, survivors: int) -> DistributedPlan:
    """The plan for the next round: the same lane and relative noise, at the scale that the last sum's length allows.

    Guarantee:
      Costs nothing by itself. Noise over sensitivity stays what it was, since both follow the scale; the event of the next round is
      the new plan's.
    """
    guess = SAFETY * sum_norm_estimate(released, noise_variance=plan.sum_variance(survivors))
    most = plan.devices * plan.clip_norm
    sum_norm = min(max(guess, most / plan.devices), most)
    scale = scale_for(plan, sum_norm)
    return dataclasses.replace(plan, scale=scale, local_sigma=plan.local_sigma / plan.scale * scale, sum_norm=sum_norm)
