"""The one command line. Each command lives in a module of `tutti.commands`; this one assembles them and turns errors into exit codes."""

import sys

import typer
from rich.console import Console

from contract.errors import ErrorCode, Problem, TuttiError
from contract.task import TaskFormError
from tutti import account
from tutti.commands import (
    audit,
    cost,
    db,
    devices,
    inspect,
    ledger,
    models,
    plots,
    report,
    run,
    serve,
    setup,
    tasks,
    token,
    tune,
)

app = typer.Typer(
    name="tutti",
    help="Federated learning with proofs: launch simulated rounds, query the privacy ledger, audit with canaries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (
    run,
    serve,
    devices,
    inspect,
    audit,
    models,
    plots,
    tasks,
    setup,
    report,
    cost,
    db,
    ledger,
    account,
    token,
    tune,
):
    commands.register(app)


def main() -> None:
    """Runs the command line; the exit code comes from the catalogue."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # one's own model and loader are found in the current directory
    try:
        app()
    except TaskFormError as error:
        _complain(error, error.problems)
    except TuttiError as error:
        _complain(error, ())
    except KeyboardInterrupt:
        _complain(TuttiError(ErrorCode.INTERRUPTED, "stopped; what was committed is kept"), ())


def _complain(error: TuttiError, problems: tuple[Problem, ...]) -> None:
    console = Console(stderr=True, highlight=False)
    kind = error.code.value
    console.print(f"[bold red]error[/] {error.code.slug}: {kind.title}", soft_wrap=True)
    if problems:
        for problem in problems:
            console.print(f"  [bold]{problem.path}[/]: {problem.message}", soft_wrap=True, markup=True)
            console.print(f"    cure: {problem.cure}", soft_wrap=True, markup=False)
    else:
        console.print(f"  {error.detail}", soft_wrap=True, markup=False)
    console.print(f"  {kind.cure}", soft_wrap=True, markup=False, style="dim")
    sys.exit(kind.exit_code)
