"""Options and output that the subcommands of `tutti account` share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from privacy.events import Unit
from tutti.commands.options import JsonOption

DeltaOption = Annotated[float, typer.Option(help="Delta at which epsilon is stated.")]
NoiseMultiplierOption = Annotated[
    float | None,
    typer.Option(help="Deviation of the noise over the norm bound of one contribution; found from --epsilon if left out."),
]
RoundsOption = Annotated[int | None, typer.Option(min=1, help="Releases; the most that --epsilon allows if left out.")]
EpsilonOption = Annotated[float | None, typer.Option(help="A target, from which the noise or the rounds are found.")]
MinSeparationOption = Annotated[int, typer.Option(min=0, help="Rounds strictly between two participations of one device.")]
MaxParticipationsOption = Annotated[
    int | None, typer.Option(min=1, help="A cap on one device's participations; none unless given.")
]
DevicesPerPersonOption = Annotated[int, typer.Option(min=1, help="Also price a person who owns so many devices.")]
UnitOption = Annotated[
    Unit,
    typer.Option(
        help="Whom epsilon protects: all of a device, or what it gives on one day (one participation, if it takes part daily)."
    ),
]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Write epsilon over rounds to this .png, .svg or .pdf file.")]

__all__ = [
    "DeltaOption",
    "DevicesPerPersonOption",
    "EpsilonOption",
    "JsonOption",
    "MaxParticipationsOption",
    "MinSeparationOption",
    "NoiseMultiplierOption",
    "PlotOption",
    "RoundsOption",
    "UnitOption",
    "counted",
    "write",
]


def counted(unit: Unit, max_participations: int | None) -> int | None:
    """Participations of one unit: a device-day holds one, of a device that takes part at most once a day.

    >>> counted(Unit.DEVICE_DAY, 6), counted(Unit.DEVICE, 6)
    (1, 6)
    """
    return 1 if unit is Unit.DEVICE_DAY else max_participations


def write(found: dict[str, Any], *, json_output: bool) -> None:
    """One JSON object, or two columns and the lines that come first."""
    if json_output:
        typer.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    for line in found["first_lines"]:
        console.print(line, style="yellow", soft_wrap=True)
    table = Table(box=None, show_header=False)
    for key, value in found.items():
        if key != "first_lines":
            table.add_row(key.replace("_", " "), _text(value))
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
    return f"{value:.6g}" if isinstance(value, float) else "unbounded or not valid" if value is None else str(value)
