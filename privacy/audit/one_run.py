"""Epsilon from below, from one training run: each canary is a whole device that was in or out by a coin of its own.

The attacker sees the released model, guesses for some canaries whether they were in, and abstains from the others. If the mechanism is
(epsilon, delta)-DP, guesses cannot be right much more often than e^epsilon / (1 + e^epsilon). The bounds are jax-privacy's.
"""

import math
from dataclasses import dataclass

import numpy as np
from jax_privacy import auditing
from numpy.typing import NDArray

from contract import randomness

Floats = NDArray[np.float64]
GUESSED_SHARES = (0.02, 0.1, 0.4, 0.9)
"""Shares of the canaries that the attacker guesses about, fixed before any score is seen; each is a hypothesis of its own.

All of them would be too many: coins do not come up in halves.
"""
_SMALLEST_DELTA = 1e-300
"""jax-privacy takes no delta of 0; at this one its correction is lost in rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """What an attack proves: the mechanism is not (epsilon', delta)-DP for any epsilon' below `epsilon`, but for a chance of `level`.

    Args:
      canaries: m, in or out by independent fair coins.
      guesses, correct: of the hypothesis that gave the bound.
    """

    epsilon: float
    delta: float
    level: float
    canaries: int
    guesses: int
    correct: int


def coins(canaries: int, *, seed: int) -> NDArray[np.bool_]:
    """Which canaries are in: independent fair coins, bool, shape (canaries,). A fixed number of them would void the bound.

    >>> coins(4, seed=0).shape
    (4,)
    """
    return randomness.stream(seed, "one-run coins").integers(2, size=canaries).astype(np.bool_)


def epsilon_below(*, canaries: int, guesses: int, correct: int, delta: float, level: float) -> float:
    """The largest epsilon that `correct` right guesses of `guesses` rule out, 0 if none.

    Raises:
      ValueError: unless 0 <= correct <= guesses <= canaries and 0 < level < 1 and 0 <= delta < 1.

    Guarantee:
      For a mechanism that is (epsilon, delta)-DP for one canary under the relation by which it was in or out, and guesses that are
      any function of its output, the result exceeds epsilon with probability at most `level`.

    Source: arXiv:2305.08846v1 (Steinke, Nasr, Jagielski), section 5, through jax-privacy 2.0.

    >>> round(epsilon_below(canaries=1000, guesses=100, correct=100, delta=0.0, level=0.05), 4)
    3.493
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"correct <= guesses <= canaries does not hold for {correct}, {guesses}, {canaries}")
    if not 0 < level < 1 or not 0 <= delta < 1:
        raise ValueError(f"level must lie in (0, 1) and delta in [0, 1), not {level} and {delta}")
    if guesses == 0:
        return 0.0
    # The bound is a function of the three counts alone, so counts are handed over as scores of 1 (guessed) and 0. A canary is added
    # where the library wants one that was out: more canaries can only weaken the bound.
    right = np.repeat([1.0, 0.0], [correct, max(canaries - guesses, int(correct == 0))])
    wrong = np.repeat([1.0, 0.0], [guesses - correct, int(guesses == correct)])
    auditor = auditing.CanaryScoreAuditor(right, wrong)
    found = auditor.epsilon_one_run(level, max(delta, _SMALLEST_DELTA), threshold_strategy=auditing.Explicit(0.5))
    return float(found)


def comparison_delta(canaries: int, *, level: float, at_most: float) -> float:
    """A delta at which to compare: `at_most`, or the power of ten below it that leaves the bound its power.

    The theorem adds up to 2 m delta to every p value. At a delta of 1e-5 and a level of 1e-5 that alone is too much for a hundred
    canaries, however well they are told apart; and the ledger prices its events at any delta.

    >>> comparison_delta(400, level=5e-5, at_most=1e-5), comparison_delta(400, level=5e-5, at_most=1e-10)
    (1e-09, 1e-10)
    """
    kept = level / len(GUESSED_SHARES) / (4 * canaries)
    return min(at_most, 10.0 ** math.floor(math.log10(kept)))


def attack(scores: Floats, included: NDArray[np.bool_], *, delta: float, level: float) -> LowerBound:
    """The best of the hypotheses `GUESSED_SHARES`, each tested at its share of `level`.

    Half of the guesses are "in", for the highest scores, half are "out", for the lowest; equal scores go by position. The numbers of
    guesses are fixed beforehand: choosing a threshold by the counts that it gives would be a hypothesis for each threshold.

    Args:
      scores: float64, shape (m,), any function of what was released.
      included: bool, shape (m,), the coins.

    >>> included = coins(400, seed=1)
    >>> attack(included.astype(float), included, delta=1e-6, level=0.05).epsilon > 3
    True
    """
    if scores.shape != included.shape or scores.ndim != 1:
        raise ValueError(f"each canary needs a score and a coin: {scores.shape} and {included.shape}")
    if bool(np.isnan(scores).any()):
        raise ValueError("a score is not a number")
    order = np.argsort(-scores, kind="stable")
    guessed_in = included[order]
    best: LowerBound | None = None
    counts = sorted({max(1, math.ceil(share * len(scores))) for share in GUESSED_SHARES})
    for guesses in counts:
        high = -(-guesses // 2)
        low = guesses - high
        correct = int(guessed_in[:high].sum()) + int((~guessed_in[len(scores) - low :]).sum())
        epsilon = epsilon_below(canaries=len(scores), guesses=guesses, correct=correct, delta=delta, level=level / len(counts))
        if best is None or epsilon > best.epsilon:
            best = LowerBound(epsilon=epsilon, delta=delta, level=level, canaries=len(scores), guesses=guesses, correct=correct)
    if best is None:
        raise ValueError("there is no canary")
    return best
