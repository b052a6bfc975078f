"""How long a device lets a server put it off: never so shortly that it spins, never for ever."""

import math
from dataclasses import dataclass

LEAST_WAIT_S = 0.02
EARLY_WAITS = 500
LATER_WAIT_S = 1.0
"""The least wait once a device was put off so often: whoever means seconds need not say so every hundredth."""
LONGEST_WAIT_S = 600.0
LONGEST_PUT_OFF_S = 86_400.0
"""All waits of a session together; then it ends as if the connection had been lost for good."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What a session has waited so far.

    Args:
      waits: how often.
      waited_s: for how long.

    Guarantee:
      Whatever a server says, a session asks no more than `EARLY_WAITS` times at the least wait and then once a `LATER_WAIT_S`, waits
      `LONGEST_WAIT_S` at most at a time, and is over after `LONGEST_PUT_OFF_S` of waiting.

    >>> patience = Patience()
    >>> [patience.pause_s(said) for said in (0.0, 3.0, float("inf"), float("nan"), -1.0)]
    [0.02, 3.0, 600.0, 600.0, 600.0]
    """

    waits: int = 0
    waited_s: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the device has been put off long enough."""
        return self.waited_s >= LONGEST_PUT_OFF_S

    def pause_s(self, said_s: float) -> float:
        """How long to wait when the server says `said_s`. What is no duration counts as the longest."""
        if not (math.isfinite(said_s) and said_s >= 0.0):
            return LONGEST_WAIT_S
        return min(LONGEST_WAIT_S, max(said_s, LEAST_WAIT_S if self.waits < EARLY_WAITS else LATER_WAIT_S))

    def after(self, pause_s: float) -> "Patience":
        """The patience that is left after one more wait."""
        return Patience(self.waits + 1, self.waited_s + pause_s)
