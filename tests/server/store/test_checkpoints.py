"""The log is written back in the background; nothing depends on it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from server.store import checkpoints
from server.store.checkpoints import Checkpoints
from server.store.engine import Transactions, database_url, open_engine

ROW = 1 << 20


def filled(directory: Path, rows: int) -> Transactions:
    """A store with so many megabytes in its log."""
    transactions = Transactions(open_engine(database_url(str(directory))))
    with transactions.begin() as session:
        session.execute(text("CREATE TABLE some (number INTEGER PRIMARY KEY, bytes BLOB)"))
        for number in range(rows):
            session.execute(text("INSERT INTO some VALUES (:number, zeroblob(:size))"), {"number": number, "size": ROW})
    return transactions


def file_bytes(directory: Path) -> int:
    return (directory / "tutti.db").stat().st_size


def test_a_long_log_is_written_back_and_read_as_before(tmp_path: Path) -> None:
    transactions = filled(tmp_path, 8)
    before = file_bytes(tmp_path)
    transactions.write_back(8 * ROW)
    reader = Transactions(open_engine(database_url(str(tmp_path))))  # the last connection would write back by itself
    with reader.read() as session:
        assert session.scalar(text("SELECT count(*) FROM some")) == 8
        transactions.close()
        assert before < ROW < 8 * ROW <= file_bytes(tmp_path)
    reader.close()


def test_little_is_left_for_later(tmp_path: Path) -> None:
    transactions = filled(tmp_path, 8)
    before = file_bytes(tmp_path)
    writer = Checkpoints(tmp_path / "tutti.db")
    for commits in range(1, 5):
        writer.begin(ROW)
        writer.close()
        assert (file_bytes(tmp_path) == before) == (commits < 4)
    transactions.close()


def test_a_busy_database_fails_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LEAST_BYTES", 0)
    transactions = filled(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "tutti.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        transactions.write_back(ROW)
        transactions.close()
        other.execute("ROLLBACK")


def test_a_store_that_is_gone_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LEAST_BYTES", 0)
    writer = Checkpoints(tmp_path / "a store" / "tutti.db")
    writer.begin(ROW)
    writer.close()
    assert not list(tmp_path.iterdir())
