"""Deadlines of a secure round's phases: they follow the latencies that were seen, under the dropouts that the graph was sized for.

One clock for one open phase of one group; all groups of a run learn together. The clock knows no time of its own, so that it gives the
same deadlines for the same arrivals, in virtual time and in real time alike.
"""

import json
from bisect import insort
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.collusion import whole_devices
from secagg import Parameters, Phase
from secagg.windows import AdaptiveWindows, OpenWindow, PhaseObservation

SHORTEST_WINDOW_S = 5.0
"""Of a phase of which nothing is known yet."""
SHORTEST_ADAPTED_S = 1.0
"""Shorter windows would measure how often devices ask, not how fast they are."""
LEAST_ROUNDS, REMEMBERED_ROUNDS = 3, 30
"""One round says how devices differ, only several how rounds do."""
LOSS_ROUNDS = 3.0
"""What a lost round costs besides its time, in rounds: the work, the data and the participations of all its devices."""
PHASES = (Phase.SHARE_KEYS, Phase.MASKED_INPUT, Phase.CONSISTENCY_CHECK, Phase.UNMASKING)
"""The phases that end by a deadline of their own; advertising ends when the roster is full."""


class PhaseWindows:
    """What a run knows of its phases' latencies.

    Args:
      reporting_s: the task's deadline for reports: no window is longer; the other phases have a sixth of it until they are known.
    """

    def __init__(self, *, reporting_s: float) -> None:
        self._most = max(SHORTEST_WINDOW_S, reporting_s)
        key_phase = min(self._most, max(SHORTEST_WINDOW_S, reporting_s / 6))
        first = tuple(self._most if phase is Phase.MASKED_INPUT else key_phase for phase in PHASES)
        self._learnt = AdaptiveWindows(first_s=first, longest_s=self._most, loss=LOSS_ROUNDS, remembered=REMEMBERED_ROUNDS)

    @property
    def advertising_s(self) -> float:
        """How long a roster may take to fill; devices fetch the model meanwhile, and a full roster waits for nobody."""
        return max(self._learnt.first_s[0], self._most / 2)

    def dump(self) -> bytes:
        """What was learnt, as JSON: floats come back bit for bit."""
        learnt = self._learnt
        relative = [[[one.seconds.tolist(), one.waited_s, one.missing] for one in seen] for seen in learnt.relative]
        return json.dumps({"relative": relative, "paces_s": learnt.paces_s, "rest_s": learnt.rest_s}).encode()

    def load(self, state: bytes) -> None:
        """Takes up what `dump` gave."""
        told = json.loads(state)
        relative = tuple(
            tuple(PhaseObservation(seconds=np.array(one[0], np.float64), waited_s=one[1], missing=one[2]) for one in seen)
            for seen in told["relative"]
        )
        paces_s = tuple(tuple(seen) for seen in told["paces_s"])
        self._learnt = replace(self._learnt, relative=relative, paces_s=paces_s, rest_s=told["rest_s"])

    def rests(self, seconds: float) -> None:
        """A round spends `seconds` outside its phases (check-in): a failed round wastes them, too."""
        self._learnt = replace(self._learnt, rest_s=max(0.0, seconds))

    def open(
        self, phase: Phase, *, at_s: float, alive: int, may_leave: int, needed: int, until_s: float = np.inf
    ) -> "PhaseClock":
        """The clock of a phase that opens at `at_s`.

        Args:
          alive: devices that are asked.
          may_leave: how many more may be missing until the round ends (`allowance`).
          needed: answers without which the phase is not cut short: waiting costs time, a lost round costs the work of all.
          until_s: a deadline that holds whatever was learnt.
        """
        return PhaseClock(self, PHASES.index(phase), at_s, alive, may_leave, needed, until_s)

    def window(self, phase: int, alive: int, may_leave: int) -> OpenWindow | None:
        """The window of a phase by its place in `PHASES`; None while too little is known of it, or nobody is asked."""
        seen = self._learnt.paces_s[phase] if self._learnt.paces_s else ()
        return None if len(seen) < LEAST_ROUNDS or not alive else self._learnt.open(phase, alive=alive, may_leave=may_leave)

    def longest_s(self, phase: int) -> float:
        """No window of this phase is longer."""
        return self._learnt.first_s[phase]

    def learn(self, phase: int, observed: PhaseObservation) -> None:
        """From now on deadlines know of this phase."""
        self._learnt = self._learnt.observe(phase, observed)


