"""`tutti plot`, `tutti compare`, `tutti sessions`: pictures and tables over rounds."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from client_sim.session_shapes import MEANINGS, said
from contract.errors import ErrorCode, TuttiError
from tutti import plots, results, stores
from tutti.commands.options import JsonOption, RunArgument, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("plot")(plot)
    app.command("compare")(compare)
    app.command("sessions")(sessions)


def plot(
    run: RunArgument = "latest",
    to: Annotated[Path | None, typer.Option(help="File to write, .png or .svg; `tutti-RUN.png` unless given.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Draw loss, accuracy, privacy and devices over the rounds of a run."""
    with stores.existing(store) as (database, _):
        found = database.run(run)
        path = to if to is not None else Path(f"tutti-{found.id[:12]}.png")
        plots.run_page(plots.history(database, found), path)
    typer.echo(json.dumps({"run": found.id, "plot": str(path)}) if json_output else str(path))


def compare(
    first: RunArgument,
    second: Annotated[str, typer.Argument(metavar="OTHER", help="Another run, named likewise.")],
    to: Annotated[Path | None, typer.Option(help="Also draw both into this .png or .svg file.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Show two runs side by side: what differs in the tasks, metrics and cost."""
    with stores.existing(store) as (database, _):
        pair = [database.run(first), database.run(second)]
        found = [results.result(database, run) for run in pair]
        if to is not None:
            plots.comparison([plots.history(database, run) for run in pair], to)
    differences = results.differences(pair[0].spec, pair[1].spec)
    if json_output:
        typer.echo(json.dumps({"runs": found, "differences": differences}))
        return
    table = Table(box=None, header_style="dim")
    for name in ("", found[0]["run"][:12], found[1]["run"][:12]):
        table.add_column(name)
    for name, values in differences.items():
        table.add_row(name, *map(str, values))
    for name, values in results.paired(found[0], found[1]).items():
        table.add_row(name, *values)
    Console(highlight=False).print(table)


def sessions(
    run: RunArgument = "latest",
    to: Annotated[Path | None, typer.Option(help="Also draw the chart into this .png or .svg file.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Chart the session shapes of a run: `-` check-in, `v` plan, `[` `]` training, `+` upload, `^` accepted, `#` late, `!` lost.

    A `*` is a refusal. Over gRPC each shape that did not end well has its reasons below it: the server's, or the device's.
    """
    with stores.existing(store) as (database, _):
        found = database.run(run)
        rounds = database.rounds(found.id)
    if not rounds:
        raise TuttiError(ErrorCode.NOT_FOUND, f"run {found.id[:12]} has no round on the record yet")
    shares, refused = plots.session_shares(rounds), plots.turned_away(rounds)
    if to is not None:
        plots.session_chart(shares, to)
    if json_output:
        typer.echo(json.dumps({"sessions": shares, "refused": refused}))
        return
    console = Console(highlight=False, markup=False)
    for shape, row in shares.items():
        bar = "#" * round(20 * row["share"])
        line = f"{shape:<8}{row['count']:>8}  {100 * row['share']:5.1f}%  {bar:<20} {MEANINGS.get(shape, '')}"
        console.print(line.rstrip(), soft_wrap=True)
        if row["reasons"]:
            console.print(f"{'':<16}  {said(row['reasons'])}", soft_wrap=True)
    if refused:
        console.print(f"\nthe server turned away: {said(refused)}", soft_wrap=True)
