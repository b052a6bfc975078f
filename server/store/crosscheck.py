"""Whether the rest of the store agrees with its ledger: columns, tree nodes, runs, rounds and models against the entries."""

import hashlib
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from privacy.ledger import merkle
from privacy.ledger.history import LengthOf
from privacy.ledger.notes import VerifierKey
from privacy.ledger.problems import LedgerProblem, ProblemKind
from privacy.ledger.verification import LoggedEntry, Verdict, verify
from server.store import filing, run_crosscheck
from server.store.filing import PAGE
from server.store.store import Store
from server.store.tables import LedgerEntryRow, LedgerNodesRow, ModelRow, TreeHeadRow


def verify_store(store: Store, *, key: VerifierKey, since: tuple[str, ...] = (), length_of: LengthOf | None = None) -> Verdict:
    """Everything that is wrong with a store's ledger, and with what stands beside it.

    Args:
      since: checkpoints that somebody kept.
      length_of: the length of a task's model, as `verify` takes it.
    """
    found = list[LedgerProblem]()
    with store.transactions.read() as session:
        entries = _logged(session, found)
        verdict = verify(
            entries,
            key=key,
            checkpoints=store.ledger.checkpoints(),
            since=since,
            complete=False,
            whole_tasks=True,
            length_of=length_of,
            lengths=_lengths(session),
        )
        found += [*_tree(session, verdict), *run_crosscheck.runs(session)]
    return Verdict(
        entries=verdict.entries, root=verdict.root, problems=(*verdict.problems, *found), checkpoints=verdict.checkpoints,
        key=verdict.key,
    )  # fmt: skip


def _lengths(session: Session) -> dict[str, int]:
    """How many parameters each run starts with, by the digest of their bytes, which its registration names."""
    query = select(ModelRow.parameters).where(ModelRow.round == 0).execution_options(yield_per=1)
    return {hashlib.sha256(parameters).hexdigest(): len(parameters) // 4 for (parameters,) in session.execute(query)}


def _logged(session: Session, found: list[LedgerProblem]) -> Iterator[LoggedEntry]:
    """All entries as they stand in the table; what they are wrongly filed under is added to `found`."""
    for entry in filing.filed_entries(session.connection()):
        fault = filing.misfiled(entry)
        if fault is not None:
            found.append(_problem(ProblemKind.MISFILED, entry.index, fault))
        yield LoggedEntry(entry.index, entry.body, entry.leaf_hash)


def _tree(session: Session, verdict: Verdict) -> Iterator[LedgerProblem]:
    """The stored head and nodes against a tree over the stored leaf hashes, row by row: the tables may be large."""
    tree = merkle.Frontier()
    leaves = session.execute(select(LedgerEntryRow.leaf_hash).order_by(LedgerEntryRow.index).execution_options(yield_per=PAGE))
    rows = session.execute(
        select(LedgerNodesRow.leaf, LedgerNodesRow.hashes).order_by(LedgerNodesRow.leaf).execution_options(yield_per=PAGE)
    )
    stored = next(rows, None)
    for (leaf,) in leaves:
        place = tree.size
        tree, completed = tree.grow(leaf)
        here = b""
        if stored is not None and stored[0] == place:
            here, stored = stored[1], next(rows, None)
        if here != b"".join(completed):
            yield _problem(ProblemKind.TREE, place, "the stored nodes are not those of the stored leaf hashes")
    if stored is not None:
        yield _problem(ProblemKind.TREE, stored[0], "nodes are stored for an entry that is not there")
    head = session.get(TreeHeadRow, 0)
    if head is None:
        yield _problem(ProblemKind.TREE, None, f"the tree's head is missing, and there are {verdict.entries} entries")
    elif (head.size, head.peaks) != (tree.size, b"".join(tree.peaks)):
        detail = f"the stored head is of {head.size} entries, and the {verdict.entries} that are there make another tree"
        yield _problem(ProblemKind.TREE, None, detail)


def _problem(kind: ProblemKind, entry: int | None, detail: str) -> LedgerProblem:
    return LedgerProblem(kind=kind, entry=entry, detail=detail)
