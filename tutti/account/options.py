"""Options that the subcommands of `tutti account` share."""

from pathlib import Path
from typing import Annotated

import typer

from tutti.commands.run import JsonOption

DeltaOption = Annotated[float, typer.Option(help="Delta at which epsilon is stated.")]
NoiseMultiplierOption = Annotated[
    float | None, typer.Option(help="Deviation of the noise over the norm bound of one contribution; found from --epsilon if left out.")
]
RoundsOption = Annotated[int | None, typer.Option(min=1, help="Releases; the most that --epsilon allows if left out.")]
EpsilonOption = Annotated[float | None, typer.Option(help="A target, from which the noise or the rounds are found.")]
MinSeparationOption = Annotated[int, typer.Option(min=0, help="Rounds strictly between two participations of one device.")]
MaxParticipationsOption = Annotated[int | None, typer.Option(min=1, help="A cap on one device's participations; none unless given.")]
DevicesPerPersonOption = Annotated[int, typer.Option(min=1, help="Also price a person who owns so many devices.")]
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
]
