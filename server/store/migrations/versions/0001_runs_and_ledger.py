"""Runs, rounds, models and the ledger; triggers refuse to change or remove an entry.

Tables may be there already: stores that were written before there were migrations hold exactly these.
"""

import sqlalchemy as sa
from alembic import op

from server.store.migrations.append_only import protect

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("entry_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("run", sa.String(64)),
        sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("entry_index"),
        if_not_exists=True,
    )
    for column in ("kind", "population", "run"):
        op.create_index(f"ix_ledger_entries_{column}", "ledger_entries", [column], if_not_exists=True)
    op.create_table(
        "tree_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("peaks", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        if_not_exists=True,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("task_name", sa.String(64), nullable=False),
        sa.Column("task_digest", sa.String(64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("next_round", sa.Integer(), nullable=False),
        sa.Column("next_leaf", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("noise_key_id", sa.String(64)),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_digest", "ordinal"),
        if_not_exists=True,
    )
    for column in ("task_digest", "population"):
        op.create_index(f"ix_runs_{column}", "runs", [column], if_not_exists=True)
    op.create_table(
        "rounds",
        sa.Column("run", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("round_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("reported", sa.Integer(), nullable=False),
        sa.Column("sum_seal", sa.String(64)),
        sa.Column("charge_entry", sa.Integer()),
        sa.Column("outcome_entry", sa.Integer()),
        sa.Column("model_digest", sa.String(64)),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "round_index"),
        if_not_exists=True,
    )
    op.create_table(
        "models",
        sa.Column("run", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("round_count", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column("optimizer", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.Integer()),
        sa.PrimaryKeyConstraint("run", "round_count"),
        if_not_exists=True,
    )
    op.create_index("models_digest", "models", ["digest"], if_not_exists=True)
    protect("ledger_entries", key=("entry_index",))


def downgrade() -> None:
    raise NotImplementedError("migrations are only ever added")