class PhaseClock:
    """One open phase of one group."""

    def __init__(
        self, windows: PhaseWindows, phase: int, at_s: float, alive: int, may_leave: int, needed: int, until_s: float
    ) -> None:
        self._windows, self._phase, self._opened_s, self._needed = windows, phase, at_s, needed
        self.alive = alive
        self._latest_s = min(at_s + windows.longest_s(phase), until_s)
        self._window = windows.window(phase, alive, may_leave)
        self._seconds: list[float] = []
        self._deadline_s = self._latest_s

    @property
    def opened_s(self) -> float:
        """When the phase began."""
        return self._opened_s

    @property
    def deadline_s(self) -> float:
        """When the phase is closed, as things stand."""
        return self._deadline_s

    @property
    def latest_s(self) -> float:
        """When the phase is closed whatever has come by then."""
        return self._latest_s

    def answered(self, at_s: float) -> None:
        """One more device has answered, at `at_s`; the deadline is asked for again."""
        insort(self._seconds, max(0.0, at_s - self._opened_s))
        if self._window is None or len(self._seconds) < self._needed:
            return
        wanted = max(SHORTEST_ADAPTED_S, self._window.deadline_s(np.array(self._seconds)))
        self._deadline_s = min(self._latest_s, self._opened_s + wanted)

    def close(self, at_s: float) -> float:
        """How long the phase took; the windows to come know of it."""
        waited = max(0.0, at_s - self._opened_s)
        missing = max(0, self.alive - len(self._seconds))
        if self.alive:
            observed = PhaseObservation(seconds=np.array(self._seconds), waited_s=waited, missing=missing)
            self._windows.learn(self._phase, observed)
        return waited


def allowance(parameters: Parameters, roster_size: int, alive: int, needed: int) -> int:
    """How many more of a roster may be missing: floor(q n) less those who have left; once those are used up, what can be borne.

    Args:
      needed: answers without which the round is lost.

    >>> from secagg.parameters import Vector, choose
    >>> update = Vector(name="update", length=10, lane_bits=21, largest=9)
    >>> chosen = choose(roster_size=30, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.1, minimum_survivors=24)
    >>> [allowance(chosen, 30, alive, 24) for alive in (30, 28, 27, 26, 24)]
    [3, 1, 0, 2, 0]
    """
    left, planned = roster_size - alive, whole_devices(parameters.drop_fraction, roster_size)
    bearable = max(0, roster_size - needed)
    return max(0, (planned if left <= planned <= bearable else bearable) - left)


def answers_until(clock: PhaseClock, arrivals_s: Sequence[float] | NDArray[np.float64]) -> float:
    """Plays a phase whose answers are known: when it closes. Whoever comes later than that is too late.

    Args:
      arrivals_s: of those who answer at all, ascending.

    >>> windows = PhaseWindows(reporting_s=60.0)
    >>> clock = windows.open(Phase.SHARE_KEYS, at_s=100.0, alive=3, may_leave=1, needed=2)
    >>> answers_until(clock, [101.0, 102.0, 103.0])
    103.0
    """
    answered = 0
    for at_s in arrivals_s:
        if at_s > clock.deadline_s:
            break
        clock.answered(float(at_s))
        answered += 1
    closed_s = float(arrivals_s[answered - 1]) if answered and answered == clock.alive else clock.deadline_s
    clock.close(closed_s)
    return closed_s
