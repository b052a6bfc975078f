"""Whether the rest of the store agrees with its ledger: tree nodes, runs, rounds and models against the entries they point to."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from privacy.ledger import merkle
from privacy.ledger.notes import VerifierKey
from privacy.ledger.problems import LedgerProblem, ProblemKind
from privacy.ledger.verification import LoggedEntry, Verdict, verify
from server.store.ledger import PAGE
from server.store.store import Store
from server.store.tables import LedgerEntryRow, LedgerNodesRow, ModelRow, RoundRow, RunRow, TreeHeadRow


def verify_store(store: Store, *, key: VerifierKey, since: tuple[str, ...] = ()) -> Verdict:
    """Everything that is wrong with a store's ledger, and with what stands beside it.

    Args:
      since: checkpoints that somebody kept.
    """
    with store.transactions.read() as session:
        verdict = verify(logged(session), key=key, checkpoints=store.ledger.checkpoints(), since=since, complete=False)
        found = [*_tree(session, verdict), *_runs(session), *_rounds(session), *_models(session)]
    return Verdict(
        entries=verdict.entries, root=verdict.root, problems=(*verdict.problems, *found), checkpoints=verdict.checkpoints,
        key=verdict.key,
    )  # fmt: skip


def logged(session: Session) -> Iterator[LoggedEntry]:
    """All entries as they stand in the table, page by page."""
    following = 0
    while True:
        rows = session.execute(
            select(LedgerEntryRow.index, LedgerEntryRow.body, LedgerEntryRow.leaf_hash)
            .where(LedgerEntryRow.index >= following)
            .order_by(LedgerEntryRow.index)
            .limit(PAGE)
        ).all()
        for row in rows:
            yield LoggedEntry(row[0], row[1], row[2])
        if len(rows) < PAGE:
            return
        following = rows[-1][0] + 1


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
    head = session.get_one(TreeHeadRow, 0)
    if (head.size, head.peaks) != (tree.size, b"".join(tree.peaks)):
        detail = f"the stored head is of {head.size} entries, and the {verdict.entries} that are there make another tree"
        yield _problem(ProblemKind.TREE, None, detail)


def _runs(session: Session) -> Iterator[LedgerProblem]:
    registered = set(session.scalars(select(LedgerEntryRow.run).where(LedgerEntryRow.kind == "run-registered")))
    runs = set(session.scalars(select(RunRow.id)))
    for run in sorted(runs - registered):
        yield _problem(ProblemKind.ROW_WITHOUT_ENTRY, None, f"run {run[:12]} is in the store and was never registered")
    for run in sorted(name for name in registered - runs if name):
        yield _problem(ProblemKind.ENTRY_WITHOUT_ROW, None, f"run {run[:12]} was registered and is not in the store")


def _rounds(session: Session) -> Iterator[LedgerProblem]:
    for row in session.scalars(select(RoundRow).order_by(RoundRow.run, RoundRow.index)):
        for index, kind in ((row.charge_entry, "round-charged"), (row.outcome_entry, "round-outcome")):
            if index is None:
                continue
            facts = _facts(session, index)
            if facts is None or (facts["kind"], facts.get("run"), facts.get("round")) != (kind, row.run, row.index):
                yield _problem(
                    ProblemKind.ROW_WITHOUT_ENTRY,
                    index,
                    f"round {row.index} of run {row.run[:12]} names it as its {kind} entry",
                )
        if row.state == "committed" and (row.charge_entry is None or row.outcome_entry is None):
            yield _problem(
                ProblemKind.REVEAL_WITHOUT_CHARGE, row.outcome_entry, f"round {row.index} of run {row.run[:12]} is committed"
            )


def _models(session: Session) -> Iterator[LedgerProblem]:
    columns = select(ModelRow.run, ModelRow.round, ModelRow.digest, ModelRow.entry).order_by(ModelRow.run, ModelRow.round)
    for run, count, digest, entry in session.execute(columns).all():
        facts = None if entry is None else _facts(session, entry)
        committed = facts is not None and (facts["kind"], facts.get("run"), facts.get("model_digest")) == (
            "round-outcome", run, digest,
        )  # fmt: skip
        if not committed and count > 0:
            yield _problem(
                ProblemKind.MODEL_WITHOUT_ENTRY,
                entry,
                f"the model after {count} rounds of run {run[:12]} has no committed entry",
            )


def _facts(session: Session, index: int) -> dict[str, Any] | None:
    body = session.scalar(select(LedgerEntryRow.body).where(LedgerEntryRow.index == index))
    return None if body is None else json.loads(body)


def _problem(kind: ProblemKind, entry: int | None, detail: str) -> LedgerProblem:
    return LedgerProblem(kind=kind, entry=entry, detail=detail)
