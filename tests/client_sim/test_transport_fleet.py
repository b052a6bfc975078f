"""A fleet's parts: the player of sessions over a flawed transport, batches, records, training, and processes that come and go."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.egress import DevicePolicy
from client_sim.fleet import Fleet
from client_sim.fleet_batches import BatchThread
from client_sim.fleet_models import ModelShelf
from client_sim.fleet_process import Crew, Device
from client_sim.fleet_session import play
from client_sim.fleet_setup import FleetSetup
from client_sim.fleet_work import FleetRecords, FleetTraining, TrainOrder
from client_sim.session_states import Charge, Outcome, ReadRecord, Refund, Seal, Train, Trained, TrainingFailed
from client_sim.timing import Loss, Phase
from client_sim.transports import convert
from client_sim.transports.memory import MemoryTransport
from client_sim.transports.transport import LinkLostError
from contract import canonical, plan
from contract.errors import TuttiError
from contract.ids import AggregationId, Digest, RunId, SessionId
from contract.messages import (
    Aborted,
    AbortReason,
    Accepted,
    Acknowledged,
    AssignmentRequest,
    EligibilityRequest,
    EligibilitySpec,
    Reply,
    Request,
    Resource,
    ResourceChunk,
    ResourceRequest,
    RetryWindow,
    SubmitResult,
    TaskAssignment,
    TaskResult,
    UploadChunk,
    UploadProgress,
    UploadRequest,
    Wait,
)
from contract.task import DataSpec, ModelSpec, TrainingSpec
from privacy import grid
from trainer.models import registry

GRID = grid.plan(dimension=6, clip_norm=1.0)
MODEL = np.arange(6, dtype="<f4").tobytes()
RUN = RunId("ab" * 32)
CHUNK = 10


def plan_bytes(*, model: str = "mlp", encoder: grid.Grid = GRID, digest: str | None = None) -> bytes:
    facts = {"model": canonical.plain(ModelSpec(name=model)), "training": canonical.plain(TrainingSpec(max_examples=10))}
    return plan.encode(
        plan.Plan(
            task=facts,
            run=RUN,
            round_index=0,
            leaf=0,
            model_digest=digest or hashlib.sha256(MODEL).hexdigest(),
            encoding=encoder.to_json(),
            outputs=(plan.Output(name="delta", length=encoder.dimension, aggregated=True),),
        )
    )


class TinyServer:
    """Says yes to everything, in chunks of ten bytes."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.received = bytearray()
        self.waits = 1

    def __call__(self, request: Request) -> Reply:
        self.seen.append(request)
        session = SessionId("s")
        match request:
            case EligibilityRequest():
                return EligibilitySpec(session, "task", RUN, 0, 0, None, 0.0, 1)
            case AssignmentRequest():
                self.waits -= 1
                if self.waits >= 0:
                    return Wait(0.25)
                resource = Resource("model", len(MODEL), Digest(hashlib.sha256(MODEL).hexdigest()))
                return TaskAssignment(session, AggregationId("a"), b"t", plan_bytes(), resource)
            case ResourceRequest(_, _, offset):
                return ResourceChunk(offset, MODEL[offset : offset + CHUNK], last=offset + CHUNK >= len(MODEL))
            case UploadRequest():
                return UploadProgress(len(self.received))
            case UploadChunk(_, offset, data):
                self.received[offset:] = data
                return UploadProgress(len(self.received))
            case SubmitResult():
                return Accepted()
            case TaskResult():
                return Acknowledged()


class TinyDevice:
    """Trains to the same vector always, and writes down what it is told to."""

    def __init__(self, lost_in: Phase | None = None) -> None:
        self.written: list[str] = []
        self.lost_in = lost_in
        self.vector = GRID.encode(np.ones(6, np.float32), lambda n: bytes(n)).astype("<i4").tobytes()

    async def may_take_part(self, request: ReadRecord) -> bool:
        return True

    async def train(self, request: Train) -> Trained | TrainingFailed:
        assert request.parameters == MODEL
        return Trained(self.vector)

    async def write(self, request: Charge | Seal | Refund) -> None:
        self.written.append(type(request).__name__)

    def vanishes(self, phase: Phase, leaf: int) -> bool:
        return phase is self.lost_in


class Flawed(MemoryTransport):
    """Loses the first answers to some kinds of messages, and breaks the first stream off."""

    def __init__(self, server: TinyServer, *kinds: type[Request]) -> None:
        super().__init__(server)
        self._kinds = list(kinds)

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        self._lose(type(request))
        return reply

    async def fetch(self, request: ResourceRequest) -> AsyncGenerator[ResourceChunk | Aborted, None]:
        async for chunk in super().fetch(request):
            yield chunk
            self._lose(ResourceRequest)

    async def send_chunks(self, chunks: Sequence[UploadChunk]) -> Reply:
        reply = await super().send_chunks(chunks)
        self._lose(UploadChunk)
        return reply

    def _lose(self, kind: type[Request]) -> None:
        if kind in self._kinds:
            self._kinds.remove(kind)
            raise LinkLostError("lost")


