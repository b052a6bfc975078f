"""The state of a simulated fleet at the start of each round, so that a run that was killed goes on as if it had not been."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client_sim import fleet_file
from client_sim.records import ParticipationRecords
from contract.errors import ErrorCode, TuttiError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fleet_state (
    run TEXT NOT NULL, round_index INTEGER NOT NULL, now_s REAL NOT NULL, wakes_s BLOB NOT NULL, records BLOB NOT NULL,
    oracle BLOB NOT NULL,
    PRIMARY KEY (run, round_index)
) WITHOUT ROWID
"""
_WINDOWS = """
CREATE TABLE IF NOT EXISTS secure_windows (
    run TEXT NOT NULL, round_index INTEGER NOT NULL, windows BLOB NOT NULL, PRIMARY KEY (run, round_index)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetState:
    """The virtual time, each device's next wake-up (float64, shape (n,)) and their records (float64, shape (5, n)).

    `oracle` and `windows` are what the oracle saw and what secure rounds learnt of their phases' latencies.
    """

    now_s: float
    wakes_s: npt.NDArray[np.float64] = field(repr=False)
    records: npt.NDArray[np.float64] = field(repr=False)
    oracle: bytes = field(default=b"", repr=False)
    windows: bytes = field(default=b"", repr=False)


class FleetJournal:
    """Keeps the states of the last two rounds of one run in the fleet's SQLite file.

    Two, because the fleet writes before the server commits: after a crash the server stands at either of them.

    Raises:
      TuttiError: UNAVAILABLE if the file cannot be opened.
    """

    def __init__(self, path: Path, *, run: str) -> None:
        self._run, self._path = run, path
        self._database = fleet_file.opened(path, _SCHEMA, _WINDOWS, holds="the fleet's journal")

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def forget(self) -> None:
        """Drops the run's states, once it is over."""
        for table in ("fleet_state", "secure_windows"):
            self._database.execute(f"DELETE FROM {table} WHERE run = ?", (self._run,))  # noqa: S608 - our own two names

    def save(self, round_index: int, state: FleetState, *, records: ParticipationRecords | None = None) -> None:
        """Keeps `state` as that at the start of round `round_index`, and drops those before the round before it.

        What `records` hold back is on disk with it, in one transaction if they are in the same file.
        """
        within = records is not None and records.path == self._path
        if records is not None and not within:
            records.write()
        row = (self._run, round_index, state.now_s, state.wakes_s.tobytes(), state.records.tobytes(), state.oracle)
        with fleet_file.transaction(self._database):
            self._database.execute("INSERT OR REPLACE INTO fleet_state VALUES (?, ?, ?, ?, ?, ?)", row)
            self._database.execute("DELETE FROM fleet_state WHERE run = ? AND round_index < ?", (self._run, round_index - 1))
            if state.windows:
                self._database.execute("INSERT OR REPLACE INTO secure_windows VALUES (?, ?, ?)", (*row[:2], state.windows))
                self._database.execute(
                    "DELETE FROM secure_windows WHERE run = ? AND round_index < ?", (self._run, round_index - 1)
                )
            if records is not None and within:
                records.write(within=self._database)

    def latest(self) -> tuple[int, FleetState] | None:
        """The newest state there is, and the round at whose start it was the fleet's."""
        query = "SELECT round_index FROM fleet_state WHERE run = ? ORDER BY round_index DESC LIMIT 1"
        row = self._database.execute(query, (self._run,)).fetchone()
        newest = -1 if row is None else int(row[0])
        state = None if row is None else self.load(newest)
        return None if state is None else (newest, state)

    def load(self, round_index: int) -> FleetState | None:
        """The state at the start of round `round_index`; None for the first round of a run that has no states.

        Raises:
          TuttiError: RUN_STATE if there are states, but not of this round.
        """
        row = self._database.execute(
            "SELECT now_s, wakes_s, records, oracle FROM fleet_state WHERE run = ? AND round_index = ?",
            (self._run, round_index),
        ).fetchone()
        if row is not None:
            wakes_s = np.frombuffer(row[1], np.float64).copy()
            records = np.frombuffer(row[2], np.float64).reshape(5, -1)
            return FleetState(now_s=row[0], wakes_s=wakes_s, records=records, oracle=row[3], windows=self._windows(round_index))
        if round_index == 0:
            return None
        raise TuttiError(ErrorCode.RUN_STATE, f"the fleet's journal does not hold round {round_index}: its devices are unknown")

    def _windows(self, round_index: int) -> bytes:
        query = "SELECT windows FROM secure_windows WHERE run = ? AND round_index = ?"
        row = self._database.execute(query, (self._run, round_index)).fetchone()
        return b"" if row is None else bytes(row[0])
