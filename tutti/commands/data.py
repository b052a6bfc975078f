"""`tutti data`: checks data files before anything trains on them, and converts those of other frameworks."""

import json
from pathlib import Path
from typing import Annotated

import typer

from client_sim.data import convert as conversion
from client_sim.data.jsonlines import MOST_PROBLEMS, JsonLinesLoader, Kind, check_file
from contract.errors import ErrorCode
from tutti.commands.options import JsonOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Check data files before anything trains on them; convert those of others.", no_args_is_help=True)
    group.callback()(_group)
    group.command("check")(check)
    group.command("convert")(convert)
    app.add_typer(group, name="data")


def _group() -> None:
    """Check data files before anything trains on them; convert those of others."""


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines keyed by user, gzipped or plain.")],
    kind: Annotated[
        Kind, typer.Option(help="What each line holds besides client_id: text, a selection in it, or features and a class.")
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


def _users(file: Path, kind: Kind) -> dict[str, int]:
    loader = JsonLinesLoader(file, kind=kind)
    return {"users": loader.num_devices, "held_out": loader.num_held_out}


def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="JSON lines, LEAF's JSON, or TFF's SQLite client data.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="Its ending says what it becomes: .jsonl(.gz), .json, .sqlite.")],
    field: Annotated[
        int | None, typer.Option(min=0, help="LEAF, where x is a list of texts: which of them is the text (Sent140: 4).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="SQLite: the one split to read, such as `train`; all unless given.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Convert TensorFlow Federated's client data (SQLite) and LEAF's JSON to JSON lines keyed by user, and back.

    Such as:

        tutti data convert shakespeare.sqlite shakespeare.jsonl.gz --split train
    """
    read, written, examples = conversion.convert(source, target, field=field, split=split)
    if json_output:
        typer.echo(json.dumps({"from": read, "to": written, "examples": examples, "file": str(target)}))
    else:
        typer.echo(f"{target}: {examples} examples, from {read} to {written}")
