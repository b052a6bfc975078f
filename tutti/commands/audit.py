"""`tutti audit`: trains with canaries under a control and treatments, and says what leaked beside what was proven."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy.report import shown_up
from tutti import audit as audits
from tutti.audit import page, specification
from tutti.audit.scores import Watch
from tutti.audit.specification import AuditSpec
from tutti.commands.options import BackendOption, JsonOption, StoreOption, WorkersOption, placement
from tutti.progress import LiveRounds


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("audit")(audit)


def audit(
    task_file: Annotated[
        Path, typer.Argument(metavar="TASK.yaml", help="An audit file, or a plain task: itself against itself without noise.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Gzipped JSON lines keyed by user, instead of the task's data.source.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the task's number of rounds.")] = None,
    noise: Annotated[
        list[float] | None, typer.Option(min=0.0, help="A treatment with this noise multiplier; give it several times.")
    ] = None,
    references: Annotated[
        int | None, typer.Option(min=100, max=specification.MOST_REFERENCES, help="Sequences that canaries are ranked among.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the simulation, the canaries and the references.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Train nothing: score the canaries of --canaries under this safetensors file.")
    ] = None,
    canaries: Annotated[Path | None, typer.Option(help="Canaries as an earlier audit wrote them.")] = None,
    workers: WorkersOption = None,
    backend: BackendOption = "auto",
    store: StoreOption = ".tutti",
    json_output: JsonOption = False,
) -> None:
    """Attack what a task trains, and put the leakage beside the bound.

    The same canaries, data and seed under a control without noise and under every treatment. Started again, an audit goes on where it
    stopped. It ends with exit code 13 if a lower bound lies above what the ledger proves. Examples:

        tutti audit deploy/tasks/audit_next_word_small.yaml

        tutti audit deploy/tasks/next_word_small.yaml --noise 0.5 --noise 2
    """
    spec = _changed(specification.read(task_file), data=data, rounds=rounds, noise=noise, references=references, seed=seed)
    if (model is None) != (canaries is None):
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "--model and --canaries go together")
    console, where = Console(stderr=True), placement(workers, backend)
    if model is not None and canaries is not None:
        with _bar(console, quiet=json_output) as bar:
            scored = audits.score_model(spec, model, canaries, watch=_watch(bar, "references"))
        _print(scored, json_output=json_output, tables=[("Cells", page.CELL_COLUMNS, page.cell_rows(_single(scored)))])
        return
    with _bar(console, quiet=json_output) as bar:
        watchers = audits.Watchers(
            rounds=lambda arm: LiveRounds(arm, quiet=True), scoring=lambda name: _watch(bar, f"{name}: references")
        )
        result = audits.run(spec, store=store, workers=where, watchers=watchers)
    tables = [
        ("Control and treatments", page.ARM_COLUMNS, page.arm_rows(result)),
        ("Cells", page.CELL_COLUMNS, page.cell_rows(result)),
        ("Measured beside proven", page.JUDGEMENT_COLUMNS, page.judgement_rows(result)),
    ]
    _print(result, json_output=json_output, tables=tables)
    if result["verdict"] == "failed":
        broken = "; ".join(
            f"{one['measure']}: {one['epsilon']:.3f} above {shown_up(one['claimed'])}" for one in result["failed"]
        )
        raise TuttiError(ErrorCode.AUDIT_FAILED, broken)


def _changed(
    spec: AuditSpec,
    *,
    data: str | None,
    rounds: int | None,
    noise: list[float] | None,
    references: int | None,
    seed: int | None,
) -> AuditSpec:
    changes: dict[str, Any] = {}
    if data is not None or rounds is not None:
        sections: dict[str, Any] = {} if data is None else {"data": {"source": data}}
        changes["task"] = task.replace(spec.task, **sections, **({} if rounds is None else {"rounds": rounds}))
    changes |= {key: value for key, value in (("references", references), ("seed", seed)) if value is not None}
    mapping = specification.to_mapping(spec) | {
        key: task.to_mapping(value) if key == "task" else value for key, value in changes.items()
    }
    spec = specification.parse_mapping(mapping)
    return specification.with_noise(spec, noise) if noise else spec


def _bar(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)


def _watch(bar: Progress, description: str) -> Watch:
    row = bar.add_task(description, total=None)

    def scored(done: int, total: int) -> None:
        bar.update(row, completed=done, total=total)

    return scored


def _single(scored: Mapping[str, Any]) -> dict[str, Any]:
    return {"arms": [{"name": scored["model_digest"][:12], "grid": scored["grid"]}]}


def _print(
    result: Mapping[str, Any], *, json_output: bool, tables: Iterable[tuple[str, Iterable[str], Iterable[Iterable[str]]]]
) -> None:
    if json_output:
        typer.echo(json.dumps(result))
        return
    console = Console(highlight=False)
    for title, columns, rows in tables:
        table = Table(title=title, title_justify="left", box=None, header_style="dim")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        added = [table.add_row(*row) for row in rows]
        if added:
            console.print(table)
    if "verdict" in result:
        loud = {"passed": "green", "warned": "yellow", "failed": "bold red"}[result["verdict"]]
        console.print(f"verdict: [{loud}]{result['verdict']}[/] at a family-wise level of {result['family_level']:g}")
        for name, path in result["files"].items():
            console.print(f"  {name}: {path}", soft_wrap=True)
