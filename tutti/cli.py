"""The one command line. Each command lives in a module of `tutti.commands`, which is imported when the command is asked for.

What `tutti --help` lists is written here, so that it answers at once: importing JAX and everything else takes seconds.
"""

import sys
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from contract.errors import ErrorCode, TuttiError
from tutti.complaints import complain


class Listed(NamedTuple):
    """A line of `tutti --help`: under which heading, and the module whose `register` adds the command."""

    panel: str
    module: str
    says: str


TRAIN, LOOK, PRIVACY, SERVE, BEGIN = "Train", "Look at a run", "Privacy", "Serve", "Begin"
COMMANDS = {
    "run": Listed(TRAIN, "tutti.commands.run", "Train a task on simulated devices, with its privacy on the record."),
    "runs": Listed(TRAIN, "tutti.commands.inspect", "List, show, pause, resume and cancel runs."),
    "data": Listed(TRAIN, "tutti.commands.data", "Check a data file line by line; convert those of TFF and LEAF."),
    "task": Listed(TRAIN, "tutti.commands.tasks", "Check a task file before anything runs; print the schema of task files."),
    "tune": Listed(TRAIN, "tutti.commands.tune", "Search settings by a random number of trial runs, accounted for."),
    "predict": Listed(LOOK, "tutti.commands.models", "Ask a run's newest model for the next word, or for a span."),
    "plot": Listed(LOOK, "tutti.commands.plots", "Draw loss, accuracy, privacy and devices over the rounds."),
    "compare": Listed(LOOK, "tutti.commands.plots", "Show two runs side by side: settings, metrics, cost."),
    "sessions": Listed(LOOK, "tutti.commands.plots", "Chart how the devices' sessions went."),
    "export": Listed(LOOK, "tutti.commands.models", "Write a model as safetensors, with its card and report."),
    "report": Listed(PRIVACY, "tutti.commands.report", "Report what a run has cost and on what that rests."),
    "cost": Listed(PRIVACY, "tutti.commands.cost", "Say what a task would cost, and whether the budget has room."),
    "account": Listed(PRIVACY, "tutti.account", "Price a mechanism: rho, epsilon at a delta. No server, no data."),
    "ledger": Listed(PRIVACY, "tutti.commands.ledger", "Verify and export the privacy ledger; sign checkpoints of it."),
    "audit": Listed(PRIVACY, "tutti.commands.audit", "Attack what a task trains; put the leakage beside the bound."),
    "serve": Listed(SERVE, "tutti.commands.serve", "Serve devices over gRPC, and people over REST and pages."),
    "devices": Listed(SERVE, "tutti.commands.devices", "Play devices against a server."),
    "authority": Listed(SERVE, "tutti.commands.authority", "Make the device authority that simulated secure devices need."),
    "token": Listed(SERVE, "tutti.commands.token", "Make, list and revoke the server's bearer tokens."),
    "db": Listed(SERVE, "tutti.commands.db", "Look after the store's database."),
    "init": Listed(BEGIN, "tutti.commands.setup", "Write a task, a model and a loader of one's own to start from."),
    "doctor": Listed(BEGIN, "tutti.commands.setup", "Check this machine, and say how to cure what is wrong."),
}


class _Commands(TyperGroup):
    """Lists all commands, and imports the one that is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, listed in COMMANDS.items():
            self.add_command(TyperCommand(name, help=listed.says, rich_help_panel=listed.panel))
        self._listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        listed = COMMANDS.get(cmd_name)
        if listed is None or self._listing:
            return super().get_command(ctx, cmd_name)
        with_command = typer.Typer()
        import_module(listed.module).register(with_command)
        return typer.main.get_group(with_command).commands[cmd_name]


app = typer.Typer(
    name="tutti",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def tutti() -> None:
    """Federated learning with proofs: launch simulated rounds, query the privacy ledger, audit with canaries."""


def main() -> None:
    """Runs the command line; the exit code comes from the catalogue."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # one's own model and loader are found in the current directory
    try:
        app()
    except TuttiError as error:
        complain(error)
    except OSError as error:
        if error.filename is None:
            raise
        complain(TuttiError(ErrorCode.ARGUMENT_INVALID, f"{error.filename}: {error.strerror}"))  # a path that the user gave
    except KeyboardInterrupt:
        complain(TuttiError(ErrorCode.INTERRUPTED, "stopped; what was committed is kept"))
