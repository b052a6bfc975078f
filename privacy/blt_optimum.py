"""The buffered-linear-Toeplitz (BLT) strategy with the least prefix error for a schedule, in a fraction of a second.

Notation follows arXiv:2504.21413 (an inversion theorem for BLTs): with buffers theta_1 < ... < theta_m, and
lambda_i those of the inverse, the generating functions of C and C^-1 are

    C(x) = prod_i (1 - lambda_i x) / (1 - theta_i x),    1 / C(x)

and C is a BLT with positive scales and a BLT as its inverse wherever 0 < lambda_1 < theta_1 < lambda_2 < ... < theta_m < 1. So the gaps
between these numbers, positive with a sum of 1, are all that is to be found: no constraint, no eigenvalue. Derivatives by any of the
numbers are one more recursive filter of the same series, O(rounds) each.

What comes out is turned into fixed point and priced by our own sensitivity: a poor optimum costs accuracy and never privacy.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MOST_BUFFERS = 8
MOST_ROUNDS = 20_000
"""Seconds of work; a verifier repeats it for whatever a ledger says."""
LEAST_SCALE = 2.0**-30
"""A buffer with less would have none in fixed point: it is left out."""
_STEPS = 300
_FURTHEST = 30.0
"""Logarithms of gaps lie within this of each other: further apart nothing changes in double precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a strategy is optimised for.

    Args:
      rounds: n, the releases.
      minimum_separation: rounds strictly between two participations of a unit.
      participations: how often a unit takes part at most, no more than fit.
    """

    rounds: int
    minimum_separation: int
    participations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """Decays, descending, and scales of a strategy, real numbers, and its loss: sensitivity times root-mean-square prefix error."""

    buf_decay: tuple[float, ...]
    output_scale: tuple[float, ...]
    loss: float


@lru_cache(maxsize=256)
def optimum(schedule: Schedule, *, buffers: int) -> Optimum:
    """The strategy of at most `buffers` buffers with the least sensitivity times root-mean-square error of the prefix sums.

    The best of a few descents (L-BFGS) from fixed beginnings: deterministic on one machine, and its loss at most a ten-thousandth above
    what jax-privacy's optimiser finds in seconds, which a test compares.

    Raises:
      ValueError: for a number of buffers outside 1 to 8, a schedule without rounds or participations, or of more than 20,000 rounds.

    Source: arXiv:2408.08868v2 (McMahan, Xu, Zhang), on the loss; arXiv:2504.21413, Theorem 1, on the parameters.

    >>> found = optimum(Schedule(rounds=100, minimum_separation=9, participations=10), buffers=1)
    >>> [round(decay, 2) for decay in found.buf_decay], [round(scale, 2) for scale in found.output_scale]
    ([0.83], [0.61])
    """
    if not 1 <= buffers <= MOST_BUFFERS:
        raise ValueError(f"buffers must lie in [1, {MOST_BUFFERS}], not {buffers}")
    if schedule.rounds < 1 or schedule.participations < 1 or schedule.minimum_separation < 0:
        raise ValueError(f"no schedule has {schedule}")
    if schedule.rounds > MOST_ROUNDS:
        raise ValueError(f"a BLT is fitted to at most {MOST_ROUNDS} rounds, not {schedule.rounds}")
    first = min((_descent(beginning, schedule) for beginning in _beginnings(buffers)), key=_loss_of)
    best = min(first, *(_descent(other, schedule) for other in _moved(_gaps(first[1]))), key=_loss_of)
    decays, scales = _parameters(_gaps(best[1]))
    used = [pair for pair in zip(decays, scales, strict=True) if pair[1] >= LEAST_SCALE] or [(decays[-1], 0.0)]
    return Optimum(
        buf_decay=tuple(min(decay, 1.0) for decay, _ in used),
        output_scale=tuple(scale for _, scale in used),
        loss=math.exp(best[0] / 2),
    )


def loss(column: NDArray[np.float64], schedule: Schedule) -> tuple[float, float]:
    """Squared sensitivity, and mean squared error of the prefix sums for a noise of deviation 1, of a Toeplitz strategy.

    Args:
      column: first column of C, float64, shape (rounds,), never rising; its first entry is 1.
    """
    from scipy import signal

    prefix = signal.lfilter([1.0], column, np.ones(schedule.rounds))
    return float(np.sum(_summed(column, schedule) ** 2)), float(np.dot(_weights(schedule.rounds), prefix**2))


def _descent(beginning: NDArray[np.float64], schedule: Schedule) -> tuple[float, NDArray[np.float64]]:
    from scipy import optimize

    end = optimize.minimize(
        _log_loss, beginning, args=(schedule,), jac=True, method="L-BFGS-B", bounds=[(-_FURTHEST, _FURTHEST)] * len(beginning),
        options={"maxiter": _STEPS, "ftol": 1e-12, "gtol": 1e-9},
    )  # fmt: skip
    return float(end.fun), np.asarray(end.x)


def _loss_of(end: tuple[float, NDArray[np.float64]]) -> float:
    return end[0]


def _moved(gaps: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Beginnings that take the buffer which does least, lambda and theta nearly one, to where it forgets slower or faster than all."""
    least = 2 * int(np.argmin(gaps[1:-1:2]))
    kept = np.concatenate([gaps[:least], [gaps[least] + gaps[least + 1] + gaps[least + 2]], gaps[least + 3 :]])
    slower = [*kept[:-1], 0.9 * kept[-1], 0.0999 * kept[-1], 0.0001 * kept[-1]]
    faster = [0.1 * kept[0], 0.1 * kept[0], 0.8 * kept[0], *kept[1:]]
    return [np.clip(np.log(np.array(moved)), -_FURTHEST, _FURTHEST) for moved in (slower, faster)]


