"""Ledger entries as rows: appending under the lock of the tree head, and reading the nodes that proofs are made of.

Beside every odd leaf stand the perfect subtrees that it completes, so that a proof reads O(log n) rows and an append writes at most two.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from sqlalchemy import Connection, bindparam, insert, select, update

from privacy.ledger import merkle
from privacy.ledger.proofs import Node, ReadNodes
from server.store import filing
from server.store.statements import Statement
from server.store.tables import LedgerEntryRow, LedgerNodesRow, TreeHeadRow, table
from server.store.values import Entry

_ENTRIES, _NODES, _HEADS = table(LedgerEntryRow), table(LedgerNodesRow), table(TreeHeadRow)
_THE_HEAD = select(_HEADS.c.size, _HEADS.c.peaks).where(_HEADS.c.id == 0)
_HEAD, _LOCKED_HEAD = Statement(_THE_HEAD), Statement(_THE_HEAD.with_for_update())
_GROW = Statement(update(_HEADS).where(_HEADS.c.id == 0), columns=("size", "peaks"))
_ADD_ENTRY = Statement(insert(_ENTRIES).inline(), columns=_ENTRIES.c.keys())
_ADD_NODES = Statement(insert(_NODES).inline(), columns=_NODES.c.keys())
_BATCH = 5_000


def append(connection: Connection, bodies: Iterable[bytes], *, allowed: Callable[[Connection, str], None]) -> range:
    """Appends entries in this transaction; the tree head stays locked until it ends.

    Args:
      allowed: raises if this process may not write for a population.
    """
    first = tree = locked_head(connection)
    entries, nodes, checked = list[dict[str, object]](), list[dict[str, object]](), set[str]()
    for body in bodies:
        kind, population, run = filing.columns(json.loads(body))
        if population not in checked:
            allowed(connection, population)
            checked.add(population)
        leaf, index = merkle.leaf_hash(body), tree.size
        tree, completed = tree.grow(leaf)
        entries.append(
            {"entry_index": index, "kind": kind, "population": population, "run": run, "leaf_hash": leaf, "body": body}
        )
        if completed:
            nodes.append({"leaf": index, "hashes": b"".join(completed)})
        if len(entries) >= _BATCH:
            _write(connection, entries, nodes)
    _write(connection, entries, nodes)
    _GROW.on(connection, {"size": tree.size, "peaks": b"".join(tree.peaks)})
    return range(first.size, tree.size)


def head(connection: Connection) -> merkle.Frontier:
    """The tree over all entries."""
    size, peaks = _HEAD.on(connection).one()
    return _frontier(size, peaks)


def locked_head(connection: Connection) -> merkle.Frontier:
    """The same for who will append; nobody else appends until this transaction ends."""
    size, peaks = _LOCKED_HEAD.on(connection).one()
    return _frontier(size, peaks)


def _frontier(size: int, peaks: bytes) -> merkle.Frontier:
    width = merkle.HASH_BYTES
    return merkle.Frontier(size, tuple(peaks[i : i + width] for i in range(0, len(peaks), width)))


def reader(connection: Connection) -> ReadNodes:
    """Reads stored nodes in this transaction."""

    def read(nodes: Iterable[Node]) -> Mapping[Node, bytes]:
        wanted = list(nodes)
        leaves = _leaf_hashes(connection, [node.place for node in wanted if node.level == 0])
        inner = _completed(connection, [node.last_leaf for node in wanted if node.level])
        size = merkle.HASH_BYTES
        return {
            node: inner[node.last_leaf][(node.level - 1) * size : node.level * size] if node.level else leaves[node.place]
            for node in wanted
        }

    return read


def page(
    connection: Connection, *, run: str | None, population: str | None, kind: str | None, start: int, limit: int | None
) -> list[Entry]:
    """The entries of one page, in order."""
    given = {"run": run, "population": population, "kind": kind, "most": limit}
    wanted: dict[str, str | int] = {name: value for name, value in given.items() if value is not None}
    found = _page(tuple(wanted)).on(connection, {**wanted, "start": start})
    return [Entry(index=index, kind=kind, body=body) for index, kind, body in found]


@cache
def _page(given: tuple[str, ...]) -> Statement:
    columns = _ENTRIES.c
    query = select(columns.entry_index, columns.kind, columns.body).where(columns.entry_index >= bindparam("start"))
    for name in given:
        query = query.limit(bindparam(name)) if name == "most" else query.where(columns[name] == bindparam(name))
    return Statement(query.order_by(columns.entry_index))


def _write(connection: Connection, entries: list[dict[str, object]], nodes: list[dict[str, object]]) -> None:
    for statement, rows in ((_ADD_ENTRY, entries), (_ADD_NODES, nodes)):
        if rows:
            statement.on_each(connection, rows)
            rows.clear()


def _leaf_hashes(connection: Connection, indices: Sequence[int]) -> dict[int, bytes]:
    query = select(_ENTRIES.c.entry_index, _ENTRIES.c.leaf_hash).where(_ENTRIES.c.entry_index.in_(indices))
    return {row[0]: row[1] for row in connection.execute(query)} if indices else {}


def _completed(connection: Connection, leaves: Sequence[int]) -> dict[int, bytes]:
    query = select(_NODES.c.leaf, _NODES.c.hashes).where(_NODES.c.leaf.in_(leaves))
    return {row[0]: row[1] for row in connection.execute(query)} if leaves else {}
