"""How long a phase waits: deadlines that follow the latencies observed, under the dropouts that the graph was sized for.

A round fails when more devices miss their deadlines, over all phases together, than may leave; waiting longer makes every round slower.
What counts is completed rounds an hour. By renewal-reward that is the rate c at which the best policy makes E[success - c time] zero, so
a phase is closed when waiting longer would add less to the chance of success than c times the waiting. How many are missing is known at
that moment, so the deadline is asked for again as answers arrive; what the phases to come are worth with so many or so few more who
may leave is found backwards from the last one (dynamic programming).

Statistics, and why these. Rounds differ as a whole (night, weekend, a slow network) by more than devices do within one, so latencies are
taken relative to the median of their own phase: the median is there when half have answered, is not moved by a heavy tail, and makes
what was learnt at noon serve at midnight. Devices that missed a deadline are known to be slower and no more, so the relative
distribution is Kaplan and Meier's product-limit estimate (1958, doi:10.1080/01621459.1958.10501452), which uses such right-censored
observations; leaving them out would shorten every next window. Where observation ends that estimate would say that waiting longer gains
nothing, and short windows would keep themselves short; there it goes on as a power law with the slope of its last stretch, as heavy
tails do. If that is too hopeful, the longer window that it leads to is observed in the next round, and corrects it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_QUANTILES = np.concatenate([np.linspace(0.30, 0.05, 11), np.geomspace(0.045, 0.0005, 18)])
_PACES = 500
_ROUND_KINDS = (10, 30, 50, 70, 90)
_SHORTEST_S = 1e-6
_BISECTIONS = 10
_BEYOND = np.array([1.0, 1.25, 1.5, 2.0, 3.0])
_SLOPES = (0.5, 4.0)
_LEAST_CHANCE = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseObservation:
    """How one phase of one round went.

    Args:
      seconds: float64, shape (answered,): latencies of those who answered in time.
      waited_s: when the phase was closed.
      missing: devices that had not answered by then.
    """

    seconds: NDArray[np.float64]
    waited_s: float
    missing: int

    @property
    def pace_s(self) -> float:
        """Median latency of all who were asked; what was waited, if fewer than half answered."""
        half = (len(self.seconds) + self.missing + 1) // 2
        if half == 0 or len(self.seconds) < half:
            return self.waited_s
        return float(np.partition(self.seconds, half - 1)[half - 1])

    def relative(self) -> "PhaseObservation":
        """The same in units of the pace."""
        pace = max(self.pace_s, _SHORTEST_S)
        return PhaseObservation(seconds=self.seconds / pace, waited_s=self.waited_s / pace, missing=self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveWindows:
    """Deadlines for the phases of a round, from what recent rounds took. A value: observing gives a new one.

    Args:
      first_s: windows before anything was observed, one a phase.
      longest_s: no window is longer.
      rest_s: time of a round outside these phases (check-in, training): a failed round wastes it, too.
      loss: what a failed round costs besides its time, in rounds: the work of all its devices, for nothing.
      remembered: rounds that are looked at.
      relative: observations in units of their own pace, by phase, oldest first.
      paces_s: paces by phase, oldest first, of many more rounds: how slow rounds can be decides what an hour is worth.

    >>> windows = AdaptiveWindows(first_s=(10.0, 10.0), longest_s=60.0)
    >>> for _ in range(5):
    ...     windows = windows.observe(0, PhaseObservation(seconds=np.linspace(0.5, 2.0, 50), waited_s=10.0, missing=0))
    >>> arrived = np.linspace(1.0, 2.5, 48)  # twice as slow as ever: half have answered after 1.75 s instead of 1.25 s
    >>> windows.open(0, alive=50, may_leave=5).deadline_s(arrived) < 4.0
    True
    >>> windows.open(0, alive=50, may_leave=5).deadline_s(arrived[:20]), windows.open(1, alive=50, may_leave=5).deadline_s(arrived)
    (60.0, 10.0)
    """

    first_s: tuple[float, ...]
    longest_s: float
    rest_s: float = 0.0
    loss: float = 0.0
    remembered: int = 60
    relative: tuple[tuple[PhaseObservation, ...], ...] = ()
    paces_s: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.first_s or not all(0 < first <= self.longest_s for first in self.first_s):
            raise ValueError(f"first_s must lie in (0, {self.longest_s}], not {self.first_s}")
        if not self.loss >= 0:
            raise ValueError(f"loss must be at least 0, not {self.loss}")
        if self.remembered < 1:
            raise ValueError(f"remembered must be at least 1, not {self.remembered}")

    def observe(self, phase: int, observed: PhaseObservation) -> "AdaptiveWindows":
        """The windows once this is known."""
        phases = range(len(self.first_s))
        relative, paces = [list(self._seen(index)) for index in phases], [list(self._paces(index)) for index in phases]
        relative[phase] = [*relative[phase], observed.relative()][-self.remembered :]
        paces[phase] = [*paces[phase], observed.pace_s][-_PACES:]
        return replace(self, relative=tuple(map(tuple, relative)), paces_s=tuple(map(tuple, paces)))

    def open(self, phase: int, *, alive: int, may_leave: int) -> "OpenWindow":
        """The window of a phase that opens now.

        Args:
          alive: devices asked in this phase.
          may_leave: how many more may be missing until the round ends: floor(q n) less those who have left.

        Raises:
          ValueError: for a phase that there is not, no devices, or a negative allowance.
        """
        if not 0 <= phase < len(self.first_s):
            raise ValueError(f"phase must lie in [0, {len(self.first_s)}), not {phase}")
        if alive < 1 or may_leave < 0:
            raise ValueError(f"need alive >= 1 and may_leave >= 0, not {alive} and {may_leave}")
        return OpenWindow(self, phase, alive, may_leave)

    def laws(self, first: int) -> "list[Latencies]":
        """The relative latencies of the phases from `first` on, as far as any were observed."""
        return [law for seen in self.relative[first:] if (law := latencies_of(seen)) is not None]

    def usual_paces_s(self, first: int) -> list[float]:
        """Median pace of the phases from `first` on that were observed."""
        return [float(np.median(paces)) for paces in self.paces_s[first:] if paces]

    def _seen(self, phase: int) -> tuple[PhaseObservation, ...]:
        return self.relative[phase] if self.relative else ()

    def _paces(self, phase: int) -> tuple[float, ...]:
        return self.paces_s[phase] if self.paces_s else ()


def survival(observed: tuple[PhaseObservation, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kaplan and Meier's estimate of P[latency > t], pooled over rounds.

    Returns:
      (times, float64, shape (m,), ascending; P[latency > time] at and after each, shape (m,)).

    >>> times, beyond = survival((PhaseObservation(seconds=np.array([1.0, 2.0]), waited_s=2.5, missing=2),))
    >>> times.tolist(), beyond.tolist()
    ([1.0, 2.0], [0.75, 0.5])
    """
    answered = np.sort(np.concatenate([one.seconds for one in observed]))
    censored = np.sort(np.concatenate([np.full(one.missing, one.waited_s) for one in observed]))
    times, events = np.unique(answered, return_counts=True)
    before = np.searchsorted(answered, times, side="left") + np.searchsorted(censored, times, side="left")
    at_risk = len(answered) + len(censored) - before
    return times, np.cumprod(1.0 - events / at_risk).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Latencies:
    """A distribution of latencies in units of their median: the estimate where there is one, a power law beyond.

    Args:
      times: ascending, shape (m,).
      beyond: P[latency > time], shape (m,).
      slope: exponent of the power law.
    """

    times: NDArray[np.float64]
    beyond: NDArray[np.float64]
    slope: float

    def later(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """P[latency > seconds], element by element."""
        steps = np.concatenate([[1.0], self.beyond])[np.searchsorted(self.times, seconds, side="right")]
        last = self.times[-1]
        return np.where(seconds > last, self.beyond[-1] * (last / np.maximum(seconds, last)) ** self.slope, steps)

    def candidates(self) -> NDArray[np.float64]:
        """Windows worth considering: quantiles of the estimate, and some beyond it."""
        reached = np.searchsorted(-self.beyond, -_QUANTILES)  # first time beyond which at most the quantile is left
        return np.unique(np.concatenate([self.times[reached[reached < len(self.times)]], self.times[-1] * _BEYOND]))


def latencies_of(observed: tuple[PhaseObservation, ...]) -> Latencies | None:
    """The distribution behind observations in relative units; None if nobody ever answered."""
    if sum(len(one.seconds) for one in observed) == 0:
        return None
    times, beyond = survival(observed)
    last = float(beyond[-1])
    middle = int(np.searchsorted(-beyond, -math.sqrt(0.3 * last))) if last > 0 else len(times)
    if middle >= len(times) - 1 or times[middle] <= 0:
        return Latencies(times, beyond, 1.0)
    slope = math.log(float(beyond[middle]) / last) / math.log(float(times[-1]) / float(times[middle]))
    return Latencies(times, beyond, min(max(slope, _SLOPES[0]), _SLOPES[1]))


class OpenWindow:
    """One open phase; what the later phases are worth is worked out once, when half have answered."""

    def __init__(self, windows: AdaptiveWindows, phase: int, alive: int, may_leave: int) -> None:
        self._windows, self._phase, self._alive, self._may_leave = windows, phase, alive, may_leave
        self._laws = windows.laws(phase) if windows.relative and windows.relative[phase] else []
        self._worth: NDArray[np.float64] | None = None
        self._rate = 0.0

    def deadline_s(self, arrived: NDArray[np.float64]) -> float:
        """When to close the phase, counted from its opening, as things stand; ask again with every answer.

        Args:
          arrived: latencies of those who have answered so far, float64, shape (answered,), in any order.

        Returns:
          `longest_s` until half have answered; `first_s` where the phase was never observed.
        """
        windows, half = self._windows, (self._alive + 1) // 2
        laws = self._laws
        if not laws:
            return windows.first_s[self._phase]
        if len(arrived) < half:
            return windows.longest_s
        pace = max(float(np.partition(arrived, half - 1)[half - 1]), _SHORTEST_S)
        if self._worth is None:
            self._value_later(pace)
        if self._worth is None:
            return windows.longest_s
        now, missing = float(arrived.max()) / pace, self._alive - len(arrived)
        candidates = np.concatenate([[now], laws[0].candidates()])
        candidates = candidates[(candidates >= now) & (candidates <= max(now, windows.longest_s / pace))]
        left = max(float(laws[0].later(np.array([now]))[0]), 1e-12)
        lost = _binomial(missing, np.minimum(1.0, laws[0].later(candidates) / left), self._may_leave)
        # Worths are above that of a failed round, so that what is lost here adds nothing.
        gain = lost @ self._worth[::-1] - self._rate * pace * candidates
        return min(windows.longest_s, pace * float(candidates[int(np.argmax(gain))]))

    def _value_later(self, pace: float) -> None:
        """What each number of further dropouts still allowed is worth after this phase, shape (may_leave + 1,)."""
        windows = self._windows
        whole = _tables(windows.laws(0), windows.usual_paces_s(0), self._alive, self._may_leave)
        kinds = np.percentile(windows.paces_s[self._phase], _ROUND_KINDS) / windows.usual_paces_s(self._phase)[0]
        self._rate = _best_rate(whole, windows.rest_s, [float(kind) for kind in kinds], windows.loss)
        usual = windows.usual_paces_s(self._phase)
        slower = pace / max(usual[0], _SHORTEST_S)  # the rest of the round is as slow as this phase
        later = _tables(self._laws[1:], [slower * one for one in usual[1:]], self._alive, self._may_leave)
        self._worth = _worth(later, self._rate, self._may_leave, windows.loss)


@dataclass(frozen=True, slots=True)
class _Table:
    """A later phase: windows in seconds, shape (m,), and P[so many are lost] under each, shape (m, may_leave + 1)."""

    windows_s: NDArray[np.float64]
    lost: NDArray[np.float64]


def _tables(laws: list[Latencies], paces_s: list[float], alive: int, may_leave: int) -> list[_Table]:
    found: list[_Table] = []
    for law, pace in zip(laws, paces_s, strict=True):
        candidates = law.candidates()
        found.append(_Table(pace * candidates, _binomial(alive, law.later(candidates), may_leave)))
    return found


def _best_rate(tables: list[_Table], rest_s: float, kinds: list[float], loss: float) -> float:
    """Completed rounds less losses a second under the best policy: where rounds are worth nothing on average (Dinkelbach, by bisection).

    Args:
      kinds: how much slower than usual rounds are, at equally likely steps.
    """
    may_leave = tables[0].lost.shape[1] - 1
    low, high = 0.0, 1.0 / max(rest_s, _SHORTEST_S)
    for _ in range(_BISECTIONS):
        rate = (low + high) / 2
        each = [float(_worth(tables, rate * kind, may_leave, loss)[may_leave]) - loss for kind in kinds]
        worth = sum(each) / len(kinds) - rate * rest_s
        low, high = (rate, high) if worth > 0 else (low, rate)
    return low


def _worth(tables: list[_Table], rate: float, may_leave: int, loss: float) -> NDArray[np.float64]:
    """max E[success - rate time] over the phases above what a failed round is worth, by how many may still leave, (may_leave + 1,)."""
    worth = np.full(may_leave + 1, 1.0 + loss)
    for table in reversed(tables):
        ahead = np.array([table.lost[:, : left + 1] @ worth[left::-1] for left in range(may_leave + 1)])  # (left, windows)
        worth = np.maximum(0.0, (ahead - rate * table.windows_s[None, :]).max(axis=1))
    return worth


def _binomial(count: int, chance: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """P[Binomial(count, chance) = j] for j = 0 to `most`, shape (chances, most + 1)."""
    chance = np.clip(chance, _LEAST_CHANCE, 1.0 - 2.0**-53)[:, None]
    j = np.arange(most + 1)
    possible = np.minimum(j, count)
    # In logarithms: of some thousand devices there are more ways to choose than a float can hold.
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    ways = logs[count] - logs[possible] - logs[count - possible]
    mass = np.exp(ways + possible * np.log(chance) + (count - possible) * np.log1p(-chance))
    return np.where(j <= count, mass, 0.0)
