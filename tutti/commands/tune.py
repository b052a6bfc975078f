"""`tutti tune`: a hyperparameter search whose privacy is accounted and on the record."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract import task
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from privacy.report import shown_up
from tutti.commands.options import JsonOption, StoreOption, WorkersOption, check_workers
from tutti.tuning import Search, parse_choices, tune


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tune")(tune_command)


def tune_command(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="The task whose settings are searched.")],
    choice: Annotated[
        list[str], typer.Option(help="KEY=VALUE,VALUE such as training.learning_rate=0.1,0.5; may be given again.")
    ],
    metric: Annotated[str, typer.Option(help="The metric of a run that decides.")],
    expected_trials: Annotated[float, typer.Option(min=1, help="Trials on average; how many there are is secret.")] = 5.0,
    lowest: Annotated[bool, typer.Option("--lowest", help="The lowest value of the metric wins.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Gzipped JSON lines keyed by user, instead of the task's data.source.")
    ] = None,
    workers: WorkersOption = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Search settings of TASK.yaml by trial runs, a random number of them, and tell the best settings only.

    Stopping at random costs little more than one trial; the search is recorded as an access before its outcome is told. Example:

        tutti tune task.yaml --choice training.learning_rate=0.1,0.3,1 --metric held_out_accuracy --expected-trials 5
    """
    spec = task.read(task_file)
    try:
        search = Search(choices=parse_choices(choice), expected_trials=expected_trials, metric=metric, lowest=lowest)
    except ValueError as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, str(error)) from None
    check_workers(workers)
    found = tune(spec, search, data=data, workers=workers, store=store, entropy=system_entropy)
    if json_output:
        typer.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    for key, value in found["settings"].items():
        console.print(f"{key}: {value}")
    price = found["privacy"]
    console.print(
        f"the search cost epsilon {shown_up(price['epsilon'])} at delta {price['delta']:g} ({price['conversion']} conversion), "
        f"entry {found['entry']}; the run that uses it costs its own",
        soft_wrap=True,
    )
