"""Comparisons without a model of the scores: inserted against held-out canaries, treatments against a control, cells in order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract import randomness

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of medians with its bootstrap interval."""

    ratio: float
    low: float
    high: float
    level: float


def permutation_p_value(inserted: Floats, held_out: Floats, *, permutations: int = 10_000, seed: int = 0) -> float:
    """How often a random relabelling makes the inserted canaries' mean lead as large as it is; one-sided.

    Args:
      inserted, held_out: scores or exposures, float64, shapes (n,) and (m,), exchangeable if the model learned nothing of them.

    Guarantee:
      If it learned nothing, P[p <= x] <= x for every x: the observed labelling counts as one of the permutations.

    Source: Phipson and Smyth 2010, "Permutation p-values should never be zero", eq. 2.

    >>> permutation_p_value(np.array([9.0, 8.0, 9.5]), np.array([1.0, 2.0, 1.5]), permutations=999) < 0.1
    True
    """
    if not len(inserted) or not len(held_out):
        raise ValueError("the test needs inserted and held-out canaries")
    pooled = np.concatenate([inserted, held_out])
    observed = float(inserted.sum())
    generator = randomness.stream(seed, "permutation test")
    as_far = 0
    for _ in range(permutations):
        as_far += float(generator.permutation(pooled)[: len(inserted)].sum()) >= observed - 1e-9 * abs(observed)
    return (1 + as_far) / (1 + permutations)


def median_rank_ratio(
    control: NDArray[np.int64], treatment: NDArray[np.int64], *, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Ratio:
    """The treatment's median rank over the control's, for the same canaries in the same order.

    Canaries are resampled in pairs: what makes one canary easier than another is in both of its ranks.

    Args:
      control, treatment: ranks >= 1, int64, shape (n,).

    Returns:
      The ratio with its percentile-bootstrap interval; an interval above 2 says that noise more than doubled the median rank.

    >>> median_rank_ratio(np.array([1, 2, 3]), np.array([10, 20, 30])).ratio
    10.0
    """
    if control.shape != treatment.shape or not len(control):
        raise ValueError(f"ranks must be paired: {control.shape} and {treatment.shape}")
    generator = randomness.stream(seed, "rank ratio")
    rows = generator.integers(len(control), size=(resamples, len(control)))
    ratios = np.median(treatment[rows], axis=1) / np.median(control[rows], axis=1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Ratio(ratio=float(np.median(treatment) / np.median(control)), low=float(low), high=float(high), level=level)


def drop_p_value(control: Floats, treatment: Floats, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Whether the same canaries are less exposed under a treatment: the mean drop against random signs of the drops, one-sided.

    Args:
      control, treatment: exposures of the same canaries in the same order, float64, shape (n,).

    Guarantee:
      If each canary's two exposures are exchangeable, P[p <= x] <= x for every x.

    >>> drop_p_value(np.arange(12.0) + 3, np.arange(12.0), permutations=999)
    0.001
    """
    if control.shape != treatment.shape or not len(control):
        raise ValueError(f"exposures must be paired: {control.shape} and {treatment.shape}")
    drops = control - treatment
    signs = randomness.stream(seed, "drop test").integers(2, size=(permutations, len(drops))) * 2 - 1
    as_far = int(np.sum(signs @ drops >= drops.sum() - 1e-9))
    return (1 + as_far) / (1 + permutations)


def trend_p_value(doses: Sequence[float], responses: Floats, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Whether responses grow with doses (devices times copies): Spearman's correlation against random orders, one-sided.

    Args:
      doses, responses: one of each for every canary.

    >>> trend_p_value([1, 2, 4, 8, 16, 32], np.array([0.1, 0.3, 0.9, 1.0, 4.0, 9.0]), permutations=999) < 0.01
    True
    """
    if len(doses) != len(responses) or len(doses) < 2:
        raise ValueError(f"{len(doses)} doses and {len(responses)} responses make no trend")
    left, right = _ordinals(doses), _ordinals(responses)
    observed = float(left @ right)
    generator = randomness.stream(seed, "trend test")
    as_far = sum(float(left @ generator.permutation(right)) >= observed - 1e-9 for _ in range(permutations))
    return (1 + as_far) / (1 + permutations)


def spearman(doses: Sequence[float], responses: Floats) -> float:
    """Spearman's rank correlation; 0 where all doses or all responses are alike.

    >>> spearman([1, 2, 3], np.array([1.0, 5.0, 9.0]))
    1.0
    """
    left, right = _ordinals(doses), _ordinals(responses)
    left, right = left - left.mean(), right - right.mean()
    spread = float(np.sqrt((left @ left) * (right @ right)))
    return round(float(left @ right) / spread, 12) if spread else 0.0


def _ordinals(values: Sequence[float] | Floats) -> Floats:
    """Ranks from 1 on, equal values sharing the mean of theirs."""
    given = np.asarray(values, np.float64)
    ordered = np.sort(given)
    both = np.searchsorted(ordered, given, side="left") + np.searchsorted(ordered, given, side="right") + 1
    return both.astype(np.float64) / 2
