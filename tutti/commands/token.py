"""`tutti token`: bearer tokens for the server. A token's text is printed once and kept nowhere."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import ErrorCode, TuttiError
from server.tokens import POPULATION, Scope, Token, Tokens
from tutti import stores
from tutti.commands.options import JsonOption, StoreOption

DAY_S = 86_400.0
ScopeOption = Annotated[list[Scope], typer.Option("--scope", help="What the token may do; may be given several times.")]
PopulationOption = Annotated[list[str] | None, typer.Option("--population", help="Limits the token to these populations.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Make, list and revoke the server's bearer tokens.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_tokens)
    group.command("revoke")(revoke)
    app.add_typer(group, name="token")


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is; the ledger names its id only.")],
    scope: ScopeOption,
    population: PopulationOption = None,
    days: Annotated[float | None, typer.Option(min=0.01, help="Days after which it is not valid any more.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Make a token and print it, this once, such as `tutti token create alice --scope operator --scope viewer --days 90`."""
    with stores.opened(store) as (database, _):
        fresh = Tokens(database.transactions).create(
            name=_name(name), scopes=scope, populations=_populations(population), valid_s=None if days is None else days * DAY_S
        )
    if json_output:
        typer.echo(json.dumps({**_row(fresh.token), "token": fresh.text}))
    else:
        typer.echo("keep it: it is shown this once, and the store has its hash only", err=True)
        typer.echo(fresh.text)


def list_tokens(store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """List all tokens by id, without their texts."""
    with stores.existing(store) as (database, _):
        rows = [_row(token) for token in Tokens(database.transactions).all()]
    if json_output:
        typer.echo(json.dumps({"tokens": rows}))
        return
    table = Table(box=None, header_style="dim")
    for column in ("id", "name", "scopes", "populations", "created", "revoked"):
        table.add_column(column)
    for row in rows:
        cells = (
            ", ".join(row["scopes"]),
            "all" if row["populations"] is None else ", ".join(row["populations"]) or "(unsaid)",
            row["created"],
            "yes" if row["revoked"] else "",
        )
        table.add_row(row["id"], row["name"], *cells)
    Console(highlight=False).print(table if rows else "no tokens yet: make one with `tutti token create NAME --scope viewer`")


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `tutti token list` shows it.")],
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """End a token at once."""
    with stores.existing(store) as (database, _):
        Tokens(database.transactions).revoke(token_id)
    if json_output:
        typer.echo(json.dumps({"token": token_id, "state": "revoked"}))
    else:
        typer.echo(f"token {token_id} is revoked", err=True)


def _name(name: str) -> str:
    if not name.strip() or len(name) > 64:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"NAME has 1 to 64 characters, not {len(name)}")
    return name


def _populations(given: list[str] | None) -> list[str] | None:
    """None without the option; whatever is given with it is a name, so that an empty variable of a shell takes no limit away."""
    for name in given or ():
        if POPULATION.fullmatch(name) is None:
            raise TuttiError(
                ErrorCode.ARGUMENT_INVALID,
                f"--population {name!r} is no population's name: lower-case letters, digits, '.', '_' and '-', one name an option",
            )
    return given or None


def _row(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(scope.value for scope in token.scopes),
        "populations": None if token.populations is None else sorted(token.populations),
        "created": token.created_at,
        "expires_at": token.expires_at,
        "revoked": token.revoked,
    }
