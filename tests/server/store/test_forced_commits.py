"""Which commits wait for the disk: every one but those of facts, whatever came before it on the same connection."""

from itertools import count

import pytest
from sqlalchemy import Connection

from server.store.store import Store

_NUMBERS = count()


def forced(connection: Connection) -> bool:
    """Whether the commit of this transaction will wait for the disk."""
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    # Another text each time: SQLite answers from when the statement was prepared.
    return connection.exec_driver_sql(f"PRAGMA synchronous /* {next(_NUMBERS)} */").scalar() == 2


def test_only_what_nothing_rests_on_is_not_forced_to_the_disk(store: Store) -> None:
    transactions = store.transactions
    for _ in range(3):
        with transactions.noting() as connection:
            assert not forced(connection)
        with transactions.writing() as connection:
            assert forced(connection)
        with transactions.noting() as connection:
            assert not forced(connection)
        with transactions.begin() as session:
            assert forced(session.connection())
    with pytest.raises(RuntimeError), transactions.noting():
        raise RuntimeError
    with transactions.read() as session:
        assert forced(session.connection())
    with transactions.looking() as connection:
        assert forced(connection)


def test_a_connection_that_was_lost_begins_anew(store: Store) -> None:
    with store.transactions.noting() as connection:
        assert not forced(connection)
    store.transactions.engine.dispose()
    with store.transactions.writing() as connection:
        assert forced(connection)
    store.transactions.engine.dispose()
    with store.transactions.noting() as connection:
        assert not forced(connection)
