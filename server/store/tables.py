"""The tables. Rows are used in the store only; what leaves it is a value of the domain."""

from typing import cast

from sqlalchemy import Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of a store."""


def table(row: type[Base]) -> Table:
    """The table of a row, for statements that are made once and load no rows as objects."""
    return cast(Table, row.__table__)


class LedgerEntryRow(Base):
    """One entry: canonical bytes and their leaf hash. Triggers refuse UPDATE and DELETE."""

    __tablename__ = "ledger_entries"
    index: Mapped[int] = mapped_column("entry_index", Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    population: Mapped[str] = mapped_column(String(64), index=True)
    run: Mapped[str | None] = mapped_column(String(64), index=True)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    body: Mapped[bytes] = mapped_column(LargeBinary)


class TreeHeadRow(Base):
    """The one row that every append locks: the size of the tree and the peaks of its frontier. The first migration writes it."""

    __tablename__ = "tree_head"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(Integer)
    peaks: Mapped[bytes] = mapped_column(LargeBinary)


class LedgerNodesRow(Base):
    """The perfect subtrees that an odd leaf completes, smallest first, 32 bytes each: what proofs are made of. Append-only too."""

    __tablename__ = "ledger_nodes"
    leaf: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """A signed checkpoint that was given out. Append-only: every later tree has to extend it."""

    __tablename__ = "checkpoints"
    size: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    key_id: Mapped[str] = mapped_column(String(8), primary_key=True)
    note: Mapped[str] = mapped_column(Text)


class LeaseRow(Base):
    """Who runs the rounds of a population. `epoch` grows whenever the owner changes, so that an old owner's writes are told apart."""

    __tablename__ = "population_leases"
    population: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[int] = mapped_column(Integer)
    until: Mapped[float] = mapped_column(Float)


class RunRow(Base):
    """One execution of a task."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_name: Mapped[str] = mapped_column(String(64))
    task_digest: Mapped[str] = mapped_column(String(64), index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    population: Mapped[str] = mapped_column(String(64), index=True)
    spec: Mapped[str] = mapped_column(Text)
    settings: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    next_round: Mapped[int] = mapped_column(Integer)
    next_leaf: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer)
    noise_key_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(String(40))
    __table_args__ = (UniqueConstraint("task_digest", "ordinal"),)


class RoundRow(Base):
    """One round of a run: its state, and facts for progress and plots (JSON, never hashed)."""

    __tablename__ = "rounds"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    index: Mapped[int] = mapped_column("round_index", Integer, primary_key=True, autoincrement=False)
    leaf: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    reported: Mapped[int] = mapped_column(Integer)
    sum_seal: Mapped[str | None] = mapped_column(String(64))
    charge_entry: Mapped[int | None] = mapped_column(Integer)
    outcome_entry: Mapped[int | None] = mapped_column(Integer)
    model_digest: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[str] = mapped_column(Text)


class ModelRow(Base):
    """Parameters after a round (round 0 is the start) and the optimiser's state, as blobs."""

    __tablename__ = "models"
    run: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int] = mapped_column("round_count", Integer, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[bytes] = mapped_column(LargeBinary)
    optimizer: Mapped[bytes] = mapped_column(LargeBinary)
    entry: Mapped[int | None] = mapped_column(Integer)
    __table_args__ = (Index("models_digest", "digest"),)
