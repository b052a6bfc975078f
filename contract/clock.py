"""Time as an argument: the only module that reads the system's clocks."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds since some fixed start; never goes back."""

    def now_s(self) -> float: ...


class SystemClock:
    """Monotonic real time."""

    def now_s(self) -> float:
        return time.monotonic()


class VirtualClock:
    """Time that moves only when told to.

    >>> clock = VirtualClock(); clock.advance_to(2.5); clock.now_s()
    2.5
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        return self._now_s

    def advance_to(self, at_s: float) -> None:
        """Moves to `at_s`; a time in the past is our own bug.

        Raises:
          ValueError: if `at_s` lies before now.
        """
        if at_s < self._now_s:
            raise ValueError(f"time cannot go back from {self._now_s} to {at_s}")
        self._now_s = at_s


def wall_time() -> datetime:
    """The date and time in UTC, for logs, tokens and certificates; never hashed into an entry."""
    return datetime.now(UTC)
