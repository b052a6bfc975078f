"""`tutti report`: the whole privacy report of a run, a model, a population or a plan."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from contract import canonical, task
from contract.errors import ErrorCode, TuttiError
from privacy import report as reports
from privacy.ledger import entries
from server import registration, tasks
from server.store.store import Store
from tutti import disclosures, stores
from tutti.commands.options import JsonOption, StoreOption

Subject = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a prefix of it, or `latest`.")]
ModelOption = Annotated[
    int | None, typer.Option("--model", min=1, metavar="ROUNDS", help="Only up to the model after so many rounds.")
]
PopulationOption = Annotated[
    str | None, typer.Option(help="All runs and accesses of this population instead, with its budget.")
]
PlanOption = Annotated[
    Path | None, typer.Option(metavar="TASK.yaml", help="A task that was never run: the report of all its rounds.")
]
CheckOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Check that a report (JSON) follows from the ledger's entries.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report")(report)


def report(
    run: Subject = "latest",
    model: ModelOption = None,
    population: PopulationOption = None,
    plan: PlanOption = None,
    check: CheckOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown, which is also the default.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of reports and stop.")] = False,
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Report what a run has cost and on what that rests, recomputed from the ledger.

    What voids or narrows the guarantee comes first. With --check FILE nothing is printed unless the report in FILE says something that its
    entries do not give; then the exit code is 8.
    """
    if markdown and json_output:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "give either --json or --markdown")
    if schema:
        typer.echo(json.dumps(reports.json_schema(), indent=2))
        return
    if check is not None:
        _check(check, store)
        return
    made = reports.planned_report(planned(plan)) if plan is not None else _made(run, model, population, store)
    typer.echo(json.dumps(made) if json_output else reports.to_markdown(made), nl=json_output)


def planned(task_file: Path) -> bytes:
    """The entry that would register a run of a task; nothing is recorded."""
    prepared = tasks.prepare(task.read(task_file))
    spec = prepared.spec
    event = prepared.mechanism.event(spec.rounds)
    body = canonical.plain(spec)
    if not isinstance(body, dict):
        raise ValueError("a task is written as an object")
    return entries.run_registered(
        population=spec.population,
        run=canonical.digest({"task": spec.digest, "ordinal": 0}),
        task=body,
        task_digest=spec.digest,
        code_digest=registration.code_digest(),
        planned=event,
        seeded=(),
        facts={
            "unit": event["unit"],
            "adjacency": event["adjacency"],
            "not_covered": [line for line in disclosures.not_covered(spec) if "simulator" not in line],
            "simulated": False,
        },
    )


def _made(run: str, model: int | None, population: str | None, store: str) -> dict[str, Any]:
    with stores.existing(store) as (database, _):
        checkpoint = database.ledger.sign(stores.ledger_key(store).signer())
        if population is not None:
            return reports.population_report(_bodies(database, population=population), population, checkpoint=checkpoint)
        found = database.run(run)
        bodies = _bodies(database, run=found.id)
        if model is None:
            return reports.run_report(bodies, checkpoint=checkpoint)
        return reports.model_report(bodies, database.model(found.id, model).digest, checkpoint=checkpoint)


def _check(path: Path, store: str) -> None:
    try:
        given = json.loads(path.read_text("utf-8"))
        subject = given["subject"]
        with stores.existing(store) as (database, _):
            own = {"population": subject["population"]} if subject["kind"] == "population" else {"run": subject["run"]}
            differences = reports.check(given, _bodies(database, **own))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"{path} is no report of this ledger: {error}") from None
    if differences:
        raise TuttiError(ErrorCode.LEDGER_BROKEN, f"{path} does not follow from its entries: " + "; ".join(differences[:20]))


def _bodies(database: Store, *, run: str | None = None, population: str | None = None) -> list[bytes]:
    return [entry.body for entry in database.ledger.entries(run=run, population=population)]
