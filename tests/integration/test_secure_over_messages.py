"""A secure round message by message in memory: the sum is the plain one, misbehaving devices cost themselves alone."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_sim.data import Loader, open_loader
from client_sim.egress import DevicePolicy
from client_sim.executor import Job
from client_sim.fleet_session import play
from client_sim.secure_work import key_entropy, secure_context
from client_sim.session_states import Charge, Outcome, ReadRecord, Refund, Seal, Train, Trained
from client_sim.timing import Phase
from client_sim.transports.memory import MemoryTransport
from client_sim.workers import InMemoryExecutor, open_executor
from contract import plan as plans
from contract import task
from contract.messages import Aborted, Reply, Request, SecureRequest, SecureStep, UploadChunk
from secagg import LOWEST_FLOORS, Client, DeviceAuthority
from server import registration, tasks, transcripts
from server.distributed_mechanism import DistributedMechanism, lanes
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.secure_sessions import SecureSessionTable
from server.store.store import Store
from server.transcripts import TranscriptFolder, TranscriptState
from tutti import hosting, simulation
from tutti.secure_simulation import IdealSum

DEVICES = 14
SPEC = task.parse_mapping(
    {
        "name": "secure",
        "population": "test",
        "model": {"name": "mlp"},
        "data": {"source": "synthetic", "devices": DEVICES},
        "cohort": {"report_goal": DEVICES, "over_selection": 1.0, "minimum_reports": 12},
        "deadlines": {"selection_s": 60, "reporting_s": 60},
        "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
        "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}},
        "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 11, "corrupt_fraction": 0.0, "drop_fraction": 0.1},
        "rounds": 1,
    }
)
AUTHORITY_SEED = bytes(range(32))
Tamper = Callable[[int, Request], Request | None]


class SecureDevice:
    """A device whose update the executor computes."""

    def __init__(self, index: int, world: "World", *, vanishes: Phase | None = None) -> None:
        self._index, self._world, self._vanishes = index, world, vanishes

    async def may_take_part(self, request: ReadRecord) -> bool:
        return True

    async def train(self, request: Train) -> Trained:
        self._world.plan = request.assignment.plan
        job = self._world.job(request.assignment.plan, np.frombuffer(request.parameters, "<f4"), [self._index])
        return Trained(self._world.executor.run(job).total.astype("<i4").tobytes())

    def secure_client(self, plan: bytes, group: int) -> Client:
        context, entropy = secure_context(plan), key_entropy(bytes(32), plans.decode(plan).round_index, self._index)
        authority = DeviceAuthority(AUTHORITY_SEED)
        identity = authority.enrol(context.epoch, entropy)
        return Client(context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=entropy)

    async def write(self, request: Charge | Seal | Refund) -> None:
        """Nothing is kept."""

    def vanishes(self, phase: Phase, leaf: int) -> bool:
        return phase is self._vanishes


class World:
    """A store, a session table, and devices that talk to it in one process, on a clock that waits advance."""

    def __init__(self, folder: Path, loader: Loader, executor: InMemoryExecutor) -> None:
        self.executor, self.plan, self.now_s = executor, b"", 0.0
        self.store, keys = Store.open(str(folder)), KeyDirectory(folder / "keys")
        self.prepared = tasks.prepare(SPEC)
        settings = RunSettings(seed=1, noise_seed=2, data_digest=loader.digest)
        self.start = self.prepared.model.init(0)
        self.run = registration.register(
            store=self.store, keys=keys, prepared=self.prepared, settings=settings, not_covered=[], start=self.start
        )
        self.transcripts = TranscriptFolder(folder / "transcripts")
        authority = DeviceAuthority(AUTHORITY_SEED).public
        table = hosting.table_of(self.store, keys, self.run, self.prepared, authority=authority, transcripts=self.transcripts)
        assert isinstance(table, SecureSessionTable)
        self.table, self.seen = table, list[Request]()

    def job(self, plan: bytes, parameters: np.ndarray, devices: list[int]) -> Job:
        return Job(
            plan=plan,
            parameters=parameters.astype(np.float32),
            devices=np.array(devices),
            order_seed=1,
            noise_seed=simulation.noise_seed(self.run),
        )

    def play(self, *, vanishing: dict[int, Phase] | None = None, tamper: Tamper | None = None) -> list[Outcome]:
        """One session of every device."""

        async def tick(seconds: float) -> None:
            self.now_s += seconds / DEVICES
            self.table.tick(self.now_s)
            await asyncio.sleep(0)

        def handler(index: int) -> Callable[[Request], Reply]:
            def handle(request: Request) -> Reply:
                sent = request if tamper is None else tamper(index, request)
                if sent is None:
                    raise asyncio.CancelledError
                self.seen.append(sent)
                reply = self.table.handle(sent, self.now_s)
                self.table.tick(self.now_s)
                return reply

            return handle

        async def one(index: int) -> Outcome:
            gone = (vanishing or {}).get(index)
            try:
                return await play(
                    MemoryTransport(handler(index)),
                    SecureDevice(index, self, vanishes=gone),
                    population="test",
                    client_version="1",
                    policy=DevicePolicy(),
                    sleep=tick,
                )
            except asyncio.CancelledError:
                return Outcome(shape="cancelled", status=None)

        async def everybody() -> list[Outcome]:
            return list(await asyncio.gather(*(one(index) for index in range(DEVICES))))

        return asyncio.run(everybody())

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(entry.body) for entry in self.store.entries(run=self.run.id)]


@pytest.fixture(scope="module")
def loader() -> Loader:
    return open_loader(SPEC.data, model="mlp")


@pytest.fixture(scope="module")
def executor(loader: Loader) -> InMemoryExecutor:
    made = open_executor(SPEC, loader, workers=0)
    assert isinstance(made, InMemoryExecutor)
    return made


@pytest.fixture
def world(tmp_path: Path, loader: Loader, executor: InMemoryExecutor) -> World:
    return World(tmp_path, loader, executor)


def plain_model(world: World, survivors: list[int]) -> np.ndarray:
    """The parameters that the plain sum of the survivors' encoded updates leads to."""
    mechanism = world.prepared.mechanism
    assert isinstance(mechanism, DistributedMechanism)
    job = world.job(world.plan, world.start, survivors)
    total = IdealSum(world.executor, lanes(mechanism.vectors)).run(job, survivors=np.array(survivors), leaves={}).reveal()
    assert total is not None
    seed = plans.rotation_seed(plans.decode(world.plan))
    summed, _ = mechanism.decode(total, count=len(survivors), seed=seed)
    return world.start + (summed / len(survivors)).astype(np.float32)


