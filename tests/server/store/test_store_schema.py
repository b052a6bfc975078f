"""The schema: migrations make exactly the declared tables, an older store is refused and upgraded with a backup, on both engines."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, text

import server.store
from contract.errors import ErrorCode, TuttiError
from privacy.ledger import entries, merkle
from server.jobs import JobKind, Jobs, JobState
from server.store import schema
from server.store.engine import database_url, open_engine
from server.store.service_tables import Base
from server.store.store import Store
from server.store.tables import LedgerEntryRow, RunRow, TreeHeadRow
from tutti.commands.db import upgrade


def body(number: int) -> bytes:
    return entries.round_abandoned(population="p", run="r", round_index=number, leaf=0, reason="internal", leaf_used=False)


def test_migrations_make_exactly_the_declared_tables(store: Store) -> None:
    with store.transactions.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(server.store.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_store_of_another_schema_is_refused_with_the_command_that_mends_it(store_url: str) -> None:
    Store.open(store_url).close()
    engine = open_engine(database_url(store_url))
    for found, words in (("0001", f"tutti db upgrade --store {store_url}"), ("9999", "newer Tutti")):
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
        with pytest.raises(TuttiError) as refused:
            Store.open(store_url)
        assert refused.value.code is ErrorCode.SCHEMA_MISMATCH
        assert words in refused.value.detail
    with pytest.raises(TuttiError, match="newer than"):
        schema.upgrade(store_url)
    engine.dispose()


def test_upgrade_keeps_every_entry_and_makes_it_provable(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert schema.upgrade(store_url, to="0001") == (None, None)
    bodies, tree = [body(number) for number in range(9)], merkle.Frontier()
    engine = open_engine(database_url(store_url))
    with engine.begin() as connection:
        for index, each in enumerate(bodies):
            leaf = merkle.leaf_hash(each)
            tree = tree.append(leaf)
            connection.execute(
                insert(LedgerEntryRow.__table__).values(
                    entry_index=index, kind="round-outcome", population="p", run="r", leaf_hash=leaf, body=each
                )
            )
        connection.execute(insert(TreeHeadRow.__table__).values(id=0, size=9, peaks=b"".join(tree.peaks)))
    engine.dispose()
    with pytest.raises(TuttiError, match="db upgrade"):
        Store.open(store_url)

    found, backup = schema.upgrade(store_url)
    assert found == "0001"
    assert backup is not None
    assert backup.stat().st_size > 0
    assert backup.stat().st_mode & 0o077 == 0
    store = Store.open(store_url)
    assert [entry.body for entry in store.entries()] == bodies
    assert store.ledger.root(9) == tree.root()
    assert store.append_entry(body(9)) == 9
    assert len(store.ledger.consistency_proof(9, 10)) > 0
    store.close()
    assert schema.upgrade(store_url) == (schema.HEAD, None)


def test_a_store_of_schema_0003_is_upgraded_by_the_command_that_is_named_and_keeps_its_jobs(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert schema.upgrade(store_url, to="0003") == (None, None)
    run = {
        "id": "r", "task_name": "t", "task_digest": "d", "ordinal": 0, "population": "p", "spec": "{}", "settings": "{}",
        "state": "running", "next_round": 0, "next_leaf": 0, "attempts": 0, "noise_key_id": None, "created_at": "then",
    }  # fmt: skip
    engine = open_engine(database_url(store_url))
    with engine.begin() as connection:
        connection.execute(insert(RunRow.__table__).values(**run))
        columns = "run, population, state, workers, requested_by, lease_until, attempts, created_at"
        connection.execute(text(f"INSERT INTO jobs ({columns}) VALUES ('r', 'p', 'queued', 2, 'token', 0, 0, 'then')"))
    engine.dispose()
    with pytest.raises(TuttiError, match=re.escape(f"run `tutti db upgrade --store {store_url}`")):
        Store.open(store_url)

    upgrade(store=store_url, json_output=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["to"]) == ("0003", "0004")
    backup = Path(told["backup"])
    if "://" in store_url:
        assert backup.read_bytes().startswith(b"PGDMP")
    else:
        with closing(sqlite3.connect(backup)) as old:
            assert old.execute("SELECT run, state FROM jobs").fetchall() == [("r", "queued")]
    store = Store.open(store_url)
    job = Jobs(store.transactions).of("r")
    store.close()
    assert job is not None
    assert (job.kind, job.state, job.workers, job.requested_by) == (JobKind.RUN, JobState.QUEUED, 2, "token")


def test_store_from_before_the_migrations_is_upgraded_too(tmp_path: Path) -> None:
    path = tmp_path / "tutti.db"
    assert schema.upgrade(str(tmp_path), to="0001") == (None, None)
    with closing(sqlite3.connect(path)) as old:
        old.execute("DROP TABLE alembic_version")
        for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            old.execute(f"DROP TRIGGER {name}")
    with pytest.raises(TuttiError, match="schema 0000"):
        Store.open(str(tmp_path))
    assert schema.upgrade(str(tmp_path))[0] == "0000"
    store = Store.open(str(tmp_path))
    store.append_entry(body(0))
    store.close()
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError):
        connection.execute("DELETE FROM ledger_entries")


def test_upgrade_command_reports_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(store=str(tmp_path), json_output=True)
    assert json.loads(capsys.readouterr().out) == {"from": None, "to": schema.HEAD, "backup": None}
