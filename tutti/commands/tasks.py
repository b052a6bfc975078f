"""`tutti task`: checks a task file and prints its schema."""

import json
from pathlib import Path
from typing import Annotated

import typer

from contract import task
from contract.errors import Problem
from contract.task import TaskFormError
from server import tasks
from tutti.commands.options import JsonOption
from tutti.complaints import complain


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Check task files before anything runs.", no_args_is_help=True)
    group.command("check")(check)
    group.command("schema")(schema)
    app.add_typer(group, name="task")


def check(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="The task file to check.")],
    json_output: JsonOption = False,
) -> None:
    """Say everything about TASK.yaml that a run would refuse, with the key and the cure of each."""
    problems = _problems(task_file)
    if json_output:
        rows = [{"path": problem.path, "message": problem.message, "cure": problem.cure} for problem in problems]
        typer.echo(json.dumps({"ok": not problems, "problems": rows}))
        raise typer.Exit(0 if not problems else 3)
    if problems:
        complain(TaskFormError(tuple(problems)), cure="Mend what is named, and check again.")
    typer.echo(f"{task_file}: nothing to refuse")


def schema() -> None:
    """Print the JSON Schema of a task file."""
    typer.echo(json.dumps(task.json_schema(), indent=2))


def _problems(task_file: Path) -> list[Problem]:
    try:
        spec = task.read(task_file)
    except TaskFormError as error:
        return list(error.problems)
    return tasks.problems(spec)
