"""Stored tree nodes, so that proofs are O(log n); checkpoints that were given out; one owner a population."""

import sqlalchemy as sa
from alembic import op

from privacy.ledger.merkle import Frontier
from server.store.migrations.append_only import protect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BATCH = 5_000


def upgrade() -> None:
    nodes = op.create_table(
        "ledger_nodes",
        sa.Column("leaf", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaf"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(8), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size", "key_id"),
    )
    op.create_table(
        "population_leases",
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("population"),
    )
    connection = op.get_bind()
    tree, rows = Frontier(), []
    entries = sa.table("ledger_entries", sa.column("entry_index"), sa.column("leaf_hash"))
    while batch := connection.execute(
        sa.select(entries.c.leaf_hash).where(entries.c.entry_index >= tree.size).order_by(entries.c.entry_index).limit(BATCH)
    ).all():
        for (leaf,) in batch:
            index = tree.size
            tree, completed = tree.grow(leaf)
            if completed:
                rows.append({"leaf": index, "hashes": b"".join(completed)})
        if rows:
            connection.execute(sa.insert(nodes), rows)
            rows.clear()
    head = sa.table("tree_head", sa.column("id"), sa.column("size"), sa.column("peaks"))
    if connection.execute(sa.select(head.c.size).where(head.c.id == 0)).scalar() is None:
        connection.execute(sa.insert(head).values(id=0, size=0, peaks=b""))
    protect("ledger_nodes", key=("leaf",))
    protect("checkpoints", key=("size", "key_id"))


def downgrade() -> None:
    raise NotImplementedError("migrations are only ever added")