def _beginnings(buffers: int) -> list[NDArray[np.float64]]:
    """Logarithms of gaps: buffers spread over few or many rounds, in steps that grow."""
    return [
        np.log(np.diff(np.concatenate([[0.0], 1 - np.geomspace(shortest, longest, 2 * buffers), [1.0]])))
        for shortest, longest in ((0.9, 0.1), (0.6, 0.01), (0.5, 0.001))
    ]


def _gaps(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def _log_loss(logits: NDArray[np.float64], schedule: Schedule) -> tuple[float, NDArray[np.float64]]:
    """log of squared sensitivity times mean squared error, and its gradient by the logits of the gaps."""
    from scipy import signal

    gaps = _gaps(logits)
    places = np.cumsum(gaps[:-1])  # lambda_1, theta_1, lambda_2, ...
    column, prefix = np.zeros(schedule.rounds), np.ones(schedule.rounds)
    column[0] = 1.0
    for inverse, decay in places.reshape(-1, 2):
        column = signal.lfilter([1.0, -inverse], [1.0, -decay], column)
        prefix = signal.lfilter([1.0, -decay], [1.0, -inverse], prefix)
    summed, weighted = _summed(column, schedule), _weights(schedule.rounds) * prefix
    squared, error = np.dot(summed, summed), np.dot(weighted, prefix)
    slopes = np.empty_like(places)
    both = np.stack([summed, prefix])
    for index, place in enumerate(places):
        # d/dplace of 1 / (1 - place x) is x / (1 - place x) times it; lambda stands above in C, theta in its inverse.
        sign, (risen, fallen) = (1 if index % 2 else -1), signal.lfilter([0.0, 1.0], [1.0, -place], both)
        slopes[index] = 2 * sign * (np.dot(summed, risen) / squared - np.dot(weighted, fallen) / error)
    by_gap = np.append(np.cumsum(slopes[::-1])[::-1], 0.0)
    return float(np.log(squared) + np.log(error)), gaps * (by_gap - np.dot(gaps, by_gap))


def _parameters(gaps: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """theta, descending, and the residues omega_i = prod_j (theta_i - lambda_j) / prod_(j != i) (theta_i - theta_j), all positive."""
    decays = np.cumsum(gaps[:-1])[1::2]

    def between(
        low: int, high: int
    ) -> float:  # of two places, from the gaps themselves: they may be closer than either is exact
        return float(gaps[low + 1 : high + 1].sum())

    scales = list[float]()
    for i in range(len(decays)):
        scale = between(2 * i, 2 * i + 1)
        for j in range(len(decays)):
            if j < i:
                scale *= between(2 * j, 2 * i + 1) / between(2 * j + 1, 2 * i + 1)
            elif j > i:
                scale *= between(2 * i + 1, 2 * j) / between(2 * i + 1, 2 * j + 1)
        scales.append(scale)
    return tuple(decays[::-1].tolist()), tuple(scales[::-1])


def _summed(column: NDArray[np.float64], schedule: Schedule) -> NDArray[np.float64]:
    """The sum of `participations` copies of a series, each `minimum_separation` + 1 later than the one before."""
    apart, rounds = schedule.minimum_separation + 1, len(column)
    blocks = -(-rounds // apart)
    padded = np.zeros((blocks, apart))
    padded.flat[:rounds] = column
    sums = np.cumsum(padded, axis=0)
    if schedule.participations < blocks:
        sums[schedule.participations :] -= sums[: -schedule.participations].copy()
    return sums.ravel()[:rounds]


def _weights(rounds: int) -> NDArray[np.float64]:
    """In how many prefixes, of all, each squared entry of the inverse's prefix sums counts."""
    return np.arange(rounds, 0, -1) / rounds
