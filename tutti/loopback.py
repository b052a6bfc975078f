"""`--transport grpc`: a real server and a real fleet of worker processes on this machine, in real time."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from client_sim.data.loader import Loader
from client_sim.fleet import Fleet
from client_sim.fleet_setup import FleetSetup
from client_sim.journal import FleetJournal
from client_sim.placement import Placement
from client_sim.session_shapes import Tally
from client_sim.timing import Loss
from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from contract.ids import SessionId
from contract.messages import ResultStatus, TaskResult
from contract.task import TaskSpec
from privacy.keystream import Keystream
from secagg import DeviceAuthority, Floors
from server.faults import FaultHook
from server.keys import KeyDirectory
from server.rpc.hosting import Host, HostedRun
from server.rpc.service import Address, RpcServer
from server.store.store import Store
from server.store.values import Run, RunState
from server.tasks import PreparedTask
from tutti import hosting, stores
from tutti.findings import record_findings
from tutti.loopback_oracle import Muster, WatchedReleases
from tutti.simulation import noise_seed, simulation_seed, vocabulary_of

FIRST_ROUND_S = 0.5
"""Guess at a first round, by which the first devices that are turned away are told to come back."""
LOOK_S = 0.5
"""Between two looks at the fleet."""


def rounds(
    database: Store,
    keys: KeyDirectory,
    run: Run,
    prepared: PreparedTask,
    loader: Loader,
    *,
    workers: int | Placement | None,
    faults: FaultHook,
    directory: Path,
) -> Iterator[Mapping[str, Any]]:
    """Plays rounds until the run is over, giving the facts of each."""
    ended: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    authority_seed = device_authority(run)
    authority = DeviceAuthority(authority_seed).public
    table = hosting.table_of(
        database, keys, run, prepared, round_guess_s=FIRST_ROUND_S, faults=faults, authority=authority,
        transcripts=stores.transcript_folder(directory),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        journal = FleetJournal(directory / "devices.db", run=run.id)
        stack.callback(journal.close)
        server = _ServerThread(lambda: hosting.hosted(database, table, run.spec.population, ended.put))
        stack.callback(server.stop)
        port = server.start()
        fleet = Fleet(_setup(run, prepared, loader, directory, port, authority_seed), workers=processes(workers))
        stack.callback(fleet.stop)
        table.most_devices = muster = Muster(prepared.spec, fleet.sighted, num_devices=loader.num_devices)
        watched = WatchedReleases(prepared.spec, journal, database.rounds(run.id), num_devices=loader.num_devices)
        try:
            for facts in _watched(database, run, server, fleet, ended, muster):
                seen = watched.observe(facts, fleet)
                database.add_facts(run.id, int(facts["round"]), seen)
                yield {**facts, **seen, "sessions": None}
        finally:
            server.stop()
            with contextlib.suppress(TuttiError, queue.Empty):
                while True:  # rounds that ended since, which a resumed run's oracle must know of
                    watched.observe(ended.get_nowait(), fleet)
        if watched.complete:
            record_findings(database, run, watched.oracle)


def processes(workers: int | Placement | None) -> int | None:
    """How many processes the fleet has; None leaves it to the cores.

    Raises:
      TuttiError: MECHANISM_UNSUPPORTED for a placement elsewhere: devices over gRPC train on this machine's cores.
    """
    where = Placement.of(workers)
    if where.executor != "processes" or where.backend in ("gpu", "tpu"):
        raise TuttiError(ErrorCode.MECHANISM_UNSUPPORTED, "--transport grpc trains on this machine's cores, with processes")
    return where.workers or None


def _watched(
    database: Store,
    run: Run,
    server: "_ServerThread",
    fleet: Fleet,
    ended: "queue.SimpleQueue[Mapping[str, Any]]",
    muster: Muster,
) -> Iterator[Mapping[str, Any]]:
    tally = Tally()
    while True:
        over = server.over()
        tally.update(*fleet.ended())
        server.lose(fleet.sighted.vanished())
        try:
            muster.require_enough()
        except TuttiError:
            database.set_run_state(run.id, RunState.FAILED)
            raise
        try:
            facts = ended.get(timeout=0.0 if over else LOOK_S)
        except queue.Empty:
            if over:
                return
            continue
        tally.update(*fleet.ended())
        shapes, reasons = tally.take()
        more = {"shapes": shapes, "reasons": reasons}
        database.add_facts(run.id, int(facts["round"]), more)
        yield {**facts, **more}


def _setup(run: Run, prepared: PreparedTask, loader: Loader, directory: Path, port: int, authority_seed: bytes) -> FleetSetup:
    return FleetSetup(
        server=f"127.0.0.1:{port}",
        population=prepared.spec.population,
        num_devices=loader.num_devices,
        data=loader,
        described=prepared.spec.data,
        order_seed=simulation_seed(run),
        noise_seed=noise_seed(run),
        loss=Loss(download=0.02, training=0.05, upload=0.03),  # a tenth, spread over the phases
        records=directory / "devices.db",
        scope=run.id,
        vocabulary=vocabulary_of(prepared),
        own_code=True,
        authority_seed=authority_seed,
        floors=floors_of(prepared.spec),
        observed=True,
    )


def floors_of(spec: TaskSpec) -> Floors:
    """What the fleet's devices insist on in secure rounds: what their owner's task file says, whatever a plan says later."""
    return Floors(
        minimum_roster=spec.group_minimum_roster,
        minimum_survivors=spec.minimum_survivors,
        corrupt_fraction=spec.aggregation.corrupt_fraction,
    )


def device_authority(run: Run) -> bytes:
    """The seed of the simulated device authority: it certifies the fleet's devices, and the server gets its public key only."""
    seed = noise_seed(run)
    return system_entropy(32) if seed is None else Keystream(seed, "device authority", 0).read(32)


class _ServerThread:
    """An event loop of its own with one server and one run."""

    def __init__(self, make: Callable[[], HostedRun]) -> None:
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc-server", daemon=True)
        self._run: HostedRun | None = None
        self._host = Host()
        self._server: RpcServer | None = None

    def start(self) -> int:
        """Begins to serve; the port."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def over(self) -> bool:
        """Whether the run has ended.

        Raises:
          TuttiError: with the reason, if it could not go on.
        """
        if self._run is None or not self._run.ended.done():
            return False
        error = self._run.ended.exception()
        if isinstance(error, TuttiError):
            raise error
        if error is not None:
            raise TuttiError(ErrorCode.INTERNAL, f"the run stopped: {error}") from error
        return True

    def lose(self, sessions: Sequence[SessionId]) -> None:
        """These devices are gone: as soon as a broken connection would show, so that no deadline of minutes is sat out for them."""
        for session in sessions:
            message = TaskResult(session, ResultStatus.REMOTE_FAILED)
            asyncio.run_coroutine_threadsafe(self._host.handle(message), self._loop)

    def stop(self) -> None:
        """Ends the server, the run's thread and the loop; nothing if they have ended."""
        if self._loop.is_closed():
            return
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.close(grace_s=0.5), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        self._run = self._make()
        self._host.add(self._run)
        self._server = RpcServer(self._host, Address(port=0))
        await self._server.start()
        return self._server.port
