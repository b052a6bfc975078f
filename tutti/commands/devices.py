"""`tutti devices`: a fleet of simulated devices against a server, also a load generator."""

import json
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from client_sim.egress import DevicePolicy
from client_sim.fleet import Fleet
from client_sim.fleet_setup import NO_LOSS, FleetSetup
from client_sim.session_shapes import MEANINGS, Tally, said
from client_sim.timing import Loss
from contract.clock import SystemClock
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.task import DataSpec
from secagg import Floors
from tutti import device_authority
from tutti.commands.options import JsonOption

LOOK_S = 0.5


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("devices")(devices)


def devices(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="The server's gRPC address.")],
    count: Annotated[int, typer.Option(min=1, help="How many devices to play.")],
    population: Annotated[str, typer.Option(help="Which population the devices belong to.")],
    data: Annotated[str, typer.Option(help="File of examples keyed by user, or `synthetic`.")] = "synthetic",
    locale: Annotated[Literal["en", "es", "ja"], typer.Option(help="Language of synthetic examples.")] = "en",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core unless given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes the devices' fates and example orders.")] = None,
    dropout: Annotated[bool, typer.Option(help="Let 8% of the devices vanish on the way.")] = True,
    availability: Annotated[
        bool, typer.Option("--availability", help="Wait until a device is idle, charging and unmetered, by time of day.")
    ] = False,
    idle_s: Annotated[float, typer.Option(min=0.01, help="Shortest time between two sessions of a device.")] = 1.0,
    records: Annotated[Path | None, typer.Option(help="The devices' own records; kept in memory unless given.")] = None,
    most_participations: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds of the population that a device joins at most, ever; else as the server says."),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(metavar="FILE.key", help="What certifies these devices for secure tasks; see `tutti authority create`."),
    ] = None,
    minimum_roster: Annotated[int, typer.Option(min=3, help="Smallest secure roster that a device takes part in.")] = 16,
    minimum_survivors: Annotated[int, typer.Option(min=2, help="Smallest secure sum that a device lets out.")] = 12,
    most_examples: Annotated[int, typer.Option(min=1, help="Examples that a device keeps: its newest.")] = 10_000,
    longest_days: Annotated[float, typer.Option(help="Days for which it keeps an example.")] = 30.0,
    arrival_days: Annotated[
        float | None, typer.Option(help="Let a device's examples arrive over so many days, again and again; else all are new.")
    ] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="PEM certificate of the authority to trust; plain text without.")] = None,
    duration_s: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; else at Ctrl-C.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Play COUNT devices against a server, as many processes as cores, until Ctrl-C.

    Each device keeps its own participation record, trains here, and sends nothing but its encoded update. Use --data to let them
    learn from a file, and --idle-s 0.01 to press the server. A secure task needs --authority, whose public half its server trusts.
    """
    _require_usable(server, data)
    setup = FleetSetup(
        server=server,
        population=population,
        num_devices=count,
        data=_data(
            {"source": data, "devices": count, "locale": locale},
            {"most_examples": most_examples, "longest_days": longest_days, "arrival_days": arrival_days},
        ),
        order_seed=int.from_bytes(system_entropy(6), "big") if seed is None else seed,
        loss=Loss() if dropout else NO_LOSS,
        policy=DevicePolicy(most_participations=most_participations),
        records=records,
        scope=population,
        diurnal=availability,
        idle_s=idle_s,
        root_certificate=tls_ca,
        authority_seed=None if authority is None else device_authority.secret_of(authority),
        floors=Floors(minimum_roster=minimum_roster, minimum_survivors=minimum_survivors),
    )
    stop = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    ended, seconds = _watched(Fleet(setup, workers=workers), stop, duration_s, server=server)
    if json_output:
        told = {"sessions": ended.shapes, "reasons": ended.reasons}
        typer.echo(json.dumps({"devices": count, "seconds": round(seconds, 3), **told}))


def _require_usable(server: str, data: str) -> None:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, f"--server {server!r} is no HOST:PORT, such as 127.0.0.1:7310")
    if data != "synthetic" and ":" not in data and not Path(data).is_file():
        raise TuttiError(ErrorCode.DATA_INVALID, f"{data}: there is no such file, and it is no package.module:factory")


def _data(source: dict[str, Any], cache: dict[str, Any]) -> DataSpec:
    try:
        return TypeAdapter(DataSpec).validate_python({**source, "cache": cache})
    except ValidationError as error:
        faults = [f"--{str(fault['loc'][-1]).replace('_', '-')}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise TuttiError(ErrorCode.ARGUMENT_INVALID, "; ".join(faults)) from None


def _watched(fleet: Fleet, stop: threading.Event, duration_s: float | None, *, server: str) -> tuple[Tally, float]:
    clock, ended, console = SystemClock(), Tally(), Console(stderr=True, highlight=False)
    began = clock.now_s()
    try:
        with ExitStack() as stack:
            show = _table(ended, 0.0, server)
            live = stack.enter_context(Live(show, console=console, refresh_per_second=2)) if console.is_terminal else None
            while not stop.wait(LOOK_S):
                ended.update(*fleet.ended())
                if live is not None:
                    live.update(_table(ended, clock.now_s() - began, server))
                if duration_s is not None and clock.now_s() - began >= duration_s:
                    break
    finally:
        fleet.stop()
    if not console.is_terminal:
        console.print(_table(ended, clock.now_s() - began, server))
    return ended, clock.now_s() - began


def _table(ended: Tally, seconds: float, server: str) -> Table | str:
    if not ended:
        return f"no session has ended yet; devices ask {server} again and again"
    table = Table("session", "devices", "a second", "", box=None, header_style="dim")
    for shape, number in ended.shapes.items():
        table.add_row(shape, str(number), f"{number / max(seconds, LOOK_S):.1f}", MEANINGS.get(shape, ""))
        if shape in ended.reasons:
            table.add_row("", "", "", said(ended.reasons[shape]))
    return table
