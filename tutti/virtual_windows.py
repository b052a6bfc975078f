"""The windows of a simulated secure round, under virtual time: the server's own deadlines over latencies that the population has.

When masked inputs arrive the fleet simulator knows. What devices take for the short phases is drawn: a function of (seed, round, phase,
device). Whoever is later than the window is out of the round from that phase on, as over gRPC.
"""

import numpy as np
from numpy.typing import NDArray

from client_sim.executor import Job
from client_sim.population import log_normal
from contract import plan as plans
from contract.collusion import whole_devices
from secagg import Parameters, Phase
from server.secure_split import group_of_place
from server.secure_windows import PhaseWindows, allowance, answers_until

TYPICAL_S = {Phase.SHARE_KEYS: 0.6, Phase.CONSISTENCY_CHECK: 0.4, Phase.UNMASKING: 0.4}
"""Median latency of a phone's answer."""
SPREAD = 0.5


class VirtualWindows:
    """The phases' deadlines in one simulated run.

    Args:
      parameters: of one group's secure aggregation.
      groups: of a cohort.
      seed: of the simulation.
      reporting_s: the task's deadline for reports.
    """

    def __init__(self, *, parameters: Parameters, groups: int, seed: int, reporting_s: float) -> None:
        self._parameters, self._groups, self._seed = parameters, groups, seed
        self._windows = PhaseWindows(reporting_s=reporting_s)

    def input_window_s(self, arrivals_s: NDArray[np.float64], roster_size: int) -> float:
        """How long after the start of a round masked inputs are taken, when those of its roster arrive at `arrivals_s`, ascending."""
        return self._closes(Phase.MASKED_INPUT, arrivals_s, alive=roster_size, roster=roster_size, groups=self._groups)

    def late(self, job: Job, survivors: NDArray[np.int64]) -> dict[int, int]:
        """The devices that miss a window of a short phase, and the place of that phase in `Phase`."""
        found: dict[int, int] = {}
        order, round_index = list(Phase), plans.decode(job.plan).round_index
        placed = np.array([group_of_place(place, self._groups) for place in range(len(job.devices))])
        for group in range(self._groups):
            roster = job.devices[placed == group]
            asked = roster
            for phase, typical_s in TYPICAL_S.items():
                asked = asked if phase is Phase.SHARE_KEYS else asked[np.isin(asked, survivors)]
                if len(asked) == 0:
                    break
                label = f"latency of {phase.value}:{round_index}"
                latencies = log_normal(self._seed, asked, label, median=typical_s, spread=SPREAD).astype(np.float64)
                closes_s = self._closes(phase, np.sort(latencies), alive=len(asked), roster=len(roster), groups=1)
                found |= {int(device): order.index(phase) for device in asked[latencies > closes_s]}
                asked = asked[latencies <= closes_s]
        return found

    def dump(self) -> bytes:
        """What was learnt, so that a run that was stopped goes on as if it had not been."""
        return self._windows.dump()

    def load(self, state: bytes) -> None:
        """Takes up what `dump` gave."""
        self._windows.load(state)

    def _closes(self, phase: Phase, arrivals_s: NDArray[np.float64], *, alive: int, roster: int, groups: int) -> float:
        inputs_due = phase in (Phase.SHARE_KEYS, Phase.MASKED_INPUT)
        size = max(1, roster // groups)
        topology = self._parameters.topology(min(size, self._parameters.roster_size))
        needed = groups * max(self._parameters.minimum_survivors if inputs_due else 0, topology.threshold + 1)
        if not (topology.complete or inputs_due):
            # Nobody looks here whether t of each neighbourhood answered, which was made sure for up to floor(q n) missing and no more.
            needed = groups * (size - whole_devices(self._parameters.drop_fraction, size))
        may_leave = allowance(self._parameters, roster, alive, needed)
        clock = self._windows.open(phase, at_s=0.0, alive=alive, may_leave=may_leave, needed=alive - may_leave)
        return answers_until(clock, arrivals_s)