@pytest.mark.slow
def test_the_model_is_that_of_the_plain_sum_when_all_stay(world: World) -> None:
    outcomes = world.play()
    assert {outcome.shape for outcome in outcomes} == {"-v[]+^"}
    assert np.array_equal(world.store.model(world.run.id).parameters, plain_model(world, list(range(DEVICES))))


@pytest.mark.slow
def test_devices_that_leave_before_and_after_training_are_left_out(world: World) -> None:
    world.play(vanishing={3: Phase.TRAINING, 5: Phase.UPLOAD})
    survivors = [index for index in range(DEVICES) if index not in (3, 5)]
    assert [body.get("reported") for body in world.bodies() if body.get("result")] == [len(survivors)]
    assert np.array_equal(world.store.model(world.run.id).parameters, plain_model(world, survivors))
    (kept,) = transcripts.check([entry.body for entry in world.store.entries()], world.transcripts.read)
    assert (kept.state, kept.authority) == (TranscriptState.SOUND, DeviceAuthority(AUTHORITY_SEED).public.hex())


@pytest.mark.slow
def test_the_charge_is_on_the_record_before_any_share_is_asked_for(world: World) -> None:
    charged_when_asked: list[bool] = []

    def watch(_index: int, request: Request) -> Request:
        if isinstance(request, SecureRequest) and request.step is SecureStep.UNMASKING:
            charged_when_asked.append(any(body["kind"] == "round-charged" for body in world.bodies()))
        return request

    world.play(tamper=watch)
    assert charged_when_asked
    assert all(charged_when_asked)


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["garbage", "wrong-step", "foreign-token", "clear-upload"])
def test_a_lying_device_costs_its_own_contribution_only(lie: str, world: World) -> None:
    def tamper(index: int, request: Request) -> Request:
        if index != 4:
            return request
        if isinstance(request, SecureRequest) and request.step is SecureStep.SHARE_KEYS and request.message is not None:
            match lie:
                case "garbage":
                    return replace(request, message=b"\x0a\x05hello")
                case "wrong-step":
                    return replace(request, step=SecureStep.UNMASKING)
                case "foreign-token":
                    return replace(request, authorization_token=bytes(32))
                case _:
                    return request
        if lie == "clear-upload" and isinstance(request, UploadChunk):
            return replace(request, secure=False)
        return request

    outcomes = world.play(tamper=tamper)
    assert outcomes[4].shape[-1] in "*#!"
    survivors = [index for index in range(DEVICES) if index != 4]
    assert np.array_equal(world.store.model(world.run.id).parameters, plain_model(world, survivors))


@pytest.mark.slow
def test_masked_words_look_uniform_and_nothing_else_is_large(world: World) -> None:
    """A tap on every message: what a device sends beyond 1 KiB are masked inputs, whose bytes pass a chi-squared test."""
    world.play()
    chunks = [request for request in world.seen if isinstance(request, UploadChunk)]
    assert all(request.secure for request in chunks)
    assert len(chunks) == DEVICES
    for request in chunks:
        counts = np.bincount(np.frombuffer(request.data[64:], np.uint8), minlength=256)
        expected = counts.sum() / 256
        # 255 degrees of freedom: 400 is beyond 7 standard deviations, a false alarm below 1e-7 for all devices together.
        assert ((counts - expected) ** 2 / expected).sum() < 400


@pytest.mark.slow
def test_too_few_survivors_end_the_round_without_a_charge(world: World) -> None:
    outcomes = world.play(vanishing=dict.fromkeys(range(5), Phase.TRAINING))
    while world.table.due_s() is not None and (world.table.due_s() or 0.0) < 500:
        world.now_s = max(world.now_s, world.table.due_s() or 0.0)
        world.table.tick(world.now_s)
    assert not any(isinstance(outcome, Aborted) for outcome in outcomes)
    assert not any(body["kind"] == "round-charged" for body in world.bodies())
    assert [body["reason"] for body in world.bodies() if body.get("result") == "abandoned"][:1] == ["too-few-survivors"]
