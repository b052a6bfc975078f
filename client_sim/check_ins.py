"""Who is in a round's cohort: devices wake, sleep on unless their conditions hold, ask their records, and check in; the first are taken.

What happens is as if each device were looked at by itself, in the order of their times: what a device draws is a function of (seed,
device, its own time), and who wakes after the cohort is full has not been touched. So the steps in which arrays are handled decide
nothing, and a run that is resumed may take others.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client_sim.conditions import conditions_hold
from client_sim.faults import FaultKind, faulty
from client_sim.fleet_options import FleetOptions
from client_sim.population import DevicePopulation, at_moment
from client_sim.records import ParticipationRecords
from client_sim.wheel import WakeWheel
from contract.randomness import uniform_by_device
from contract.simulation import RoundPosition, SimulatedServer

SHORTEST_SLEEP = 0.5
"""Of a wake interval; the longest is three times that."""
SHORTEST_RETRY_S = 1.0
"""A device that is turned away waits so long at least, whatever the server says."""
_FEWEST_SLOTS, _MOST_SLOTS, _DEVICES_A_SLOT = 8, 512, 256
"""Of the wheel, in a wake interval: what costs least to fill and to empty; they decide nothing."""
_FEWEST_CAME = 2.0**-20
"""Of late, for the guess: halved for ever, a number becomes 0 where nobody may come for long."""


@dataclass(slots=True)
class Selection:
    """The check-ins of one round so far."""

    accepted: list[npt.NDArray[np.int64]] = field(default_factory=list)
    num_accepted: int = 0
    last_accepted_s: float = 0.0
    turned_away: int = 0
    not_eligible: int = 0

    @property
    def cohort(self) -> npt.NDArray[np.int64]:
        """Who was accepted, int64 of shape (n,), in the order of their check-ins."""
        return np.concatenate([np.empty(0, np.int64), *self.accepted])

    def accept(self, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> None:
        """Notes who was accepted when, in the order of their times."""
        if len(devices):
            self.accepted.append(devices)
            self.num_accepted += len(devices)
            self.last_accepted_s = float(times_s[-1])


class CheckIns:
    """The wake-ups of the devices of `population`, and what comes of them.

    All times are the fleet's; `origin_s` is where the server's clock began in them.
    """

    def __init__(
        self,
        *,
        server: SimulatedServer,
        population: DevicePopulation,
        records: ParticipationRecords,
        options: FleetOptions,
    ) -> None:
        self.origin_s = 0.0
        self._server = server
        self._population = population
        self._records = records
        self._options = options
        # Nobody who goes back to sleep within a step is awake again in it.
        self._longest_step_s = SHORTEST_SLEEP * options.wake_interval_s
        self.woken, self.came = 4.0, 1.0
        """Of late, how many woke and how many of those came: the guess how far a step must go to fill a cohort."""
        first_s = uniform_by_device(population.seed, np.arange(population.size), "first wake") * options.wake_interval_s
        self._wheel = self._waiting(first_s)

    @property
    def wakes_s(self) -> npt.NDArray[np.float64]:
        """Each device's next wake-up, or its last one if it is in a cohort, float64 of shape (n,): kept up to date in place."""
        return self._wheel.wakes_s

    def restore(self, wakes_s: npt.NDArray[np.float64]) -> None:
        """Goes on from what `wakes_s` was between two rounds."""
        self._wheel = self._waiting(wakes_s)

    def select(self, position: RoundPosition, *, opened_s: float, deadline_s: float) -> Selection:
        """The first devices until the cohort is full, or whoever came before the deadline."""
        found, end_s = Selection(), opened_s
        self._turn_away_early(opened_s, found)
        while found.num_accepted < position.cohort_target and end_s < deadline_s:
            missing = position.cohort_target - found.num_accepted
            wanted = (missing + missing**0.5) * self.woken / self.came
            end_s = self._wheel.time_of(wanted, latest_s=min(deadline_s, end_s + self._longest_step_s))
            self._step(position, end_s, missing, found)
        return found

    def sample(self, position: RoundPosition, *, opened_s: float) -> Selection:
        """The devices that a trusted sampler drew, whatever the hour; their own records still count."""
        found = Selection()
        devices = np.empty(0, np.int64) if position.sampled is None else np.flatnonzero(position.sampled(self._population.size))
        times_s = np.full(len(devices), opened_s)
        eligible = self._eligible(position, devices, times_s)
        found.not_eligible += int(np.count_nonzero(~eligible))
        devices, times_s = devices[eligible], times_s[eligible]
        accepted = self._server.check_in(times_s - self.origin_s)
        found.accept(devices[accepted], times_s[accepted])
        return found

    def sleep(self, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> None:
        """These go to sleep, each at its time, until a while later."""
        if len(devices):
            share = self._drawn("sleep", devices, times_s)
            self._wheel.push(devices, times_s + (SHORTEST_SLEEP + share) * self._options.wake_interval_s)

    def put_in_order(self) -> None:
        """Does now what the next selection would begin with, for whoever has the time."""
        self._wheel.sort_in()

    def _turn_away_early(self, opened_s: float, found: Selection) -> None:
        """They came while the server was busy with the round before; who is back before this one opens came to no purpose again."""
        while len(early := self._wheel.take(opened_s)):
            self._turn_away(early, self._wheel.wakes_s[early], found)

    def _step(self, position: RoundPosition, end_s: float, missing: int, found: Selection) -> None:
        """What happens until `end_s`, or until `missing` devices more were accepted."""
        devices = self._wheel.take(end_s)
        if len(devices) == 0:
            return
        times_s = self._wheel.wakes_s[devices]
        came, not_eligible = self._willing(position, devices, times_s)
        self.woken, self.came = 0.5 * self.woken + len(devices), max(_FEWEST_CAME, 0.5 * self.came + len(came))
        if len(came) >= missing:
            # Whoever wakes after the last of the cohort goes on waiting, and finds a server that is busy.
            until = int(came[missing - 1]) + 1
            self._wheel.push(devices[until:], times_s[until:])
            devices, times_s, came, not_eligible = devices[:until], times_s[:until], came[:missing], not_eligible[:until]
        found.not_eligible += int(np.count_nonzero(not_eligible))
        stays = np.ones(len(devices), np.bool_)
        stays[came] = False
        self.sleep(devices[stays], times_s[stays])
        if len(came) == 0:
            return
        devices, times_s = devices[came], times_s[came]
        accepted = self._server.check_in(times_s - self.origin_s)
        found.accept(devices[accepted], times_s[accepted])
        if not accepted.all():
            self._turn_away(devices[~accepted], times_s[~accepted], found)

    def _willing(
        self, position: RoundPosition, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The places of those who check in and ask for a task, ascending; and who is not eligible though it could, shape (n,)."""
        ready = np.arange(len(devices))
        if self._options.diurnal:
            ready = np.flatnonzero(conditions_hold(self._population, devices, times_s))
        eligible = self._eligible(position, devices[ready], times_s[ready])
        not_eligible = np.zeros(len(devices), np.bool_)
        not_eligible[ready[~eligible]] = True
        return ready[eligible], not_eligible

    def _eligible(
        self, position: RoundPosition, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        eligible = self._records.eligible(
            devices,
            position.leaf,
            minimum_separation=position.minimum_separation,
            max_participations=position.max_participations,
            trustworthiness_s=self._options.trustworthiness_s,
            now_s=times_s,
        )
        if not self._options.faults:
            return eligible
        greedy = faulty(self._options.faults, FaultKind.GREEDY, position.round_index, devices)
        return eligible | (greedy & (self._records.last(devices) < position.leaf))

    def _turn_away(self, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64], found: Selection) -> None:
        found.turned_away += len(devices)
        window = self._server.retry_window()
        wait_s = window.minimum_s + self._drawn("retry", devices, times_s) * max(0.0, window.maximum_s - window.minimum_s)
        self._wheel.push(devices, times_s + np.maximum(wait_s, SHORTEST_RETRY_S))

    def _drawn(self, label: str, devices: npt.NDArray[np.int64], times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Uniform in [0, 1), for a device at a time."""
        keys = at_moment(devices, (times_s * 1000.0).astype(np.int64))
        return uniform_by_device(self._population.seed, keys, label)

    def _waiting(self, wakes_s: npt.NDArray[np.float64]) -> WakeWheel:
        slots = min(_MOST_SLOTS, max(_FEWEST_SLOTS, len(wakes_s) // _DEVICES_A_SLOT))
        return WakeWheel(wakes_s, slot_s=self._options.wake_interval_s / slots)
