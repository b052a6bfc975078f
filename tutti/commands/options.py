"""Arguments that several commands share."""

from typing import Annotated

import typer

StoreOption = Annotated[
    str,
    typer.Option("--store", envvar="TUTTI_STORE", help="Directory or database URL that holds the state.", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; progress goes to stderr.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a prefix of it, or `latest`.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Worker processes; one a core unless given. 0 trains in this process.")
]
