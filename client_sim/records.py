"""The devices' own participation records: they, and not the server, keep separation and cap.

A record holds when it was made, the index of the last release the device took part in, and how often it did. It is charged
before an upload starts. A server's abort gives the charge back only if the device has not sent its last chunk, since a lying
server could otherwise refund what it goes on to read. `index` is the mechanism's leaf (`current_index` on the wire).
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from client_sim import fleet_file

NEVER = -1
"""`last` of a device that has not taken part."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS participation (
    scope TEXT NOT NULL, device INTEGER NOT NULL, created_s REAL NOT NULL, last INTEGER NOT NULL,
    previous INTEGER NOT NULL, participations INTEGER NOT NULL, sent INTEGER NOT NULL, PRIMARY KEY (scope, device)
) WITHOUT ROWID
"""
_UPSERT = "INSERT OR REPLACE INTO participation VALUES (?, ?, ?, ?, ?, ?, ?)"


class ParticipationRecords:
    """The records of all devices of one scope (a population, or a run with records of its own), in arrays.

    Guarantee: between two charges of a device lie at least `minimum_separation` other indices, and a device is charged at most
    `max_participations` times, as long as only devices that `eligible` named are charged; `charge` itself refuses an index that
    does not lie after the last. With a `path`, a charge is on disk before `charge` returns; where charges are held back, before
    `write` does.

    Args:
      num_devices: devices are 0..num_devices - 1.
      path: the fleet's own SQLite file; None keeps the records in memory.
      scope: whose records; other scopes in the same file are left alone.
      created_s: when records that are not on file were made.
      first_index: of the scope, where the caller's index 0 stands: runs that share records count on from each other.

    >>> records = ParticipationRecords(num_devices=3)
    >>> records.charge(np.array([1]), 5)
    >>> records.eligible(np.arange(3), 7, minimum_separation=2).tolist()
    [True, False, True]
    """

    def __init__(
        self, *, num_devices: int, path: Path | None = None, scope: str = "", created_s: float = 0.0, first_index: int = 0
    ) -> None:
        if num_devices < 1:
            raise ValueError(f"num_devices must be at least 1, not {num_devices}")
        self.num_devices = num_devices
        self.scope = scope
        self._first_index = first_index
        self._created_s = np.full(num_devices, created_s)
        self._last = np.full(num_devices, NEVER, np.int64)
        self._previous = np.full(num_devices, NEVER, np.int64)
        self._participations = np.zeros(num_devices, np.int64)
        self._sent = np.zeros(num_devices, np.bool_)
        self._held_back: list[npt.NDArray[np.int64]] | None = None
        self.path = path
        self._database = None if path is None else fleet_file.opened(path, _SCHEMA, holds="the devices' records")
        if self._database is not None:
            self._load(self._database)

    def close(self) -> None:
        """Closes the file; nothing is lost, since every change was committed, but what is held back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def last(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Index of each device's last participation, NEVER or less if there is none since the caller's index 0; shape (n,)."""
        return np.where(self._last[devices] == NEVER, NEVER, self._last[devices] - self._first_index)

    def participations(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How often each device took part, shape (n,)."""
        return self._participations[devices]

    def eligible(
        self,
        devices: npt.NDArray[np.int64],
        current_index: int,
        *,
        minimum_separation: int = 0,
        max_participations: int | None = None,
        trustworthiness_s: float = 0.0,
        now_s: float | npt.NDArray[np.float64] = np.inf,
    ) -> npt.NDArray[np.bool_]:
        """Which of `devices` may take part in the release `current_index`, shape (n,).

        A device may if `current_index - last - 1 >= minimum_separation`, it is below its cap, and its record is at least
        `trustworthiness_s` old: a young or reset record knows nothing of what came before it.

        Source: MinimumSeparationPolicy of google.internal.federatedcompute.v1.
        """
        last, index = self._last[devices], current_index + self._first_index
        may = (last == NEVER) | (index - last - 1 >= minimum_separation)
        if max_participations is not None:
            may &= self._participations[devices] < max_participations
        return may & (now_s - self._created_s[devices] >= trustworthiness_s)

    def charge(self, devices: npt.NDArray[np.int64], index: int) -> None:
        """Writes down that these devices start to upload for the release `index`.

        Raises:
          ValueError: if a device is named twice, or has taken part in this release or a later one.
        """
        if len(np.unique(devices)) != len(devices):
            raise ValueError("devices must be named once each")
        index += self._first_index
        late = devices[self._last[devices] >= index]
        if len(late):
            raise ValueError(f"device {late[0]} took part in release {self._last[late[0]]}, so not in {index} after it")
        self._previous[devices] = self._last[devices]
        self._last[devices] = index
        self._participations[devices] += 1
        self._sent[devices] = False
        self._save(devices)

    @contextmanager
    def together(self) -> Generator[None]:
        """What changes inside is written in one transaction at the end, whatever happens: for a simulation, in which nothing of a
        device leaves it in between.
        """
        self.hold_back()
        try:
            yield
        finally:
            self.write()

    def hold_back(self) -> None:
        """What changes from here on stays in memory until `write`; what was held back before stays there too."""
        if self._held_back is None:
            self._held_back = []

    def write(self, *, within: sqlite3.Connection | None = None) -> None:
        """Puts what was held back on disk; changes are written at once again.

        Args:
          within: a connection to the same file, whose open transaction it becomes part of: it stays held back until `written` says that
            this is on disk. Without one it is a transaction.
        """
        if self._held_back and self._database is not None:
            devices = np.unique(np.concatenate(self._held_back))
            if within is not None:
                self._write(within, devices)
            else:
                with fleet_file.transaction(self._database):
                    self._write(self._database, devices)
        if within is None:
            self.written()

    def written(self) -> None:
        """The transaction that `write` was part of is on disk: changes are written at once again."""
        self._held_back = None

    def mark_sent(self, devices: npt.NDArray[np.int64], index: int) -> None:
        """Writes down that these devices are about to send their last chunk: from here on nothing is given back.

        Raises:
          ValueError: if a device is not charged for `index`.
        """
        self._require_charged(devices, index)
        self._sent[devices] = True
        self._save(devices)

    def refund(self, devices: npt.NDArray[np.int64], index: int) -> None:
        """Takes back the charges for `index`, after the server's abort.

        Raises:
          ValueError: if a device is not charged for `index`, or has sent its last chunk.
        """
        self._require_charged(devices, index)
        sent = devices[self._sent[devices]]
        if len(sent):
            raise ValueError(f"device {sent[0]} has sent its last chunk: its participation stands")
        self._last[devices] = self._previous[devices]
        self._previous[devices] = NEVER
        self._participations[devices] -= 1
        # A refund cannot be had twice, whatever release the older charge was for.
        self._sent[devices] = True
        self._save(devices)

    def reset(self, devices: npt.NDArray[np.int64], now_s: float) -> None:
        """What a factory reset does: the record is young and knows nothing."""
        self._created_s[devices] = now_s
        self._last[devices] = self._previous[devices] = NEVER
        self._participations[devices] = 0
        self._sent[devices] = False
        self._save(devices)

    def snapshot(self) -> npt.NDArray[np.float64]:
        """All records as float64 of shape (5, num_devices), for `restore`."""
        columns = (self._created_s, self._last, self._previous, self._participations, self._sent)
        return np.stack([column.astype(np.float64) for column in columns])

    def restore(self, snapshot: npt.NDArray[np.float64]) -> None:
        """Puts all records back to `snapshot`: only a simulation, which is stopped and resumed as a whole, may do so.

        Raises:
          ValueError: for a snapshot of another population.
        """
        if snapshot.shape != (5, self.num_devices):
            raise ValueError(
                f"a snapshot of {self.num_devices} records has shape (5, {self.num_devices}), not {snapshot.shape}"
            )
        self._created_s, (self._last, self._previous, self._participations) = snapshot[0].copy(), snapshot[1:4].astype(np.int64)
        self._sent = snapshot[4] != 0
        if self._database is not None:
            with fleet_file.transaction(self._database):
                self._database.execute("DELETE FROM participation WHERE scope = ?", (self.scope,))
                self._write(self._database, np.flatnonzero((self._last != NEVER) | self._sent | (self._created_s != 0)))

    def _require_charged(self, devices: npt.NDArray[np.int64], index: int) -> None:
        other = devices[self._last[devices] != index + self._first_index]
        if len(other):
            raise ValueError(f"device {other[0]} is not charged for release {index}")

    def _load(self, database: sqlite3.Connection) -> None:
        rows = database.execute(
            "SELECT device, created_s, last, previous, participations, sent FROM participation WHERE scope = ? AND device < ?",
            (self.scope, self.num_devices),
        ).fetchall()
        if not rows:
            return
        table = np.array(rows, np.float64)
        devices = table[:, 0].astype(np.int64)
        self._created_s[devices] = table[:, 1]
        self._last[devices], self._previous[devices] = table[:, 2].astype(np.int64), table[:, 3].astype(np.int64)
        self._participations[devices] = table[:, 4].astype(np.int64)
        self._sent[devices] = table[:, 5] != 0

    def _save(self, devices: npt.NDArray[np.int64]) -> None:
        if self._database is None:
            return
        if self._held_back is not None:
            self._held_back.append(devices)
            return
        with fleet_file.transaction(self._database):
            self._write(self._database, devices)

    def _write(self, database: sqlite3.Connection, devices: npt.NDArray[np.int64]) -> None:
        columns = (self._created_s, self._last, self._previous, self._participations, self._sent)
        values = (cast(list[float], column[devices].tolist()) for column in columns)
        database.executemany(_UPSERT, zip(repeat(self.scope), devices.tolist(), *values, strict=False))
