"""Triggers that make a table append-only, for whoever writes to the database by hand too."""

from alembic import op

_SQLITE = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
# REPLACE removes a row without any trigger for DELETE, so a second row with the same key is stopped before it gets that far.
_SQLITE_REPLACE = """
CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {match})
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION tutti_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
"""
_POSTGRES = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION tutti_append_only()
"""


def protect(table: str, *, key: tuple[str, ...]) -> None:
    """Refuses UPDATE and DELETE (and REPLACE or TRUNCATE, where there is one) on `table`, whose primary key is `key`."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRES_FUNCTION)
        op.execute(_POSTGRES.format(table=table))
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(_SQLITE.format(table=table, verb=verb))
    op.execute(_SQLITE_REPLACE.format(table=table, match=" AND ".join(f"{name} = NEW.{name}" for name in key)))
