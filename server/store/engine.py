"""Opens the database: one URL for SQLite and PostgreSQL, and the one transaction helper."""

import sqlite3
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

from server.store.checkpoints import LAST_RESORT_PAGES, Checkpoints
from server.store.filing import LEAF_HASH, text_hash

_READS = "tutti_reads"
_UNFORCED = "tutti_unforced"


def database_url(store: str) -> str:
    """The SQLAlchemy URL of `--store`: a database URL as it is, or a directory that holds `tutti.db`.

    >>> database_url("postgresql+psycopg://db/tutti")
    'postgresql+psycopg://db/tutti'
    """
    if "://" in store:
        return store
    directory = Path(store).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{directory / 'tutti.db'}"


def open_engine(url: str) -> Engine:
    """An engine whose transactions take the write lock when they begin, so that two appends never see the same tree head."""
    engine = create_engine(url)
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "begin", _begin_unforced)
    return engine


def reading(engine: Engine) -> Engine:
    """The same database for looking only: its transactions take no write lock."""
    return engine.execution_options(**{_READS: True})


def unforced(engine: Engine) -> Engine:
    """The same database for what is worth no wait for the disk: its commits are atomic and come in order, and a loss of power may take
    the last ones back (with PostgreSQL a crash of its server, too). A kill of this process does not; the next commit of others carries
    them to the disk.

    Source: sqlite.org/pragma.html#pragma_synchronous (NORMAL with a write-ahead log); PostgreSQL 15, 30.4 (asynchronous commit).
    """
    return engine.execution_options(**{_UNFORCED: True})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy says BEGIN, not the driver
    # A model is millions of bytes: large pages take a third off its commit, and cost small ones nothing. Only a new file takes the size.
    for pragma in (
        "page_size=32768",
        "journal_mode=WAL",
        f"wal_autocheckpoint={LAST_RESORT_PAGES}",
        "synchronous=FULL",
        "foreign_keys=ON",
        # A statement that a trigger may stop keeps its pages until then: several large ones, for every entry, and not in a file.
        "temp_store=MEMORY",
        "busy_timeout=30000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function(LEAF_HASH, 1, text_hash, deterministic=True)


def _prepare_postgresql(connection: Any, _record: object) -> None:
    """Whoever set the database or the role to wait for no disk did not mean what privacy was spent: a charge must not be taken back."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _begin_immediate(connection: Connection) -> None:
    options = connection.get_execution_options()
    _force(connection, "NORMAL" if options.get(_UNFORCED, False) else "FULL")
    connection.exec_driver_sql("BEGIN" if options.get(_READS, False) else "BEGIN IMMEDIATE")


def _force(connection: Connection, level: str) -> None:
    """Every transaction says itself whether its commit waits for the disk, whatever the last one on this connection said."""
    if connection.info.get(_UNFORCED) != level:
        connection.info.pop(_UNFORCED, None)
        # As a script: SQLite obeys while it prepares this statement, and others are kept prepared.
        cast(sqlite3.Connection, connection.connection.driver_connection).executescript(f"PRAGMA synchronous={level}")
        connection.info[_UNFORCED] = level


def _begin_unforced(connection: Connection) -> None:
    if connection.get_execution_options().get(_UNFORCED, False):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")


class Transactions:
    """Makes transactions; every use of the database is one `with`.

    `begin` and `read` give sessions, for rows as objects. What is done in every round takes `writing` and `looking`, which give
    connections for statements that are made once: a third of the time.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._reading = reading(engine)
        self._readers = sessionmaker(self._reading, expire_on_commit=False)
        self._unforced = unforced(engine)
        file = engine.url.database
        self._checkpoints = Checkpoints(Path(file)) if engine.url.get_backend_name() == "sqlite" and file else None

    def close(self) -> None:
        """Gives the connections back."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        self.engine.dispose()

    def write_back(self, num_bytes: int) -> None:
        """Lets SQLite's log be written back meanwhile; to be called after a commit of much, `num_bytes` of it."""
        if self._checkpoints is not None:
            self._checkpoints.begin(num_bytes)

    @contextmanager
    def begin(self) -> Generator[Session]:
        """Commits when the block ends, rolls back when it raises."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """For looking only: waits for no writer, and sees the database as it was when it first looked (SQLite) or looks (PostgreSQL)."""
        with self._readers.begin() as session:
            yield session

    def writing(self) -> AbstractContextManager[Connection]:
        """As `begin`."""
        return self.engine.begin()

    def noting(self) -> AbstractContextManager[Connection]:
        """As `writing`, for what nothing rests on: the commit is atomic, and does not wait for the disk."""
        return self._unforced.begin()

    def looking(self) -> AbstractContextManager[Connection]:
        """As `read`."""
        return self._reading.begin()
