"""The fleet's own SQLite file: the devices' records and the simulation's journal, and what is written there together.

A transaction is on the disk when it returns, whatever happens to the process or the machine afterwards.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import ErrorCode, TuttiError


def opened(path: Path, *schema: str, holds: str) -> sqlite3.Connection:
    """A connection to the file, which is made if it does not exist, with the tables of `schema`.

    Raises:
      TuttiError: UNAVAILABLE if it cannot be opened; `holds` names what would have been in it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        # SQLite may have been built with less for a write-ahead log, and then a power cut takes what was committed.
        database.execute("PRAGMA synchronous = FULL")
        for table in schema:
            database.execute(table)
    except (OSError, sqlite3.Error) as error:
        raise TuttiError(ErrorCode.UNAVAILABLE, f"{path}: {holds} cannot be opened: {error}") from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Generator[None]:
    """All of what is written inside, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # which a disk that is full may have ended
            database.execute("ROLLBACK")
        raise
