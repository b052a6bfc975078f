"""Jobs have a kind and an id of their own, and audits wait for runners as runs do."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COPY = """
INSERT INTO jobs (id, kind, population, state, workers, requested_by, holder, lease_until, attempts, problem, detail, created_at)
SELECT run, 'run', population, state, workers, requested_by, holder, lease_until, attempts, problem, detail, created_at
FROM jobs_of_runs
"""


def upgrade() -> None:
    for column in ("population", "state"):
        op.drop_index(f"ix_jobs_{column}", "jobs")
    op.rename_table("jobs", "jobs_of_runs")
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
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
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(_COPY)
    op.drop_table("jobs_of_runs")
    for column in ("population", "state"):
        op.create_index(f"ix_jobs_{column}", "jobs", [column])
    op.create_table(
        "audits",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("population", sa.String(64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("data_digests", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audits_population", "audits", ["population"])


def downgrade() -> None:
    raise NotImplementedError("migrations are only ever added")
