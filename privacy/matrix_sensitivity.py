"""Squared sensitivities of banded and buffered-linear-Toeplitz strategies under a separation and a cap.

With b = s + 1 rounds from one participation to the next, a unit's contributions meet the columns 0 <= j_1 < j_2 < ... of the
strategy, at least b apart.
"""

import math

import numpy as np
from numpy.typing import NDArray

from privacy import tree_sensitivity
from privacy.events import BandedEvent, BltEvent


def banded(event: BandedEvent) -> float:
    """k column_norm_squared, and what finite precision adds.

    Raises:
      ValueError: if the bands exceed the separation plus one: two columns of one unit would then overlap.

    Source: arXiv:2306.08153v2 (Choquette-Choo et al.), on banded strategies: columns at least b apart are orthogonal where bands <= b.

    >>> event = BandedEvent(noise_multiplier=1.411, leaves=2000, bands=400, column_norm_squared=0.2, minimum_separation=484,
    ...                     max_participations=3)
    >>> round(banded(event), 12)
    0.6
    """
    if not 1 <= event.bands <= event.minimum_separation + 1:
        raise ValueError(f"bands must lie in [1, minimum_separation + 1 = {event.minimum_separation + 1}], not {event.bands}")
    times = tree_sensitivity.most_participations(
        leaves=event.leaves, minimum_separation=event.minimum_separation, max_participations=event.max_participations
    )
    return _inflated(times * event.column_norm_squared, event.numerical_inflation)


def blt(event: BltEvent) -> float:
    """Squared norm of the sum of columns 0, b, 2b, ..., k of them, and what finite precision adds.

    Raises:
      ValueError: unless the strategy's coefficients are non-negative and never increase, which the result needs.

    Source: arXiv:2405.13763v2 (Kalinin, Lampert), Theorem 2; for BLTs arXiv:2408.08868v2 (McMahan, Xu, Zhang).

    >>> event = BltEvent(noise_multiplier=1.0, leaves=3, buf_decay=(0.5,), output_scale=(0.5,))
    >>> blt(event)  # columns (1, .5, .25), (0, 1, .5), (0, 0, 1) add up to (1, 1.5, 1.75)
    6.3125
    """
    column = coefficients(event.buf_decay, event.output_scale, event.leaves)
    times = tree_sensitivity.most_participations(
        leaves=event.leaves, minimum_separation=event.minimum_separation, max_participations=event.max_participations
    )
    return _inflated(
        toeplitz(column, minimum_separation=event.minimum_separation, participations=times), event.numerical_inflation
    )


def coefficients(buf_decay: tuple[float, ...], output_scale: tuple[float, ...], leaves: int) -> NDArray[np.float64]:
    """First column of the strategy, float64, shape (leaves,): 1, then sum_i output_scale_i buf_decay_i^(j-1).

    Raises:
      ValueError: unless decays lie in [0, 1], scales are not negative and add up to at most 1.

    >>> coefficients((0.5,), (0.5,), 3)
    array([1.  , 0.5 , 0.25])
    """
    if len(buf_decay) != len(output_scale) or not buf_decay:
        raise ValueError(f"one output scale a buffer: {len(buf_decay)} decays, {len(output_scale)} scales")
    if not all(0 <= decay <= 1 for decay in buf_decay):
        raise ValueError(f"decays must lie in [0, 1], not {buf_decay}")
    if not all(scale >= 0 for scale in output_scale) or sum(output_scale) > 1:
        raise ValueError(f"scales must be non-negative with a sum of at most 1, not {output_scale}")
    powers = np.arange(max(leaves - 1, 0), dtype=np.float64)
    tail = np.power(np.array(buf_decay)[:, None], powers[None, :]) * np.array(output_scale)[:, None]
    return np.concatenate([np.ones(min(leaves, 1)), tail.sum(axis=0)])


def toeplitz(column: NDArray[np.float64], *, minimum_separation: int, participations: int) -> float:
    """Squared norm of the sum of columns 0, b, 2b, ... of the lower-triangular Toeplitz matrix with first column `column`.

    Args:
      column: float64, shape (T,), non-negative and never increasing.
      participations: how many columns, at most those that begin before T.
    """
    if np.any(column < 0) or np.any(np.diff(column) > 0):
        raise ValueError("the strategy's coefficients must be non-negative and must never increase")
    total = np.zeros_like(column)
    for index in range(participations):
        start = index * (minimum_separation + 1)
        total[start:] += column[: len(column) - start]
    return math.fsum((total**2).tolist())


def _inflated(squared: float, inflation: float) -> float:
    return (math.sqrt(squared) + inflation) ** 2 if inflation else squared
