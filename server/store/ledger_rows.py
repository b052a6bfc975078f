"""Ledger entries as rows: appending under the lock of the tree head, and reading the nodes that proofs are made of.

Beside every odd leaf stand the perfect subtrees that it completes, so that a proof reads O(log n) rows and an append writes at most two.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Select, insert, select
from sqlalchemy.orm import Session

from privacy.ledger import merkle
from privacy.ledger.proofs import Node, ReadNodes
from server.store import filing
from server.store.tables import LedgerEntryRow, LedgerNodesRow, TreeHeadRow
from server.store.values import Entry

_BATCH = 5_000


def append(session: Session, bodies: Iterable[bytes], *, allowed: Callable[[Session, str], None]) -> range:
    """Appends entries in this transaction; the tree head stays locked until it ends.

    Args:
      allowed: raises if this process may not write for a population.
    """
    head = session.get_one(TreeHeadRow, 0, with_for_update=True)
    first = tree = frontier(head)
    entries, nodes, checked = list[dict[str, object]](), list[dict[str, object]](), set[str]()
    for body in bodies:
        facts = json.loads(body)
        kind, population, run = filing.columns(facts)
        if population not in checked:
            allowed(session, population)
            checked.add(population)
        leaf, index = merkle.leaf_hash(body), tree.size
        tree, completed = tree.grow(leaf)
        entries.append(
            {
                "index": index,
                "kind": kind,
                "population": population,
                "run": run,
                "leaf_hash": leaf,
                "body": body,
            }
        )
        if completed:
            nodes.append({"leaf": index, "hashes": b"".join(completed)})
        if len(entries) >= _BATCH:
            _write(session, entries, nodes)
    _write(session, entries, nodes)
    head.size, head.peaks = tree.size, b"".join(tree.peaks)
    return range(first.size, tree.size)


def frontier(head: TreeHeadRow) -> merkle.Frontier:
    """The tree as its head describes it."""
    size = merkle.HASH_BYTES
    return merkle.Frontier(head.size, tuple(head.peaks[i : i + size] for i in range(0, len(head.peaks), size)))


def reader(session: Session) -> ReadNodes:
    """Reads stored nodes in this session."""

    def read(nodes: Iterable[Node]) -> Mapping[Node, bytes]:
        wanted = list(nodes)
        leaves = _leaf_hashes(session, [node.place for node in wanted if node.level == 0])
        inner = _completed(session, [node.last_leaf for node in wanted if node.level])
        size = merkle.HASH_BYTES
        return {
            node: inner[node.last_leaf][(node.level - 1) * size : node.level * size] if node.level else leaves[node.place]
            for node in wanted
        }

    return read


def page(
    *, run: str | None, population: str | None, kind: str | None, start: int, limit: int | None
) -> Select[int, str, bytes]:
    """The query of one page of entries, in order."""
    query = select(LedgerEntryRow.index, LedgerEntryRow.kind, LedgerEntryRow.body).where(LedgerEntryRow.index >= start)
    for column, value in ((LedgerEntryRow.run, run), (LedgerEntryRow.population, population), (LedgerEntryRow.kind, kind)):
        if value is not None:
            query = query.where(column == value)
    return query.order_by(LedgerEntryRow.index).limit(limit)


def read_page(session: Session, query: Select[int, str, bytes]) -> list[Entry]:
    """The entries of a page."""
    return [Entry(index=index, kind=kind, body=body) for index, kind, body in session.execute(query)]


def _write(session: Session, entries: list[dict[str, object]], nodes: list[dict[str, object]]) -> None:
    for table, rows in ((LedgerEntryRow, entries), (LedgerNodesRow, nodes)):
        if rows:
            session.execute(insert(table), rows)
            rows.clear()


def _leaf_hashes(session: Session, indices: Sequence[int]) -> dict[int, bytes]:
    query = select(LedgerEntryRow.index, LedgerEntryRow.leaf_hash).where(LedgerEntryRow.index.in_(indices))
    return {row[0]: row[1] for row in session.execute(query)} if indices else {}


def _completed(session: Session, leaves: Sequence[int]) -> dict[int, bytes]:
    query = select(LedgerNodesRow.leaf, LedgerNodesRow.hashes).where(LedgerNodesRow.leaf.in_(leaves))
    return {row[0]: row[1] for row in session.execute(query)} if leaves else {}
