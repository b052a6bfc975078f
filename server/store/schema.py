"""The schema's version: made for a new store, required of an old one, and brought up to date with a backup first.

Migrations (`server/store/migrations`) are the one description of the tables that a database ever sees; a test holds them and
`server.store.tables` together. They are only ever added.
"""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, make_url, text

from contract.errors import ErrorCode, TuttiError
from server.store.engine import database_url, open_engine, reading

HEAD = "0004"
"""The newest migration, and the only schema that this version reads and writes."""
_LOCK = 7_311_001
"""PostgreSQL's advisory lock that migrations hold."""


def version(connection: Connection) -> str | None:
    """The schema's version: None for an empty database, "0000" for one whose tables no migration made."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return "0000" if "ledger_entries" in tables else None


def require(engine: Engine, *, store: str) -> None:
    """Makes the tables of a new store.

    Raises:
      TuttiError: SCHEMA_MISMATCH if the store has another schema; it is left as it is.
    """
    with reading(engine).connect() as connection:
        found = version(connection)
    if found is None:
        found = _create(engine)
    if found != HEAD:
        mend = f"run `tutti db upgrade --store {store}`" if found < HEAD else "a newer Tutti wrote it"
        raise TuttiError(ErrorCode.SCHEMA_MISMATCH, f"the store has schema {found}, this version needs {HEAD}: {mend}")


def _create(engine: Engine) -> str:
    with engine.begin() as connection:
        _lock(connection)
        if version(connection) is None:  # and not made by another process while this one waited for the lock
            _migrate(connection, HEAD)
        return version(connection) or "none"


def upgrade(store: str, *, to: str = HEAD) -> tuple[str | None, Path | None]:
    """Brings a store to a schema; returns the version that it had and where its backup is (None if nothing was to do).

    Raises:
      TuttiError: SCHEMA_MISMATCH if a newer version wrote it, UNAVAILABLE if it cannot be backed up.
    """
    engine = open_engine(database_url(store))
    try:
        with engine.connect() as connection:
            found = version(connection)
        if found is not None and found > to:
            raise TuttiError(ErrorCode.SCHEMA_MISMATCH, f"the store has schema {found}, newer than {to}")
        if found == to:
            return found, None
        saved = None if found is None else back_up(store, found)
        with engine.begin() as connection:
            _lock(connection)
            _migrate(connection, to)
        return found, saved
    finally:
        engine.dispose()


def back_up(store: str, found: str) -> Path:
    """A copy of the database as it is, beside it (PostgreSQL: a dump in the working directory), named after its schema.

    Raises:
      TuttiError: UNAVAILABLE if PostgreSQL's pg_dump is not installed or fails.
    """
    url = make_url(database_url(store))
    if url.get_backend_name() != "sqlite":
        target = _unused(Path(f"{url.database}.schema-{found}.dump"))
        _dump(url.set(drivername="postgresql").render_as_string(hide_password=False), target)
        return target.absolute()
    source = Path(url.database or "")
    target = _unused(source.with_name(f"{source.name}.schema-{found}.backup"))
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    target.chmod(0o600)
    return target


def _dump(url: str, target: Path) -> None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"), key=lambda path: float(path.parts[-3]))
    program = shutil.which("pg_dump") or (str(installed[-1]) if installed else None)
    if program is None:
        raise TuttiError(ErrorCode.UNAVAILABLE, "a backup comes before an upgrade, and pg_dump is not installed here")
    ended = subprocess.run([program, "--format=custom", f"--file={target}", url], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise TuttiError(
            ErrorCode.UNAVAILABLE, f"a backup comes before an upgrade, and pg_dump failed: {ended.stderr.strip()[-300:]}"
        )
    target.chmod(0o600)


def _unused(path: Path) -> Path:
    count, free = 1, path
    while free.exists():
        count, free = count + 1, path.with_name(f"{path.name}.{count}")
    return free


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _migrate(connection: Connection, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
