"""`tutti authority`: who certifies the devices of secure tasks, where they are simulated."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tutti import device_authority
from tutti.commands.options import JsonOption


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Make the device authority that a secure task's simulated devices need.", no_args_is_help=True)
    group.command("create")(create)
    group.command("show")(show)
    app.add_typer(group, name="authority")


def create(
    path: Annotated[Path, typer.Argument(metavar="FILE.key", help="Where its secret half goes; nothing is overwritten.")],
    json_output: JsonOption = False,
) -> None:
    """Make a device authority: FILE.key (mode 0600) for the devices, FILE.pub for the server.

    In a secure task a server takes only devices that an authority vouches for, which it does not control itself. Simulated devices
    are certified by whoever plays them:

        tutti authority create authority.key
        tutti serve deploy/tasks/text_selection.yaml --device-authority authority.pub
        tutti devices --server 127.0.0.1:7310 --population selection-en --count 200 --authority authority.key
    """
    public_path = device_authority.create(path)
    public = device_authority.public_of(public_path).hex()
    if json_output:
        typer.echo(json.dumps({"secret": str(path), "public": str(public_path), "public_key": public}))
        return
    typer.echo(f"{path}: for `tutti devices --authority`; who has it can invent devices, so no server needs it", err=True)
    typer.echo(f"{public_path}: for `tutti serve --device-authority`", err=True)
    typer.echo(public)


def show(
    path: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The public half of an authority.")],
    json_output: JsonOption = False,
) -> None:
    """Print the public key of an authority, which servers and devices name in their messages."""
    public = device_authority.public_of(path).hex()
    typer.echo(json.dumps({"public_key": public}) if json_output else public)
