"""One process of a fleet: its devices' sessions as tasks of one event loop, their training on one pinned core.

Started by `client_sim.fleet` as `python -m client_sim.fleet_process DESCRIPTOR`; it ends when the socket behind the descriptor closes.
"""

import asyncio
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from client_sim.conditions import conditions_at
from client_sim.fleet_batches import BatchThread
from client_sim.fleet_models import ModelShelf
from client_sim.fleet_session import play
from client_sim.fleet_setup import Begin, Broken, Ended, FleetSetup
from client_sim.fleet_sightings import Sightings
from client_sim.fleet_work import FleetRecords, FleetTraining, TrainOrder
from client_sim.population import DevicePopulation, make_population
from client_sim.secure_work import key_entropy, secure_context
from client_sim.session_shapes import Tally
from client_sim.session_states import Charge, Outcome, ReadRecord, Refund, Seal, Train, Trained, TrainingFailed
from client_sim.timing import Phase
from client_sim.transports.grpc import GrpcTransport
from client_sim.transports.transport import Transport
from contract import plan as plans
from contract.clock import wall_time
from contract.errors import ErrorCode, TuttiError
from contract.ids import SessionId
from contract.messages import AbortReason
from contract.randomness import stream, uniform_by_device
from secagg import Client, DeviceAuthority

CLIENT_VERSION = "1"
REPORT_S = 0.2
"""Between two words to the parent."""
AWAY_S = 5.0
"""Before a device that could not reach its server, or that vanished, is back."""
MOST_FAREWELLS = 15
"""Words to the parent before a process that cannot go on ends: until then its devices may take leave, so that no round waits for them."""
CONDITIONS_S = 600.0
FIRST_CHECK_INS_A_SECOND = 2000
TRAINED_TOGETHER = 50


class Device:
    """One device: its own record, its examples, and its fate."""

    def __init__(self, index: int, crew: "Crew") -> None:
        self.index, self._crew = index, crew
        self._session: SessionId | None = None

    async def may_take_part(self, request: ReadRecord) -> bool:
        """What the record says."""
        spec, self._session = request.spec, request.spec.session_id
        records = self._crew.records.of(spec.run)
        eligible = records.eligible(
            np.array([self.index]),
            spec.current_index,
            minimum_separation=request.minimum_separation,
            max_participations=request.max_participations,
            trustworthiness_s=request.trustworthiness_s,
        )
        may = bool(eligible[0]) and int(records.last(np.array([self.index]))[0]) < spec.current_index
        if not may:
            self._crew.sightings.barred(self.index, spec.current_index)
        return may

    async def train(self, request: Train) -> Trained | TrainingFailed:
        """Trains with the others that are ready."""
        self._crew.sightings.plays(request.assignment.session_id, self.index)
        order = TrainOrder(self.index, request.assignment.plan, request.parameters)
        try:
            return Trained(await self._crew.trainer.submit(order))
        except TuttiError as error:
            self._crew.complaint = error
            return TrainingFailed()
        except (ValueError, TypeError, KeyError) as error:  # a plan may name what this device does not have
            self._crew.complaint = TuttiError(ErrorCode.TASK_INVALID, f"the devices cannot train: {error!r}")
            return TrainingFailed()

    def secure_client(self, plan: bytes, group: int) -> Client:
        """A client with a one-time certificate of the simulated device authority."""
        setup = self._crew.setup
        if setup.authority_seed is None:
            self._crew.complaint = _without_authority(setup)
            raise ValueError("this fleet has no device authority, so its devices have no certificates")
        context = secure_context(plan, group)
        entropy = key_entropy(setup.noise_seed, plans.decode(plan).round_index, self.index)
        authority = DeviceAuthority(setup.authority_seed)
        identity = authority.enrol(context.epoch, entropy)
        return Client(context=context, authority=authority.public, identity=identity, floors=setup.floors, entropy=entropy)

    async def write(self, request: Charge | Seal | Refund) -> None:
        """On disk when this returns."""
        await self._crew.writer.submit((self.index, request))

    def vanishes(self, phase: Phase, leaf: int) -> bool:
        """The device's fate in this round: a function of (seed, round, device)."""
        loss = self._crew.setup.loss
        if loss.total == 0:
            return False
        drawn = float(uniform_by_device(self._crew.setup.order_seed, np.array([self.index]), "vanishes", leaf)[0])
        shares = np.cumsum([loss.download, loss.training, loss.upload])
        lost = int(np.searchsorted(shares, drawn, side="right")) == phase
        if lost and self._session is not None:
            self._crew.sightings.vanished(self._session)
        return lost


