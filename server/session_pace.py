"""When a device should come back, learned from the rounds there were."""

import math

from contract.messages import RetryWindow
from contract.simulation import RoundPosition
from server.pace import SMALL_POPULATION_ROUNDS, PaceSteering

ROUND_GUESS_S = 10.0
"""How long a round is taken to last before one was seen."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 10.0
KEPT = 0.95
"""Share of the estimated population that is believed in for another round: devices that were spread out do not all come by in one."""


class SessionPace:
    """Counts check-ins and times rounds of a run; knows no device.

    What is learned is the time from a full cohort to the round's end. The time a cohort takes to fill is left out: it is itself a
    consequence of when devices were told to come back.

    Args:
      cohort: devices that a round selects.
      round_s: how long a round is taken to last before one was seen.

    >>> pace = SessionPace(cohort=10, round_s=4.0)
    >>> pace.opened(90.0); pace.started(100.0); pace.retry_window(101.0)
    RetryWindow(minimum_s=3.0, maximum_s=3.4)
    """

    def __init__(self, *, cohort: int, round_s: float) -> None:
        self._cohort, self._round_s = max(1, cohort), round_s
        self._opened_s, self._started_s = 0.0, math.inf
        self._devices = 0.0
        self.check_ins = 0

    def opened(self, now_s: float) -> None:
        """A round begins to select."""
        self._opened_s, self._started_s = now_s, math.inf

    def started(self, now_s: float) -> None:
        """The cohort is complete."""
        self._started_s = now_s

    def closed(self, now_s: float, *, completed: bool) -> None:
        """A round is over; how long it took is learned if it completed."""
        if completed:
            self._round_s += 0.5 * (now_s - self._started_s - self._round_s)
        self._devices = max(float(self.check_ins), KEPT * self._devices)
        self.check_ins = 0

    def selection_s(self, now_s: float) -> float:
        """Time for which the round selected, or has selected so far."""
        return max(0.0, min(now_s, self._started_s) - self._opened_s)

    def collection_s(self, now_s: float) -> float:
        """Time since the cohort was complete; 0 before."""
        return max(0.0, now_s - self._started_s)

    def retry_window(self, now_s: float) -> RetryWindow:
        """For a device that is turned away: together at the end of this round for a small population, else spread out."""
        round_s, devices = max(SHORTEST_WAIT_S, self._round_s), int(max(self.check_ins, self._devices))
        if devices >= SMALL_POPULATION_ROUNDS * self._cohort:
            return PaceSteering(devices=devices, cohort=self._cohort, round_s=round_s).retry_window(now_s=now_s)
        left_s = round_s - self.collection_s(now_s)
        left_s = left_s if left_s > 0 else round_s / 4  # it takes longer than others did: ask again soon
        return RetryWindow(left_s, left_s + 0.1 * round_s)

    def held_s(self, position: RoundPosition, held: int, now_s: float) -> float:
        """When a held device should ask again: about when the cohort is full, at the rate at which it fills."""
        filled_s = self.selection_s(now_s) * (position.cohort_target - held) / max(1, held)
        return turn_s(min(filled_s, max(0.0, position.deadline_s - now_s)))


def turn_s(seconds: float) -> float:
    """A wait that is neither a storm nor asleep.

    >>> turn_s(0.0), turn_s(3600.0)
    (0.05, 10.0)
    """
    return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, seconds))
