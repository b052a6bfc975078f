"""Pace steering: when devices that were turned away should come back.

Small populations are told to come back *together*, so that the next cohort (which SecAgg needs all at once) can form; large ones are
spread over the time until they are needed, so that nobody storms the door (Bonawitz et al. 2019, arXiv:1902.01046v2, section 2.3).
"""

from dataclasses import dataclass

from contract.messages import RetryWindow

SMALL_POPULATION_ROUNDS = 20
"""A population that fills fewer rounds than this is small."""
READY_SHARE = 0.1
"""Of the devices that come back about so many can be taken: their conditions hold and their records allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceSteering:
    """`devices` is the size of the population as far as it is known, `cohort` the devices a round selects."""

    devices: int
    cohort: int
    round_s: float
    night_factor: float = 4.0

    def retry_window(self, *, now_s: float) -> RetryWindow:
        """The window for a device that is turned away at `now_s` (seconds of a day that begins at midnight local to the server).

        >>> PaceSteering(devices=100, cohort=50, round_s=600.0).retry_window(now_s=0.0)
        RetryWindow(minimum_s=600.0, maximum_s=660.0)
        """
        if self.devices < SMALL_POPULATION_ROUNDS * self.cohort:
            wait = self.round_s - now_s % self.round_s
            return RetryWindow(wait, wait + 0.1 * self.round_s)
        rounds_until_needed = self.devices / self.cohort
        spread = READY_SHARE * rounds_until_needed * self.round_s * (1.0 if _is_night(now_s) else 2.0)
        return RetryWindow(0.5 * spread, 1.5 * spread)


def _is_night(now_s: float) -> bool:
    hour = now_s / 3600.0 % 24.0
    return hour >= 22.0 or hour < 6.0
