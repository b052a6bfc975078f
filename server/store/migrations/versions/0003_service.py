"""Tables of the service around the ledger: jobs, tokens, answered requests, policies."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("run", sa.String(64), sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("workers", sa.Integer()),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.String(40)),
        sa.Column("detail", sa.Text()),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("run"),
    )
    for column in ("population", "state"):
        op.create_index(f"ix_jobs_{column}", "jobs", [column])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.String(120), nullable=False),
        sa.Column("populations", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "answered_requests",
        sa.Column("principal", sa.String(64), nullable=False),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.Text()),
        sa.Column("location", sa.Text()),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "request_key"),
    )
    op.create_table(
        "population_policies",
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("approval_required", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("population"),
    )


def downgrade() -> None:
    raise NotImplementedError("migrations are only ever added")
