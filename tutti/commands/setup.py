"""`tutti init` and `tutti doctor`: to begin, and to see what is wrong with a machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tutti import doctor as checks
from tutti import templates
from tutti.commands.options import JsonOption, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("init")(init)
    app.command("doctor")(doctor)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to make; nothing in it is overwritten.")],
    json_output: JsonOption = False,
) -> None:
    """Write a task file, a model and a loader of one's own to start from."""
    paths = templates.write(directory)
    if json_output:
        typer.echo(json.dumps({"files": [str(path) for path in paths]}))
        return
    for path in paths:
        typer.echo(str(path))
    typer.echo(f"\nnext: cd {directory} && tutti task check task.yaml && tutti run task.yaml --rounds 3", err=True)


def doctor(store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """Check Python, JAX, cores, entropy, ports and the store; says how to cure what it finds."""
    found = checks.examine(store)
    if json_output:
        typer.echo(json.dumps({"ok": all(row.ok for row in found), "checks": [row.to_json() for row in found]}))
    else:
        console = Console(highlight=False)
        for row in found:
            mark = "[green]ok  [/]" if row.ok else "[red]FAIL[/]"
            console.print(f"{mark} {row.name}: {row.detail}" + ("" if row.ok else f"\n       cure: {row.cure}"), soft_wrap=True)
    raise typer.Exit(0 if all(row.ok for row in found) else 1)
