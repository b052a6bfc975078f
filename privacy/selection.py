"""Hyperparameter search whose privacy is accounted: random stopping.

A random number K of trials is drawn first, each trial trains with settings drawn at random, and only the best is released. Looking at
the outcomes of a fixed number of trials costs their sum; stopping at random costs little more than one trial.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from contract.entropy import Entropy

_UNIFORM_BYTES = 16
_HAT_ORDERS = tuple(1 + 10 ** (x / 16) for x in range(-24, 65))


def mean_trials(*, shape: float, stop_probability: float) -> float:
    """E[K] of the truncated negative binomial law.

    Source: arXiv:2110.03620v2 (Papernot, Steinke), Definition 1.

    >>> round(mean_trials(shape=1.0, stop_probability=0.1), 6)
    10.0
    >>> round(mean_trials(shape=0.0, stop_probability=0.1), 6)
    3.90865
    """
    _check(shape, stop_probability)
    if shape == 0:
        return (1 / stop_probability - 1) / math.log(1 / stop_probability) if stop_probability < 1 else 1.0
    return shape * (1 - stop_probability) / (stop_probability * (1 - stop_probability**shape)) if stop_probability < 1 else 1.0


def draw_trials(entropy: Entropy, *, stop_probability: float) -> int:
    """K for shape 1, the geometric law on 1, 2, ...: secret randomness, drawn before the first trial.

    Each trial is the last with `stop_probability`, decided by 128 bits.

    >>> draw_trials(lambda count: bytes(count), stop_probability=0.2)
    1
    """
    _check(1.0, stop_probability)
    limit, trials = round(stop_probability * 2**128), 1
    while int.from_bytes(entropy(_UNIFORM_BYTES), "little") >= limit:
        trials += 1
    return trials


def rdp(trial: Callable[[float], float], *, shape: float, stop_probability: float) -> Callable[[float], float]:
    """The Renyi curve of the best of K trials, each with the curve `trial`.

    eps'(alpha) = eps(alpha) + (1 + shape) (1 - 1/a) eps(a) + (1 + shape) ln(1/gamma) / a + ln E[K] / (alpha - 1), the least over
    a > 1.

    Source: arXiv:2110.03620v2 (Papernot, Steinke), Theorem 2.

    >>> round(rdp(lambda alpha: 0.1 * alpha, shape=1.0, stop_probability=0.1)(8.0), 4)
    2.8493
    """
    _check(shape, stop_probability)
    mean = mean_trials(shape=shape, stop_probability=stop_probability)

    @lru_cache(maxsize=1)
    def repeated() -> float:
        if stop_probability == 1:
            return 0.0
        return min((1 + shape) * ((1 - 1 / a) * trial(a) + math.log(1 / stop_probability) / a) for a in _HAT_ORDERS)

    return lambda alpha: trial(alpha) + repeated() + math.log(mean) / (alpha - 1)


def _check(shape: float, stop_probability: float) -> None:
    if not shape > -1:
        raise ValueError(f"shape must be above -1, not {shape}")
    if not 0 < stop_probability <= 1:
        raise ValueError(f"stop_probability must lie in (0, 1], not {stop_probability}")
