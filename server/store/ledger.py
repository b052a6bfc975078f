"""The store's ledger: append, page, prove, sign. What is written once is never changed: triggers refuse it on both engines."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.orm import Session

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import checkpoint, merkle, proofs
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.notes import SignerKey
from server.store import filing, ledger_rows
from server.store.engine import Transactions
from server.store.tables import CheckpointRow, table
from server.store.values import Entry

PAGE = filing.PAGE
"""Entries that are read at once."""
_SIGNED = table(CheckpointRow)
_NOTES = select(_SIGNED.c.note).order_by(_SIGNED.c.size, _SIGNED.c.key_id)
_LAST_NOTE = select(_SIGNED.c.note).order_by(_SIGNED.c.size.desc()).limit(1)
_SIGNED_BY = select(_SIGNED.c.size).where(_SIGNED.c.size == bindparam("of_size"), _SIGNED.c.key_id == bindparam("of_key"))


class Ledger:
    """The entries of one store as a Merkle tree.

    Args:
      allowed: raises if this process may not write for a population.
    """

    def __init__(self, transactions: Transactions, *, allowed: Callable[[Connection, str], None]) -> None:
        self._transactions, self._allowed = transactions, allowed
        self._filed = 0  # entries before this one are filed as their bodies say; they never change

    def append(self, *bodies: bytes) -> range:
        """Appends entries in a transaction of their own; their indices."""
        with self._transactions.writing() as connection:
            appended = self.append_in(connection, bodies)
        self.committed(appended)
        return appended

    def append_in(
        self,
        transaction: Connection | Session,
        bodies: Iterable[bytes],
        *,
        admitted: Callable[[Connection], None] | None = None,
    ) -> range:
        """Appends entries in a transaction that holds more than them.

        Args:
          admitted: looks at the ledger before anything is written, when nobody else appends any more; what it raises undoes all.
        """
        connection = _connection(transaction)
        if admitted is not None:
            ledger_rows.locked_head(connection)
            admitted(connection)
        return ledger_rows.append(connection, bodies, allowed=self._allowed)

    def committed(self, appended: range) -> None:
        """Entries that `append_in` filed by their bodies are on the record: where all before them were checked, these need not be."""
        if 0 < self._filed == appended.start:
            self._filed = appended.stop

    def append_once(self, body: bytes, *, run: str, kind: str, same: Callable[[Mapping[str, Any]], bool]) -> bool:
        """Appends an entry unless one of this run and kind is the `same`; whether it did. Nobody appends in between."""
        with self._transactions.writing() as connection:
            ledger_rows.locked_head(connection)
            self._filed = filing.require_filed(connection, start=self._filed)
            found = ledger_rows.page(connection, run=run, population=None, kind=kind, start=0, limit=None)
            if any(same(json.loads(entry.body)) for entry in found):
                return False
            self.append_in(connection, [body])
            return True

    def entries(
        self,
        *,
        run: str | None = None,
        population: str | None = None,
        kind: str | None = None,
        start: int = 0,
        limit: int | None = None,
        within: Connection | None = None,
    ) -> Iterator[Entry]:
        """Entries from index `start` in order, read page by page; the filters are joined by "and".

        Args:
          within: the transaction to read in; one for each page unless given.

        Raises:
          TuttiError: LEDGER_BROKEN if it is filtered, and an entry is not filed as its body says: a filter would overlook it.
        """
        left, filtered = limit, (run, population, kind) != (None, None, None)
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            with self._looking(within) as connection:
                if filtered:
                    self._filed = end = filing.require_filed(connection, start=self._filed)
                    if start >= end:
                        return
                found = ledger_rows.page(connection, run=run, population=population, kind=kind, start=start, limit=size)
            yield from found
            if len(found) < size:
                return
            start, left = found[-1].index + 1, None if left is None else left - len(found)

    def first(self, *, population: str, kind: str, start: int, within: Connection | None = None) -> tuple[Entry | None, int]:
        """The first entry of a kind from index `start` on, if there is one, and where the entries begin that were not there yet.

        Raises:
          TuttiError: LEDGER_BROKEN as `entries` does.
        """
        with self._looking(within) as connection:
            self._filed = end = filing.require_filed(connection, start=self._filed)
            if start >= end:
                return None, end
            found = ledger_rows.page(connection, run=None, population=population, kind=kind, start=start, limit=1)
            return next(iter(found), None), end

    def entry(self, index: int) -> Entry:
        """One entry.

        Raises:
          TuttiError: NOT_FOUND if there is none.
        """
        found = list(self.entries(start=index, limit=1)) if index >= 0 else []
        if not found or found[0].index != index:
            raise TuttiError(ErrorCode.NOT_FOUND, f"the ledger has no entry {index}")
        return found[0]

    def head(self) -> merkle.Frontier:
        """The tree over all entries."""
        with self._transactions.looking() as connection:
            return ledger_rows.head(connection)

    @staticmethod
    def head_in(transaction: Connection | Session) -> merkle.Frontier:
        """The tree in a transaction that will append to it; nobody else appends until that ends."""
        return ledger_rows.locked_head(_connection(transaction))

    def root(self, size: int) -> bytes:
        """The root that the tree had at `size` entries.

        Raises:
          TuttiError: ARGUMENT_INVALID if it was never that large.
        """
        with self._transactions.looking() as connection:
            self._sized(connection, size)
            return proofs.root(size, ledger_rows.reader(connection))

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof that entry `index` is in the tree of `size` entries (all of them unless given), O(log n) hashes.

        Raises:
          TuttiError: ARGUMENT_INVALID if that tree has no such entry, or there is no such tree.
        """
        with self._transactions.looking() as connection:
            whole = self._sized(connection, size)
            return proofs.assemble(_path(lambda: proofs.inclusion_path(index, whole)), ledger_rows.reader(connection))

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """The proof that the tree of `size` entries (all of them unless given) begins with that of `old_size`.

        Raises:
          TuttiError: ARGUMENT_INVALID unless 0 < old_size <= size <= all.
        """
        with self._transactions.looking() as connection:
            whole = self._sized(connection, size)
            return proofs.assemble(_path(lambda: proofs.consistency_path(old_size, whole)), ledger_rows.reader(connection))

    def sign(self, key: SignerKey) -> str:
        """A checkpoint of the tree as it is, signed and kept, as a note.

        Raises:
          TuttiError: LEDGER_BROKEN if the tree does not extend the last checkpoint: a fork is never signed.
        """
        with self._transactions.writing() as connection:
            head = ledger_rows.locked_head(connection)
            last = connection.scalar(_LAST_NOTE)
            if last is not None:
                _extends(connection, head, checkpoint.unverified(last))
            note = Checkpoint(key.name, head.size, head.root()).sign(key)
            key_id = key.verifier.id.hex()
            if connection.scalar(_SIGNED_BY, {"of_size": head.size, "of_key": key_id}) is None:
                connection.execute(insert(_SIGNED), {"size": head.size, "key_id": key_id, "note": note})
            return note

    def checkpoints(self) -> list[str]:
        """All checkpoints that were signed, as notes, the smallest first."""
        with self._transactions.looking() as connection:
            return list(connection.scalars(_NOTES))

    def _looking(self, within: Connection | None) -> AbstractContextManager[Connection]:
        return self._transactions.looking() if within is None else nullcontext(within)

    def _sized(self, connection: Connection, size: int | None) -> int:
        whole = ledger_rows.head(connection).size
        if size is not None and not 0 <= size <= whole:
            raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"the ledger has {whole} entries, so there is no tree of {size}")
        return whole if size is None else size


def _connection(transaction: Connection | Session) -> Connection:
    return transaction.connection() if isinstance(transaction, Session) else transaction


def _path(make: Callable[[], list[proofs.Span]]) -> list[proofs.Span]:
    try:
        return make()
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, str(error)) from None


def _extends(connection: Connection, head: merkle.Frontier, last: Checkpoint) -> None:
    if last.size > head.size or proofs.root(last.size, ledger_rows.reader(connection)) != last.root:
        raise TuttiError(
            ErrorCode.LEDGER_BROKEN,
            f"the ledger of {head.size} entries does not extend the checkpoint at {last.size} that was signed before",
        )
