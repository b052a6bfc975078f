"""`tutti run`: launches a simulated run and shows it live."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

from contract import task
from tutti import artifacts, runs
from tutti.commands.options import (
    BackendOption,
    ExecutorOption,
    JsonOption,
    RayAddressOption,
    StoreOption,
    WorkersOption,
    placement,
)
from tutti.engines import environment
from tutti.progress import LiveRounds
from tutti.summary import print_summary


class EngineName(Enum):
    """What `--engine` takes."""

    TUTTI = runs.OWN_ENGINE
    TFF = "tff"
    TFF_WEIGHTED = "tff-weighted"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("run")(run)


def run(
    task_file: Annotated[
        Path, typer.Argument(metavar="TASK.yaml", help="The task to run; see `tutti init` for one to start from.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Gzipped JSON lines keyed by user, instead of the task's data.source.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option("--init-from", help="Public weights to start from (.npz), instead of the task's.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the task's number of rounds.")] = None,
    transport: Annotated[
        Literal["inprocess", "grpc"], typer.Option(help="In virtual time, or with a real server and fleet over loopback.")
    ] = "inprocess",
    seed: Annotated[
        int | None, typer.Option(help="Fixes the simulation: who, when, which examples. Noise stays fresh.")
    ] = None,
    seed_noise: Annotated[
        int | None, typer.Option(help="Fixes the noise too. The guarantee is void, and the report says so.")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Who trains and adds: our own workers, or TensorFlow Federated (docs/tff.md).")
    ] = EngineName.TUTTI,
    population: Annotated[
        str | None,
        typer.Option(
            help="Instead of the task's; all runs that name it share its devices' records, so that caps hold across tasks."
        ),
    ] = None,
    workers: WorkersOption = None,
    backend: BackendOption = "auto",
    executor: ExecutorOption = "processes",
    ray_address: RayAddressOption = None,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Train TASK.yaml on simulated devices, with its privacy on the record.

    A new run is started each time; `tutti runs resume` continues one that was stopped. Example:

        tutti run deploy/tasks/next_word_small.yaml --rounds 20
    """
    spec = task.read(task_file)
    if rounds is not None:
        spec = task.replace(spec, rounds=rounds)
    if init_from is not None:
        spec = task.replace(spec, model={"init_from": init_from})
    if engine is not EngineName.TUTTI:
        environment.interpreter(lambda sentence: typer.echo(sentence, err=True))  # uv draws a bar of its own
    where = placement(workers, backend, executor, ray_address)
    with LiveRounds(spec, quiet=json_output) as live:
        result = runs.run(
            spec, data=data, transport=transport, seed=seed, seed_noise=seed_noise, workers=where, store=store, progress=live,
            engine=engine.value, population=population,
        )  # fmt: skip
    files = artifacts.write(result, store=store)
    if json_output:
        typer.echo(json.dumps(result))
    else:
        result["files"] = files
        print_summary(result, store=store, task_file=task_file)
