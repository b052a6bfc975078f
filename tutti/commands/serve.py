"""`tutti serve`: the server for devices and people."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from contract import task
from server.observability import configure_logs, configure_spans
from server.rpc.service import DEFAULT_PORT
from tutti import device_authority, serving
from tutti.commands.options import StoreOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("serve")(serve)


def serve(
    task_files: Annotated[
        list[Path] | None, typer.Argument(metavar="[TASK.yaml]...", help="Tasks that wait for devices, each as a new run.")
    ] = None,
    store: StoreOption = ".tutti",
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="gRPC, for devices.")] = DEFAULT_PORT,
    rest_port: Annotated[int, typer.Option(min=0, max=65_535, help="REST and pages, for people.")] = serving.REST_PORT,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain, for both faces.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Serve others without TLS: behind a proxy that speaks it.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="Directory of the files that tasks asked for over REST may name.")] = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            "--device-authority", metavar="FILE.pub", help="Who certifies the devices of secure tasks, which need it."
        ),
    ] = None,
    runner: Annotated[bool, typer.Option(help="Play the simulated runs that are asked for over REST.")] = True,
) -> None:
    """Serve devices over gRPC (7310) and people over REST and pages (7311), until Ctrl-C.

    Runs that wait for devices go on where they stood. Without a token on this machine only; elsewhere see `tutti token create`.
    Devices to try it with:

        tutti serve deploy/tasks/mlp.yaml
        tutti devices --server 127.0.0.1:7310 --population demo-mlp --count 100

    A task with secure aggregation takes certified devices only: see `tutti authority create`.
    """
    specs = [task.read(path) for path in task_files or ()]
    options = serving.ServeOptions(
        store=store,
        host=host,
        port=port,
        rest_port=rest_port,
        certificate=tls_cert,
        key=tls_key,
        plaintext=plaintext,
        data_directory=data,
        runner=runner,
        device_authority=None if authority is None else device_authority.public_of(authority),
    )
    configure_logs()
    configure_spans("tutti-server")
    asyncio.run(serving.serve(options, specs))