class Crew:
    """What the devices of this process share."""

    def __init__(self, setup: FleetSetup) -> None:
        self.setup = setup
        self.training, self.records, self.models = FleetTraining(setup), FleetRecords(setup), ModelShelf()
        self.trainer = BatchThread[TrainOrder, bytes | memoryview](self.training.train, most=TRAINED_TOGETHER)
        self.writer = BatchThread[tuple[int, Charge | Seal | Refund], None](self.records.write, most=10_000)
        self.population: DevicePopulation | None = (
            make_population(setup.num_devices, setup.order_seed) if setup.diurnal else None
        )
        self.sightings = Sightings(wanted=setup.observed)
        self.ended = Tally()
        self.complaint: TuttiError | None = None
        self.farewells, self.playing = MOST_FAREWELLS, 0

    async def live(self, index: int, transport: Transport) -> None:
        """One device, session after session, until it is cancelled or somebody complains."""
        device = Device(index, self)
        draws = stream(self.setup.order_seed, "fleet pauses", index)
        await asyncio.sleep(draws.random() * max(self.setup.idle_s, self.setup.num_devices / FIRST_CHECK_INS_A_SECOND))
        while self.complaint is None:
            if await self._ready(index):
                outcome = await self._session(device, transport)
                await asyncio.sleep(self.pause_s(outcome, draws.random()))

    async def _session(self, device: Device, transport: Transport) -> Outcome:
        self.playing += 1
        try:
            outcome = await play(
                transport,
                device,
                population=self.setup.population,
                client_version=CLIENT_VERSION,
                policy=self.setup.policy,
                models=self.models,
            )
        finally:
            self.playing -= 1
        self.ended.add(outcome.shape, outcome.reason)
        if outcome.aborted is AbortReason.UNAUTHORIZED and self.setup.authority_seed is not None:
            self.complaint = _another_authority(self.setup.server, self.setup.authority_seed)
        return outcome

    async def _ready(self, index: int) -> bool:
        if self.population is None:
            return True
        now_s = np.array([wall_time().timestamp()])
        if conditions_at(self.population, np.array([index]), now_s).hold[0]:
            return True
        await asyncio.sleep(CONDITIONS_S)
        return False

    def pause_s(self, outcome: Outcome, share: float) -> float:
        """How long a device rests after a session, `share` of the way into the window that it was given."""
        if outcome.retry is not None:
            window = outcome.retry
            return max(self.setup.idle_s, window.minimum_s + share * max(0.0, window.maximum_s - window.minimum_s))
        return AWAY_S * (0.5 + share) if outcome.shape.endswith("!") else self.setup.idle_s

    def close(self) -> None:
        """Ends the threads and closes the records."""
        self.trainer.close()
        self.writer.close()
        self.records.close()


async def serve(connection: "Connection[Any, Any]", begin: Begin) -> None:
    """Plays the devices of `begin` until the other end of `connection` is gone."""
    crew = Crew(begin.setup)
    transport = GrpcTransport(begin.setup.server, root_certificate=begin.setup.root_certificate)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(connection.fileno(), gone.set)
    mine = range(begin.place, begin.setup.num_devices, begin.places)
    try:
        async with asyncio.TaskGroup() as tasks:
            devices = [tasks.create_task(crew.live(index, transport)) for index in mine]
            await _report(connection, crew, gone)
            for device in devices:
                device.cancel()
    finally:
        asyncio.get_running_loop().remove_reader(connection.fileno())
        await transport.close()
        await asyncio.to_thread(crew.close)


async def _report(connection: "Connection[Any, Any]", crew: Crew, gone: asyncio.Event) -> None:
    while not gone.is_set():
        try:
            async with asyncio.timeout(REPORT_S):
                await gone.wait()
        except TimeoutError:
            if not _tell(connection, crew):
                return


def _tell(connection: "Connection[Any, Any]", crew: Crew) -> bool:
    """Says what happened since the last word; False if this was the last."""
    try:
        if crew.ended:
            connection.send(Ended(*crew.ended.take()))
        if (seen := crew.sightings.told()) is not None:
            connection.send(seen)
        if crew.complaint is None:
            return True
        crew.farewells -= 1
        if crew.playing and crew.farewells:
            return True
        connection.send(Broken(crew.complaint.code, crew.complaint.detail))
    except OSError:
        pass  # the parent is gone
    return False


def _without_authority(setup: FleetSetup) -> TuttiError:
    detail = (
        f"the task at {setup.server} is a secure one, and these devices have no certificates: give them --authority FILE.key, whose "
        "FILE.pub the server was started with (`tutti authority create FILE.key` makes both)"
    )
    return TuttiError(ErrorCode.ARGUMENT_INVALID, detail)


def _another_authority(server: str, seed: bytes) -> TuttiError:
    detail = (
        f"the server at {server} refuses the certificates of these devices: it trusts another device authority than theirs, whose public "
        f"key is {DeviceAuthority(seed).public.hex()}. Start it with --device-authority and that key's FILE.pub, or give the devices the "
        "--authority that it trusts"
    )
    return TuttiError(ErrorCode.ARGUMENT_INVALID, detail)


def main() -> None:
    """Connects to the socket whose descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    connection = Connection(int(sys.argv[1]))
    try:
        begin: Begin = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that started this one
        asyncio.run(serve(connection, begin))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except TuttiError as error:
        connection.send(Broken(error.code, error.detail))


if __name__ == "__main__":
    main()
