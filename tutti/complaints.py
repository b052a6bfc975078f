"""How the command line tells an error: what is wrong and how to cure it, on stderr, with the exit code of the catalogue."""

import sys
from typing import NoReturn

from rich.console import Console

from contract.errors import TuttiError
from contract.task import TaskFormError


def complain(error: TuttiError, *, cure: str | None = None) -> NoReturn:
    """Prints `error` and ends the process.

    Args:
      cure: instead of the catalogue's.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    kind = error.code.value
    console.print(f"[bold red]error[/] {error.code.slug}: {kind.title}", markup=True)
    if isinstance(error, TaskFormError):
        for problem in error.problems:
            console.print(f"  {problem.path}", style="bold", end="")
            console.print(f": {problem.message}")
            console.print(f"    cure: {problem.cure}")
    else:
        console.print(f"  {error.detail}")
    console.print(f"  {cure or kind.cure}", style="dim")
    sys.exit(kind.exit_code)
