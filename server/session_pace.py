"""When a device should come back, learned from the rounds there were."""

from contract.messages import RetryWindow
from contract.simulation import RoundPosition
from server.pace import PaceSteering

ROUND_GUESS_S = 10.0
"""How long a round is taken to last before one was seen."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 10.0


class SessionPace:
    """Counts check-ins and times rounds of a run; knows no device.

    Args:
      cohort: devices that a round selects.
      round_s: how long a round is taken to last before one was seen.

    >>> pace = SessionPace(cohort=10, round_s=4.0)
    >>> pace.opened(100.0); pace.retry_window(101.0)
    RetryWindow(minimum_s=3.0, maximum_s=3.4)
    """

    def __init__(self, *, cohort: int, round_s: float) -> None:
        self._cohort, self._round_s = max(1, cohort), round_s
        self._opened_s = 0.0
        self._before = 0
        self.check_ins = 0

    def opened(self, now_s: float) -> None:
        """A round begins to select."""
        self._opened_s = now_s

    def closed(self, now_s: float, *, completed: bool) -> None:
        """A round is over; how long it took is learned if it completed."""
        if completed:
            self._round_s += 0.5 * (now_s - self._opened_s - self._round_s)
        self.check_ins, self._before = 0, self.check_ins

    def elapsed_s(self, now_s: float) -> float:
        """Time since the round began to select."""
        return max(0.0, now_s - self._opened_s)

    def retry_window(self, now_s: float) -> RetryWindow:
        """For a device that is turned away: together at the end of this round for a small population, else spread out."""
        pace = PaceSteering(
            devices=max(self.check_ins, self._before), cohort=self._cohort, round_s=max(SHORTEST_WAIT_S, self._round_s)
        )
        return pace.retry_window(now_s=self.elapsed_s(now_s))

    def held_s(self, position: RoundPosition, held: int, now_s: float) -> float:
        """When a held device should ask again: about when the cohort is full, at the rate at which it fills."""
        filled_s = self.elapsed_s(now_s) * (position.cohort_target - held) / max(1, held)
        return turn_s(min(filled_s, max(0.0, position.deadline_s - now_s)))


def turn_s(seconds: float) -> float:
    """A wait that is neither a storm nor asleep.

    >>> turn_s(0.0), turn_s(3600.0)
    (0.05, 10.0)
    """
    return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, seconds))
