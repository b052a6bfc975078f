"""`tutti predict` and `tutti export`: what a trained model says, and how to take it along."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tutti import exports, predictions, stores
from tutti.commands.options import JsonOption, RunArgument, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("predict")(predict)
    app.command("export")(export)


def predict(
    run: RunArgument,
    text: Annotated[str, typer.Argument(help='What was typed so far, such as "how are".')],
    top: Annotated[int, typer.Option(min=1, max=50, help="How many words to suggest.")] = 3,
    tap: Annotated[int | None, typer.Option(min=0, help="Text selection: where the finger is, in code points.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Ask a run's newest model: the next word of TEXT, or with --tap the span that it would select."""
    with stores.existing(store) as (database, _):
        answer = predictions.predict(database, database.run(run), text, top=top, tap=tap)
    if json_output:
        typer.echo(json.dumps(answer))
        return
    console = Console(highlight=False)
    for line in predictions.lines(answer):
        console.print(line, soft_wrap=True)


def export(
    run: RunArgument = "latest",
    to: Annotated[Path | None, typer.Option(help="Directory to write; `./tutti-export-RUN` unless given.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Write a run's model as safetensors, with a model card and the privacy report beside it."""
    with stores.existing(store) as (database, _):
        found = database.run(run)
        files = exports.export(database, found, to if to is not None else Path(f"tutti-export-{found.id[:12]}"))
    if json_output:
        typer.echo(json.dumps({name: str(path) for name, path in files.items()}))
        return
    for name, path in files.items():
        typer.echo(f"{name}: {path}")
