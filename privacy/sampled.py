"""Poisson-sampled Gaussian sums, priced by dp-accounting: Renyi curve and privacy-loss distribution.

The only module that imports dp-accounting. It is imported when first needed, since it is slow to load.
"""

import logging
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from privacy.events import Adjacency, GaussianEvent

if TYPE_CHECKING:
    from dp_accounting.pld import PLDAccountant


_SMALLEST_ORDER, _LARGEST_ORDER = 1.6, 1 << 12


def check(event: GaussianEvent) -> None:
    """Refuses what amplification is not proved for.

    Raises:
      ValueError: for a rate outside (0, 1], or a relation other than add-or-remove.
    """
    rate = event.sampling_rate
    if rate is None or not 0 < rate <= 1:
        raise ValueError(f"sampling_rate must lie in (0, 1], not {rate}")
    if event.adjacency is not Adjacency.ADD_OR_REMOVE:
        raise ValueError(f"Poisson sampling is priced under add-or-remove, not {event.adjacency.value}")


def rdp(event: GaussianEvent) -> Callable[[float], float]:
    """The Renyi curve of `event` at real orders.

    Source: arXiv:1908.10530v1 (Mironov, Talwar, Zhang), section 3.3, as dp-accounting computes it.

    >>> event = GaussianEvent(noise_multiplier=1.0, releases=1, sampling_rate=1.0, adjacency=Adjacency.ADD_OR_REMOVE)
    >>> round(rdp(event)(4.0), 9)
    2.0
    """
    check(event)
    rate = float(event.sampling_rate or 1.0)

    def curve(alpha: float) -> float:
        # Leaving an order out is sound. Those outside give the least epsilon at no delta that anybody asks for, and cost seconds each.
        if not _SMALLEST_ORDER <= alpha <= _LARGEST_ORDER:
            return math.inf
        return event.releases * _rdp(event.noise_multiplier, rate, alpha)

    return curve


@lru_cache(maxsize=65536)
def _rdp(noise_multiplier: float, rate: float, alpha: float) -> float:
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant

    if noise_multiplier == 0:
        return float("inf")
    accountant = RdpAccountant([alpha])
    once = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise_multiplier))
    with _quiet():
        accountant.compose(once)
    return float(accountant.rdp[0])


@contextmanager
def _quiet() -> Generator[None]:
    """Keeps to itself that a series does not converge: the order then counts as infinite, which is said to nobody's use."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def epsilon_pld(events: Sequence[GaussianEvent], delta: float) -> float:
    """Epsilon at `delta` of sampled Gaussian events together, by privacy-loss distributions (pessimistic rounding).

    >>> event = GaussianEvent(noise_multiplier=1.1, releases=100, sampling_rate=0.0025, adjacency=Adjacency.ADD_OR_REMOVE)
    >>> round(epsilon_pld([event], 1e-5), 3)
    0.12
    """
    for event in events:
        check(event)
        if event.noise_multiplier == 0:
            return float("inf")
    return max(0.0, float(_pld(tuple(events)).get_epsilon(delta)))


@lru_cache(maxsize=16)
def _pld(events: tuple[GaussianEvent, ...]) -> "PLDAccountant":
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for event in events:
        once = dp_event.PoissonSampledDpEvent(
            float(event.sampling_rate or 1.0), dp_event.GaussianDpEvent(event.noise_multiplier)
        )
        accountant.compose(once, event.releases)
    return accountant
