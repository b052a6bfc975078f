"""Exposure: how far ahead of chance a model finds a canary among references that it could just as well have been.

A score says how likely the model finds a sequence; higher is likelier (a log probability). References are drawn as the canaries were
and never trained on, so that the rank of a canary that the model has not seen is uniform.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.audit.skew_normal import SkewNormal, fit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One canary among `references` sequences.

    Args:
      rank: 1 + how many references score at least as high; ties count against the canary, so that it is never overstated.
      bits: log2(references) - log2(rank).
      extrapolated_bits: -log2 of the chance that a fitted skew normal gives to scoring at least as high.
    """

    rank: int
    references: int
    bits: float
    extrapolated_bits: float

    @property
    def censored(self) -> bool:
        """Whether no reference scored as high: the exposure is then *at least* `bits`, and its true rank is unknown."""
        return self.rank == 1


def ranks(scores: Floats, references: Floats) -> NDArray[np.int64]:
    """The rank of each score, int64, shape (n,), from 1 to len(references) + 1.

    Args:
      scores: float64, shape (n,). references: float64, shape (r,), r >= 1.

    Raises:
      ValueError: if there is no reference, or a score is not a number.

    >>> ranks(np.array([-0.1, -3.5, -20.0]), -np.arange(1.0, 17.0)).tolist()
    [1, 4, 17]
    """
    _check(scores, references)
    return len(references) - np.searchsorted(np.sort(references), scores, side="left") + 1


def sampled_bits(scores: Floats, references: Floats) -> Floats:
    """log2(references) - log2(rank), float64, shape (n,).

    Source: arXiv:1802.08232v3, Definition 4 (exposure), estimated by sampling (section 4.3).

    >>> sampled_bits(np.array([-0.1, -3.5]), -np.arange(1.0, 17.0)).tolist()
    [4.0, 2.0]
    """
    return math.log2(len(references)) - np.log2(ranks(scores, references))


def extrapolated_bits(scores: Floats, law: SkewNormal) -> Floats:
    """-log2 of the chance that a reference scores at least as high, under a law fitted to the references, shape (n,).

    It goes beyond log2(references), where sampling is censored, and is as good as the fit: see `SkewNormal.distance`.

    Source: arXiv:1802.08232v3, section 4.3, "approximation by distribution modeling".
    """
    return -law.log_survival(scores) / math.log(2)


def exposures(scores: Floats, references: Floats) -> tuple[list[Exposure], SkewNormal]:
    """Both estimates for each score, and the law that was fitted; where the law does not fit, sampling stands in for it.

    >>> found, _ = exposures(np.array([3.0]), np.linspace(-2.0, 2.0, 64))
    >>> found[0].bits, found[0].censored
    (6.0, True)
    """
    law = fit(references)
    found, bits = ranks(scores, references), sampled_bits(scores, references)
    beyond = extrapolated_bits(scores, law) if fits(law, len(references)) else bits
    return [
        Exposure(rank=int(found[i]), references=len(references), bits=float(bits[i]), extrapolated_bits=float(beyond[i]))
        for i in range(len(scores))
    ], law


def fits(law: SkewNormal, references: int) -> bool:
    """Whether a law is close enough to its references to be extrapolated: within 0.05, and what chance adds 1 time in 20.

    >>> law = SkewNormal(xi=0.0, omega=1.0, alpha=0.0, distance=0.06)
    >>> fits(law, 1000), fits(law, 1_000_000)
    (True, False)
    """
    return law.distance <= 0.05 + 1.36 / math.sqrt(references)


def null_mean_bits() -> float:
    """The mean exposure of sequences that the model never saw: ranks are uniform, so that exposure is -log2 of a uniform.

    >>> round(null_mean_bits(), 2)
    1.44
    """
    return 1 / math.log(2)


def null_quantile_bits(probability: float) -> float:
    """The exposure that an unseen sequence stays below with this probability.

    Raises:
      ValueError: outside [0, 1).

    >>> round(null_quantile_bits(0.99), 2)
    6.64
    """
    if not 0 <= probability < 1:
        raise ValueError(f"probability must lie in [0, 1), not {probability}")
    return -math.log2(1 - probability)


def null_p_value(rank: int, references: int) -> float:
    """The chance that an unseen sequence ranks as high as this or higher; exact, whatever the scores' law.

    >>> null_p_value(1, 9999)
    0.0001
    """
    if not 1 <= rank <= references + 1:
        raise ValueError(f"rank must lie in 1..{references + 1}, not {rank}")
    return rank / (references + 1)


def _check(scores: Floats, references: Floats) -> None:
    if len(references) == 0:
        raise ValueError("exposure needs at least one reference")
    if bool(np.isnan(scores).any()) or bool(np.isnan(references).any()):
        raise ValueError("a score is not a number: the model that gave it has diverged")
