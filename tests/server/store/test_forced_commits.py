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


@pytest.mark.postgres
def test_charges_are_forced_to_the_disk_whatever_the_database_was_set_to(postgres_url: str) -> None:
    first = Store.open(postgres_url)
    name = first.transactions.engine.url.database
    with first.transactions.writing() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit TO off')
    first.close()
    store = Store.open(postgres_url)
    for _ in range(2):
        with store.transactions.writing() as connection:
            assert forced(connection)
        with pytest.raises(RuntimeError), store.transactions.writing():
            raise RuntimeError
        with store.transactions.noting() as connection:
            assert not forced(connection)
    store.close()


def test_a_connection_that_was_lost_begins_anew(store: Store) -> None:
    with store.transactions.noting() as connection:
        assert not forced(connection)
    store.transactions.engine.dispose()
    with store.transactions.writing() as connection:
        assert forced(connection)
    store.transactions.engine.dispose()
    with store.transactions.noting() as connection:
        assert not forced(connection)