async def session(transport: MemoryTransport, device: TinyDevice) -> tuple[Outcome, list[float]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    outcome = await play(transport, device, population="p", client_version="1", policy=DevicePolicy(), sleep=sleep)
    return outcome, slept


async def test_a_session_takes_part_and_writes_before_it_sends() -> None:
    server, device = TinyServer(), TinyDevice()
    outcome, slept = await session(MemoryTransport(server), device)
    assert outcome.shape == "-v[]+^"
    assert device.written == ["Charge", "Seal"]
    assert bytes(server.received) == device.vector
    assert slept == [0.25]


@pytest.mark.parametrize(
    "kind", [EligibilityRequest, AssignmentRequest, ResourceRequest, UploadRequest, UploadChunk, SubmitResult], ids=str
)
async def test_any_answer_may_be_lost_once(kind: type[Request]) -> None:
    server, device = TinyServer(), TinyDevice()
    outcome, slept = await session(Flawed(server, kind), device)
    assert outcome.shape == "-v[]+^"
    assert bytes(server.received) == device.vector
    assert 0.5 in slept


async def test_a_download_resumes_where_it_broke_off() -> None:
    server = TinyServer()
    await session(Flawed(server, ResourceRequest), TinyDevice())
    assert [request.offset for request in server.seen if isinstance(request, ResourceRequest)] == [0, 10, 20]


@pytest.mark.parametrize(
    ("phase", "shape", "written"),
    [(Phase.DOWNLOAD, "-!", []), (Phase.TRAINING, "-v[!", []), (Phase.UPLOAD, "-v[]+!", ["Charge", "Seal"])],
)
async def test_a_device_that_vanishes_says_nothing_more(phase: Phase, shape: str, written: list[str]) -> None:
    server, device = TinyServer(), TinyDevice(lost_in=phase)
    outcome, _ = await session(MemoryTransport(server), device)
    assert (outcome.shape, outcome.status) == (shape, None)
    assert not any(isinstance(request, TaskResult | UploadChunk) for request in server.seen)
    assert device.written == written


async def test_a_server_that_is_gone_ends_the_session() -> None:
    outcome, slept = await session(Flawed(TinyServer(), *[EligibilityRequest] * 9), TinyDevice())
    assert outcome.shape == "-!"
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("offset", [0, 1, 300, 1 << 40])
@pytest.mark.parametrize("size", [1, 127, 128, 1 << 20])
def test_a_piece_of_a_masked_input_has_the_bytes_that_protobuf_writes(offset: int, size: int) -> None:
    data = bytes(range(256)) * 4096
    chunk = UploadChunk(SessionId("a session"), offset, memoryview(data)[:size], secure=True)
    assert convert.written_chunk(chunk) == convert.upload_chunk(chunk).SerializeToString()


# -- batches -------------------------------------------------------------------------------------------------------------------


async def test_what_is_asked_while_the_thread_works_is_done_together() -> None:
    batches: list[int] = []

    def work(items: Sequence[int]) -> Iterator[int]:
        batches.append(len(items))
        yield from items

    thread = BatchThread[int, int](work, most=10)
    assert await asyncio.gather(*(thread.submit(item) for item in range(25))) == list(range(25))
    thread.close()
    assert batches == [10, 10, 5]


async def test_a_failure_reaches_those_who_wait_and_the_thread_goes_on() -> None:
    def work(items: Sequence[int]) -> Iterator[int]:
        for item in items:
            if item == 2:
                raise ValueError("two")
            yield item

    thread = BatchThread[int, int](work, most=10)
    found = await asyncio.gather(*(thread.submit(item) for item in range(4)), return_exceptions=True)
    assert found[:2] == [0, 1]
    assert all(isinstance(one, ValueError) for one in found[2:])
    assert await thread.submit(7) == 7
    thread.close()


async def test_who_is_cancelled_waits_no_longer_and_holds_nobody_up() -> None:
    thread = BatchThread[int, int](iter, most=1)
    first, second = asyncio.create_task(thread.submit(1)), asyncio.create_task(thread.submit(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2
    thread.close()


# -- records and training --------------------------------------------------------------------------------------------------------


def setup_of(folder: Path | None = None, **changes: Any) -> FleetSetup:
    values = {"server": "127.0.0.1:1", "population": "p", "num_devices": 4, "data": DataSpec(devices=4), "order_seed": 1}
    return FleetSetup(**values | {"records": None if folder is None else folder / "devices.db"} | changes)


def test_records_are_on_file_and_of_one_run(tmp_path: Path) -> None:
    records = FleetRecords(setup_of(tmp_path))
    list(records.write([(0, Charge(RUN, 3)), (2, Charge(RUN, 3))]))
    list(records.write([(0, Seal(RUN, 3)), (2, Refund(RUN, 3)), (1, Charge("other", 0))]))
    records.close()
    again = FleetRecords(setup_of(tmp_path)).of(RUN)
    assert again.participations(np.arange(4)).tolist() == [1, 0, 0, 0]
    assert again.last(np.array([0])).tolist() == [3]


def test_records_of_a_population_outlive_a_run(tmp_path: Path) -> None:
    records = FleetRecords(setup_of(tmp_path, scope="p"))
    list(records.write([(0, Charge(RUN, 3))]))
    assert records.of("another run").participations(np.arange(4)).tolist() == [1, 0, 0, 0]


def test_a_device_runs_no_code_that_a_server_names() -> None:
    order = TrainOrder(0, plan_bytes(model="os:system"), MODEL)
    with pytest.raises(TuttiError, match="does not run"):
        list(FleetTraining(setup_of()).train([order]))


def test_training_gives_each_device_its_own_accepted_vector() -> None:
    model = registry.get("mlp")
    encoder = grid.plan(dimension=model.num_parameters, clip_norm=0.5)
    start = model.init(0).astype("<f4").tobytes()
    orders = [TrainOrder(device, plan_bytes(encoder=encoder), start) for device in range(3)]
    vectors = [np.frombuffer(data, "<i4") for data in FleetTraining(setup_of()).train(orders)]
    assert all(encoder.accepts(vector.astype(np.int32)) for vector in vectors)
    assert len({vector.tobytes() for vector in vectors}) == 3


async def test_a_model_is_fetched_once_for_all_devices_of_a_process() -> None:
    shelf, fetched = ModelShelf(), list[str]()

    async def device(name: str, model: bytes | None) -> bytes | None:
        async with shelf.turn(Digest("a")) as held:
            await asyncio.sleep(0)
            if held is None and model is not None:
                fetched.append(name)
                shelf.keep(Digest("a"), model)
            return held

    found = await asyncio.gather(device("lost", None), device("first", MODEL), device("second", MODEL), device("third", MODEL))
    assert fetched == ["first"]
    assert found == [None, None, MODEL, MODEL]
    for name in "bc":
        shelf.keep(Digest(name), b"other")
    assert await device("late", None) is None


async def test_losses_come_at_their_rates_and_are_the_same_again() -> None:
    crew = Crew(setup_of(num_devices=2000, loss=Loss(download=0.1, training=0.2, upload=0.3)))
    lost = {
        phase: [Device(index, crew).vanishes(phase, 5) for index in range(2000)]
        for phase in (Phase.DOWNLOAD, Phase.TRAINING, Phase.UPLOAD)
    }
    for phase, share in zip(lost, (0.1, 0.2, 0.3), strict=True):  # 5 standard deviations: a false alarm in a million
        assert abs(sum(lost[phase]) / 2000 - share) < 5 * (share * (1 - share) / 2000) ** 0.5
    assert lost[Phase.UPLOAD] == [Device(index, crew).vanishes(Phase.UPLOAD, 5) for index in range(2000)]
    crew.close()


async def test_a_device_comes_back_within_its_window() -> None:
    crew = Crew(setup_of(idle_s=0.5))
    window = Outcome(shape="-#", status=None, retry=RetryWindow(2.0, 4.0))
    assert [crew.pause_s(window, share) for share in (0.0, 0.5)] == [2.0, 3.0]
    assert crew.pause_s(Outcome(shape="-v[]+^", status=None), 0.5) == 0.5
    assert crew.pause_s(Outcome(shape="-v[!", status=None), 0.5) == 5.0
    assert (
        crew.pause_s(Outcome(shape="-v[]+#", status=None, retry=RetryWindow(0.0, 0.0), aborted=AbortReason.GOAL_REACHED), 0.5)
        == 0.5
    )
    crew.close()


# -- processes -------------------------------------------------------------------------------------------------------------------


def test_a_process_that_dies_is_noticed_and_stop_ends_the_others() -> None:
    fleet = Fleet(setup_of(), workers=2)
    first, second = fleet.process_ids
    fleet.ended()
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    with pytest.raises(TuttiError, match="ended by itself"):
        fleet.ended()
    fleet.stop()
    assert not Path(f"/proc/{second}").exists()


def test_a_loader_that_cannot_travel_is_refused() -> None:
    class Local:
        num_devices, digest = 1, ""

        def examples(self, index: int) -> list[Any]:
            return []

        def held_out(self) -> Iterator[Any]:
            return iter(())

    with pytest.raises(TuttiError, match="cannot be sent"):
        Fleet(setup_of(data=Local()))
