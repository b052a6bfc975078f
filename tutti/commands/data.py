"""`tutti data`: checks data files before anything trains on them."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from client_sim.data.jsonlines import MOST_PROBLEMS, JsonLinesLoader, check_file
from contract.errors import ErrorCode
from tutti.commands.options import JsonOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Check data files before anything trains on them.", no_args_is_help=True)
    group.callback()(_group)
    group.command("check")(check)
    app.add_typer(group, name="data")


def _group() -> None:
    """Check data files before anything trains on them."""


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines keyed by user, gzipped or plain.")],
    kind: Annotated[
        Literal["text", "selection"], typer.Option(help="What each line holds besides client_id: text, or a selection in it.")
    ] = "text",
    json_output: JsonOption = False,
) -> None:
    """Say every fault of FILE with its line, or how many users it has.

    A line is an object such as {"client_id": "u1", "text": "hello there"}; a selection's line also has "tap", "selection" and "entity".
    """
    problems = check_file(file, kind=kind)
    found = {} if problems else _users(file, kind)
    if json_output:
        rows = [{"path": problem.path, "message": problem.message, "cure": problem.cure} for problem in problems]
        typer.echo(json.dumps({"ok": not problems, "problems": rows, **found}))
    elif problems:
        for problem in problems:
            typer.echo(f"{problem.path}: {problem.message}")
        most = "at least " if len(problems) == MOST_PROBLEMS else ""
        typer.echo(
            f"{most}{len(problems)} fault{'' if len(problems) == 1 else 's'}: mend these lines or leave them out", err=True
        )
    else:
        typer.echo(f"{file}: nothing to refuse; {found['users']} users to train on, {found['held_out']} held out")
    raise typer.Exit(ErrorCode.DATA_INVALID.value.exit_code if problems else 0)


def _users(file: Path, kind: Literal["text", "selection"]) -> dict[str, int]:
    loader = JsonLinesLoader(file, kind=kind)
    return {"users": loader.num_devices, "held_out": loader.num_held_out}
