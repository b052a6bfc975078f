"""`tutti db`: the store's schema."""

import json

import typer

from server.store import schema
from tutti.commands.options import JsonOption, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Look after the store's database.", no_args_is_help=True)
    group.callback()(_group)
    group.command("upgrade")(upgrade)
    app.add_typer(group, name="db")


def _group() -> None:
    """Look after the store's database."""


def upgrade(store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """Bring a store that an older version wrote to this version's schema.

    A backup is made first, beside the database (SQLite), or with pg_dump into the working directory (PostgreSQL).
    """
    found, backup = schema.upgrade(store)
    if json_output:
        typer.echo(json.dumps({"from": found, "to": schema.HEAD, "backup": None if backup is None else str(backup)}))
    elif found == schema.HEAD:
        typer.echo(f"the store has schema {schema.HEAD} already", err=True)
    else:
        kept = f", backup: {backup}" if backup is not None else ""
        typer.echo(f"schema {found or 'none'} -> {schema.HEAD}{kept}", err=True)
