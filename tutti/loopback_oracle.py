"""What a simulation over gRPC knows and its server does not: whose updates are in which release, and how many can still come.

The server says which sessions are in a sum, the fleet's processes say which device played which session. Neither the devices' own
records, which are meant to prevent violations, nor the server, which knows no devices, has a part in what the oracle concludes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from client_sim.fleet import Fleet
from client_sim.fleet_sightings import Sighted
from client_sim.journal import FleetJournal, FleetState
from client_sim.oracle import ParticipationOracle
from contract.clock import SystemClock
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskSpec
from server.store.values import Round

PATIENCE_S = 10.0
"""How long the fleet's word on a session that is in a sum is waited for."""
LOOK_S = 0.05


class Muster:
    """How many devices can come for a release at most; a server asks it so as not to wait for those that cannot."""

    def __init__(self, spec: TaskSpec, sighted: Sighted, *, num_devices: int) -> None:
        self._sighted, self._num_devices = sighted, num_devices
        self._fewest, self._separation = spec.fewest_contributions, spec.cohort.minimum_separation
        self._release = 0

    def __call__(self, release: int) -> int:
        """All but those whose own records rule `release` out, for good."""
        self._release = release
        return self._num_devices - self._sighted.barred(release)

    def require_enough(self) -> None:
        """Says so when a release can never have enough devices, instead of waiting for them.

        Raises:
          TuttiError: TOO_FEW_DEVICES.
        """
        release, most = self._release, self._num_devices - self._sighted.barred(self._release)
        if most >= self._fewest:
            return
        raise TuttiError(
            ErrorCode.TOO_FEW_DEVICES,
            f"release {release} needs {self._fewest} devices, and of all {self._num_devices} only {most} may still take part: the "
            f"others gave an update to it or too shortly before it (minimum separation {self._separation}), or as often as they may",
        )


class WatchedReleases:
    """The oracle of a run over gRPC. It is kept in the fleet's file, round by round, so that a run that was stopped goes on with it.

    `complete` turns false when a release was made that it did not see whole (a crash between a commit and the oracle's own note of
    it, or a session that no device of this fleet played): then it says nothing about the run.
    """

    def __init__(self, spec: TaskSpec, journal: FleetJournal, history: Sequence[Round], *, num_devices: int) -> None:
        self._journal = journal
        self.oracle = ParticipationOracle(
            num_devices=num_devices,
            minimum_separation=spec.cohort.minimum_separation,
            max_participations=spec.cohort.max_participations,
        )
        kept = journal.latest()
        if kept is not None:
            self.oracle.load(kept[1].oracle)
        first_unseen = 0 if kept is None else kept[0]
        self.complete = not any(row.state == "committed" and row.index >= first_unseen for row in history)

    def observe(self, facts: Mapping[str, Any], fleet: Fleet) -> dict[str, Any]:
        """Notes who is in the sum of a round that is over; what is known of the whole run by now."""
        committed = facts["state"] == "committed"
        devices = _players(fleet, facts["sessions"] if committed else ())
        if devices is None:
            self.complete = False
        elif committed:
            self.oracle.observe(int(facts["leaf"]), np.array(devices, np.int64))
        if not self.complete:
            return {}
        nothing = np.empty(0)
        state = FleetState(now_s=0.0, wakes_s=nothing, records=nothing.reshape(5, 0), oracle=self.oracle.dump())
        self._journal.save(int(facts["round"]) + 1, state)
        return {
            "violations": self.oracle.num_violations,
            "smallest_separation": self.oracle.smallest_separation,
            "most_participations": self.oracle.most_participations,
        }


def _players(fleet: Fleet, sessions: Sequence[Any]) -> list[int] | None:
    clock = SystemClock()
    patience = clock.now_s() + PATIENCE_S
    while (devices := fleet.sighted.devices(sessions)) is None and clock.now_s() < patience:
        fleet.listen(LOOK_S)
    return devices
