"""`tutti runs`: what there is, and to stop it and go on."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import ErrorCode, TuttiError
from privacy.report import shown_up
from server.store.values import RunState
from tutti import results, runs, stores
from tutti.commands.options import JsonOption, RunArgument, StoreOption, WorkersOption, check_workers
from tutti.progress import LiveRounds
from tutti.summary import print_summary

MOST_RUNS = 500


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="List, show, pause, resume and cancel runs.", no_args_is_help=True)
    group.command("list")(list_runs)
    group.command("show")(show)
    group.command("resume")(resume)
    group.command("pause")(pause)
    group.command("cancel")(cancel)
    app.add_typer(group, name="runs")


def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=MOST_RUNS, help="At most so many.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="RUN", help="Only runs that are older than this one.")] = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """List the newest runs of a store, the newest last."""
    with stores.existing(store) as (database, _):
        found = database.lists.page(limit=limit + 1, before=None if before is None else database.run(before).id)
        page = found[:limit]
        rows = [results.run_line(database, run) for run in reversed(page)]
    following = page[-1].id if len(found) > limit else None
    if json_output:
        typer.echo(json.dumps({"runs": rows, "next": following}))
        return
    table = Table(box=None, header_style="dim")
    for name in ("run", "task", "state", "rounds", "epsilon", "started"):
        table.add_column(name, overflow="fold" if name == "task" else "ellipsis", no_wrap=name != "task")
    for row in rows:
        most = "" if row["open_round"] is None else "at most "
        epsilon = "" if row["epsilon"] is None else f"{most}{shown_up(row['epsilon'], 3)} at {row['delta']:g}"
        started = f"{row['started'][5:10]} {row['started'][11:16]}"
        table.add_row(row["run"][:12], row["task"], row["state"], f"{row['rounds']}/{row['planned']}", epsilon, started)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to fold at
    none = "no runs yet: start one with `tutti run TASK.yaml`" if before is None else "no older runs"
    console.print(table if rows else none)
    if following is not None:
        typer.echo(f"older ones: tutti runs list --before {following[:12]}", err=True)


def show(run: RunArgument = "latest", store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """Show one run: state, metrics, privacy."""
    with stores.existing(store) as (database, _):
        result = results.result(database, database.run(run))
    if json_output:
        typer.echo(json.dumps(result))
    else:
        print_summary(result, store=store)


def resume(
    run: RunArgument = "latest", workers: WorkersOption = None, store: StoreOption = ".tutti", json_output: JsonOption = False
) -> None:
    """Go on with a run that was paused, stopped or killed, from its last committed round."""
    check_workers(workers)
    with stores.existing(store) as (database, _):
        found = database.run(run)
    with LiveRounds(found.spec, quiet=json_output) as live:
        result = runs.resume(found.id, workers=workers, store=store, progress=live)
    if json_output:
        typer.echo(json.dumps(result))
    else:
        print_summary(result, store=store)


def pause(run: RunArgument, store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """Ask a run to stop after the round it is in; `tutti runs resume` goes on."""
    _set(run, store, RunState.PAUSED, json_output=json_output)


def cancel(run: RunArgument, store: StoreOption = ".tutti", json_output: JsonOption = False) -> None:
    """End a run for good; what it has charged stays charged, its models stay. Its noise key is destroyed."""
    _set(run, store, RunState.CANCELLED, json_output=json_output)


def _set(run: str, store: str, state: RunState, *, json_output: bool) -> None:
    with stores.existing(store) as (database, keys):
        found = database.run(run)
        if found.state in (RunState.COMPLETED, RunState.CANCELLED):
            raise TuttiError(ErrorCode.RUN_STATE, f"run {found.id[:12]} is {found.state.value}")
        database.set_run_state(found.id, state)
        if state is RunState.CANCELLED:
            keys.destroy(found.id)  # whoever plays its last round holds the key in memory
    if json_output:
        typer.echo(json.dumps({"run": found.id, "state": state.value}))
    else:
        typer.echo(f"run {found.id[:12]} is {state.value}", err=True)
