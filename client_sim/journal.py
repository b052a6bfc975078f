"""The state of a simulated fleet at the start of each round, so that a run that was killed goes on as if it had not been."""

from dataclasses import dataclass, field, replace
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
_CHANGES = """
CREATE TABLE IF NOT EXISTS fleet_changes (
    run TEXT NOT NULL, round_index INTEGER NOT NULL, now_s REAL NOT NULL, facts BLOB NOT NULL, places BLOB NOT NULL,
    words BLOB NOT NULL,
    PRIMARY KEY (run, round_index)
) WITHOUT ROWID
"""
_WINDOWS = """
CREATE TABLE IF NOT EXISTS secure_windows (
    run TEXT NOT NULL, round_index INTEGER NOT NULL, windows BLOB NOT NULL, PRIMARY KEY (run, round_index)
) WITHOUT ROWID
"""
_RECORD = 5
"""Columns of the devices' records."""


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
    """Keeps the states of the last two rounds, at least, of one run in the fleet's SQLite file.

    Two, because the fleet writes before the server commits: after a crash the server stands at either of them. A round changes little:
    now and then a state is written whole, and after it, round by round, what became different.

    Raises:
      TuttiError: UNAVAILABLE if the file cannot be opened.
    """

    def __init__(self, path: Path, *, run: str) -> None:
        self._run, self._path = run, path
        self._database = fleet_file.opened(path, _SCHEMA, _CHANGES, _WINDOWS, holds="the fleet's journal")
        self._last: tuple[int, npt.NDArray[np.uint64]] | None = None
        self._changed = 0
        """Words in the changes since the last whole state."""

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def forget(self) -> None:
        """Drops the run's states, once it is over."""
        for table in ("fleet_state", "fleet_changes", "secure_windows"):
            self._database.execute(f"DELETE FROM {table} WHERE run = ?", (self._run,))  # noqa: S608 - our own three names
        self._last = None

    def save(self, round_index: int, state: FleetState, *, records: ParticipationRecords | None = None) -> None:
        """Keeps `state` as that at the start of round `round_index`; those before the round before it may go.

        What `records` hold back is on disk with it, in one transaction if they are in the same file.
        """
        within = records is not None and records.path == self._path
        if records is not None and not within:
            records.write()
        facts, words = _in_words(state)
        places = self._differing(round_index, words)
        self._last = None  # nothing builds on what could not be written
        with fleet_file.transaction(self._database):
            if places is None:
                self._write_whole(round_index, state)
            else:
                row = (self._run, round_index, state.now_s, facts, places.astype(np.uint32).tobytes(), words[places].tobytes())
                self._database.execute("INSERT OR REPLACE INTO fleet_changes VALUES (?, ?, ?, ?, ?, ?)", row)
            if state.windows:
                self._write_windows(round_index, state.windows)
            if records is not None and within:
                records.write(within=self._database)
        if records is not None and within:
            records.written()
        self._last = round_index, words
        self._changed = 0 if places is None else self._changed + len(places)

    def latest(self) -> tuple[int, FleetState] | None:
        """The newest state there is, and the round at whose start it was the fleet's."""
        both = (
            "SELECT round_index FROM fleet_state WHERE run = ?1 UNION ALL SELECT round_index FROM fleet_changes WHERE run = ?1"
        )
        newest: int | None = self._database.execute(f"SELECT max(round_index) FROM ({both})", (self._run,)).fetchone()[0]  # noqa: S608
        state = None if newest is None else self.load(newest)
        return None if newest is None or state is None else (newest, state)

    def load(self, round_index: int) -> FleetState | None:
        """The state at the start of round `round_index`; None for the first round of a run that has no states.

        Raises:
          TuttiError: RUN_STATE if there are states, but not of this round.
        """
        state, since = None, -1
        row = self._database.execute(
            "SELECT round_index, now_s, wakes_s, records, oracle FROM fleet_state WHERE run = ? AND round_index <= ?"
            " ORDER BY round_index DESC LIMIT 1",
            (self._run, round_index),
        ).fetchone()
        if row is not None:
            since, now_s, wakes_s, records, oracle = row
            state = FleetState(
                now_s=now_s,
                wakes_s=np.frombuffer(wakes_s, np.float64).copy(),
                records=np.frombuffer(records, np.float64).reshape(_RECORD, -1),
                oracle=oracle,
            )
        changes = self._database.execute(
            "SELECT now_s, facts, places, words FROM fleet_changes WHERE run = ? AND round_index > ? AND round_index <= ?"
            " ORDER BY round_index",
            (self._run, since, round_index),
        ).fetchall()
        if state is not None and len(changes) == round_index - since:
            return replace(_changed(state, changes), windows=self._windows(round_index))
        if round_index == 0:
            return None
        raise TuttiError(ErrorCode.RUN_STATE, f"the fleet's journal does not hold round {round_index}: its devices are unknown")

    def _differing(self, round_index: int, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64] | None:
        """Where `words` are not those of the round before; None if the state is to be written whole."""
        if self._last is None or self._last[0] != round_index - 1 or len(self._last[1]) != len(words):
            return None
        places = np.flatnonzero(self._last[1] != words)
        return places if self._changed + len(places) <= len(words) // 2 else None

    def _write_whole(self, round_index: int, state: FleetState) -> None:
        # Of a run that was put back to an earlier round there may be later states, which are not to be built on. The round before
        # needs the whole state before this one, and nothing that is older.
        query = "SELECT max(round_index) FROM fleet_state WHERE run = ? AND round_index < ?"
        oldest = self._database.execute(query, (self._run, round_index)).fetchone()[0]
        oldest = round_index if oldest is None else oldest
        for table in ("fleet_state", "fleet_changes"):
            self._database.execute(
                f"DELETE FROM {table} WHERE run = ? AND NOT round_index BETWEEN ? AND ?",  # noqa: S608 - our own two names
                (self._run, oldest, round_index - 1),
            )
        row = (self._run, round_index, state.now_s, state.wakes_s.tobytes(), state.records.tobytes(), state.oracle)
        self._database.execute("INSERT OR REPLACE INTO fleet_state VALUES (?, ?, ?, ?, ?, ?)", row)

    def _write_windows(self, round_index: int, windows: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO secure_windows VALUES (?, ?, ?)", (self._run, round_index, windows))
        self._database.execute("DELETE FROM secure_windows WHERE run = ? AND round_index < ?", (self._run, round_index - 1))

    def _windows(self, round_index: int) -> bytes:
        query = "SELECT windows FROM secure_windows WHERE run = ? AND round_index = ?"
        row = self._database.execute(query, (self._run, round_index)).fetchone()
        return b"" if row is None else bytes(row[0])


def _in_words(state: FleetState) -> tuple[bytes, npt.NDArray[np.uint64]]:
    """The oracle's line of facts, and all columns behind each other, by their bits: wake-ups, records, and the oracle's own."""
    facts, _, body = state.oracle.partition(b"\n")
    if len(body) % 8:
        facts, body = state.oracle, b""
    columns = (state.wakes_s, state.records.ravel(), np.frombuffer(body, np.uint64))
    return facts, np.concatenate([column.view(np.uint64) for column in columns])


def _changed(state: FleetState, changes: list[tuple[float, bytes, bytes, bytes]]) -> FleetState:
    """`state` after `changes`, in their order."""
    if not changes:
        return state
    _, words = _in_words(state)
    for _, _, places, values in changes:
        words[np.frombuffer(places, np.uint32)] = np.frombuffer(values, np.uint64)
    now_s, facts, *_ = changes[-1]
    wakes, records, body = np.split(words, np.cumsum([state.wakes_s.size, state.records.size]))
    return FleetState(
        now_s=now_s,
        wakes_s=wakes.view(np.float64).copy(),
        records=records.view(np.float64).reshape(_RECORD, -1),
        oracle=facts + b"\n" + body.tobytes() if len(body) else facts,
    )
