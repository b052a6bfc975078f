"""Statements that are compiled once: the same rows on both engines, whatever their values look like."""

from sqlalchemy import bindparam, delete, insert, select, update

from server.store.statements import Statement
from server.store.store import Store
from server.store.tables import LedgerNodesRow, RunRow, table

_NODES, _RUNS = table(LedgerNodesRow), table(RunRow)
_ADD = Statement(insert(_NODES).inline(), columns=_NODES.c.keys())
_EVEN = Statement(
    select(_NODES.c.leaf).where(_NODES.c.leaf % 2 == 0, _NODES.c.leaf >= bindparam("start")).order_by(_NODES.c.leaf)
)
_HASHES = Statement(select(_NODES.c.hashes).where(_NODES.c.leaf == bindparam("leaf")))


def test_rows_are_added_one_by_one_or_together_and_bytes_come_back_as_they_went(store: Store) -> None:
    blob = bytes(range(256))
    with store.transactions.writing() as connection:
        _ADD.on(connection, {"leaf": 0, "hashes": memoryview(blob)})
        _ADD.on_each(connection, [{"hashes": b"%s ? :leaf", "leaf": leaf} for leaf in range(1, 6)])
    with store.transactions.looking() as connection:
        assert _HASHES.on(connection, {"leaf": 0}).scalar() == blob
        assert _HASHES.on(connection, {"leaf": 3}).scalar() == b"%s ? :leaf"
        assert _HASHES.on(connection, {"leaf": 9}).one_or_none() is None
        assert [leaf for (leaf,) in _EVEN.on(connection, {"start": 1})] == [2, 4]  # a percent sign and a constant of its own


def test_a_statement_says_how_many_rows_it_changed(store: Store) -> None:
    rename = Statement(update(_RUNS).where(_RUNS.c.id == bindparam("of_run")), columns=("task_name",))
    forget = Statement(delete(_RUNS).where(_RUNS.c.id == bindparam("of_run")))
    row = dict.fromkeys(_RUNS.c.keys(), "") | {
        "id": "r",
        "noise_key_id": None,
        "ordinal": 0,
        "next_round": 0,
        "next_leaf": 0,
        "attempts": 0,
    }
    with store.transactions.writing() as connection:
        Statement(insert(_RUNS).inline(), columns=_RUNS.c.keys()).on(connection, row)
        assert rename.on(connection, {"of_run": "r", "task_name": 'it\'s 100% "named" ?'}).rowcount == 1
        assert rename.on(connection, {"of_run": "s", "task_name": "x"}).rowcount == 0
        name = Statement(select(_RUNS.c.task_name, _RUNS.c.noise_key_id)).on(connection).one()
        assert tuple(name) == ('it\'s 100% "named" ?', None)
        assert forget.on(connection, {"of_run": "r"}).rowcount == 1
