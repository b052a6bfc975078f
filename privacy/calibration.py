"""Calibration: the noise that meets a target, and the rounds that a budget allows."""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, Context, Decimal

from privacy import accounting
from privacy.events import Event

LARGEST_MULTIPLIER = 1e6


def noise_multiplier(event_of: Callable[[float], Event], *, epsilon: float, delta: float) -> float:
    """The least noise multiplier, to six digits upwards, with which an event costs at most `epsilon` at `delta`.

    Args:
      event_of: the event at a noise multiplier; its price falls as the multiplier grows.

    Raises:
      ValueError: if no multiplier below 10^6 is enough.

    >>> from privacy.events import GaussianEvent
    >>> z = noise_multiplier(lambda z: GaussianEvent(noise_multiplier=z, releases=1), epsilon=1.0, delta=1e-6)
    >>> z, accounting.price(GaussianEvent(noise_multiplier=z, releases=1), 1e-6).epsilon <= 1.0
    (4.22468, True)
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    low, high = 0.0, 1.0
    while accounting.price(event_of(high), delta).epsilon > epsilon:
        low, high = high, 2 * high
        if high > LARGEST_MULTIPLIER:
            raise ValueError(f"no noise multiplier below {LARGEST_MULTIPLIER:g} gives epsilon {epsilon} at delta {delta}")
    while high - low > 1e-7 * high:
        middle = math.sqrt(low * high) if low > 0 else high / 16
        if accounting.price(event_of(middle), delta).epsilon <= epsilon:
            high = middle
        else:
            low = middle
    return float(Context(prec=6, rounding=ROUND_CEILING).create_decimal(Decimal(high)))


def rounds(event_of: Callable[[int], Event], *, epsilon: float, delta: float, most: int) -> int:
    """The most rounds, up to `most`, that cost at most `epsilon` at `delta`; 0 if not even one does.

    Args:
      event_of: the event after a number of rounds; its price never falls as rounds are added.

    >>> from privacy.events import GaussianEvent
    >>> rounds(lambda n: GaussianEvent(noise_multiplier=5.0, releases=n), epsilon=2.0, delta=1e-6, most=100)
    5
    """
    low, high = 0, 1
    while high <= most and accounting.price(event_of(high), delta).epsilon <= epsilon:
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if accounting.price(event_of(middle), delta).epsilon <= epsilon:
            low = middle
        else:
            high = middle
    return low
