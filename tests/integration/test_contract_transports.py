"""The contract test: the same rounds in memory, in process and over gRPC leave the same ledger entries and the same model.

The in-process run says who takes part, and when; the other two replay exactly these devices, message by message. Examples arrive and expire
meanwhile, so that a device that trained at another time would train on others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.data import Loader, open_loader
from client_sim.egress import DevicePolicy
from client_sim.executor import Executor, Job, Updates
from client_sim.fleet_session import play
from client_sim.session_states import Charge, Outcome, ReadRecord, Refund, Seal, Train, Trained
from client_sim.timing import Phase
from client_sim.transports.grpc import GrpcTransport
from client_sim.transports.memory import MemoryTransport
from client_sim.transports.transport import Transport
from client_sim.workers import open_executor
from contract import task
from server import registration, tasks
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.rpc.hosting import Host
from server.rpc.service import Address, RpcServer
from server.store.store import Store
from server.store.values import Run
from tutti import disclosures, hosting, simulation

SPEC = task.parse_mapping(
    {
        "name": "contract",
        "population": "test",
        "model": {"name": "mlp"},
        "data": {
            "source": "synthetic",
            "devices": 60,
            "cache": {"most_examples": 8, "longest_days": 0.05, "arrival_days": 0.1},
        },
        "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
        "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
        "server": {"momentum": 0.9},
        "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
        "rounds": 3,
    }
)
SEED, NOISE_SEED = 1, 2


@dataclass(frozen=True)
class Record:
    """What a run left behind."""

    entries: list[bytes]
    model: str


@dataclass(frozen=True)
class Asked:
    """Who was asked to train in a round, and when: examples come and go."""

    devices: list[int]
    at_s: float


class Listening:
    """An executor that remembers who was asked."""

    def __init__(self, pool: Executor) -> None:
        self._pool, self.asked = pool, list[Asked]()

    def run(self, job: Job) -> Updates:
        self.asked.append(Asked(job.devices.tolist(), job.at_s))
        return self._pool.run(job)

    def close(self) -> None:
        """The pool goes on."""


@pytest.fixture(scope="module")
def loader() -> Loader:
    return open_loader(SPEC.data, model="mlp")


@pytest.fixture(scope="module")
def pool(loader: Loader) -> Iterator[Executor]:
    made = open_executor(SPEC, loader, workers=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def in_process(pool: Executor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, list[Asked]]:
    """A seeded run under virtual time, and who was accepted in each round."""
    folder, listening = tmp_path_factory.mktemp("inprocess"), Listening(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "open_executor", lambda *_, **__: listening)
        tutti.run(SPEC, store=str(folder), seed=SEED, seed_noise=NOISE_SEED)
    return record(folder), listening.asked


def record(folder: Path) -> Record:
    store = Store.open(str(folder))
    try:
        (run,) = store.runs()
        # What the simulator's oracle saw is on the record too; the transports below have none.
        bodies = [entry.body for entry in store.entries(run=run.id) if entry.kind != "assumption-checked"]
        return Record(bodies, store.model(run.id).digest)
    finally:
        store.close()


class Scripted:
    """A device that does what the script says, with the vector that the pool computes."""

    def __init__(self, index: int, *, asked: Asked, run: Run, pool: Executor) -> None:
        self._index, self._reports, self._run, self._pool = index, index in asked.devices, run, pool
        self._at_s = asked.at_s

    async def may_take_part(self, request: ReadRecord) -> bool:
        return True

    async def train(self, request: Train) -> Trained:
        job = Job(
            plan=request.assignment.plan,
            parameters=np.frombuffer(request.parameters, "<f4"),
            devices=np.array([self._index]),
            order_seed=SEED,
            noise_seed=simulation.noise_seed(self._run),
            at_s=self._at_s,
        )
        return Trained(self._pool.run(job).total.astype("<i4").tobytes())

    async def write(self, request: Charge | Seal | Refund) -> None:
        """Nothing is kept."""

    def vanishes(self, phase: Phase, leaf: int) -> bool:
        return phase is Phase.TRAINING and not self._reports


async def replay(transport: Transport, asked: Asked, run: Run, pool: Executor) -> None:
    """One round: the accepted devices report, as many others as the cohort needs vanish while they train."""
    accepted, target = asked.devices, round(SPEC.cohort.report_goal * SPEC.cohort.over_selection)
    others = [device for device in range(60) if device not in accepted][: target - len(accepted)]
    cohort = [*others, *reversed(accepted)]
    outcomes: list[Outcome] = await asyncio.gather(
        *(
            play(
                transport,
                Scripted(device, asked=asked, run=run, pool=pool),
                population="test",
                client_version="1",
                policy=DevicePolicy(),
                sleep=lambda _: asyncio.sleep(0.01),
            )
            for device in cohort
        )
    )
    shapes = [outcome.shape for outcome in outcomes]
    assert shapes == ["-v[!"] * len(others) + ["-v[]+^"] * len(accepted)


def register(folder: Path, loader: Loader) -> tuple[Store, KeyDirectory, Run, tasks.PreparedTask]:
    store, keys, prepared = Store.open(str(folder)), KeyDirectory(folder / "keys"), tasks.prepare(SPEC)
    run = registration.register(
        store=store,
        keys=keys,
        prepared=prepared,
        settings=RunSettings(
            seed=SEED, noise_seed=NOISE_SEED, transport="grpc", data_digest=loader.digest, devices=loader.num_devices
        ),
        not_covered=disclosures.not_covered(prepared.spec),
        start=prepared.model.init(0),
    )
    return store, keys, run, prepared


def over_memory(folder: Path, loader: Loader, pool: Executor, script: list[Asked]) -> Record:
    store, keys, run, prepared = register(folder, loader)
    table = hosting.table_of(store, keys, run, prepared)
    transport = MemoryTransport(lambda request: table.handle(request, 0.0))
    for asked in script:
        asyncio.run(replay(transport, asked, run, pool))
        assert table.tick(0.0) is not None
    store.close()
    return record(folder)


@asynccontextmanager
async def grpc_server(
    store: Store, keys: KeyDirectory, run: Run, prepared: tasks.PreparedTask, round_ended: Callable[[Any], None]
) -> AsyncIterator[tuple[GrpcTransport, Awaitable[None]]]:
    host = Host()
    hosted = hosting.hosted(store, hosting.table_of(store, keys, run, prepared), "test", round_ended)
    host.add(hosted)
    server = RpcServer(host, Address(port=0))
    await server.start()
    transport = GrpcTransport(f"127.0.0.1:{server.port}")
    try:
        yield transport, hosted.ended
    finally:
        await transport.close()
        await server.close(grace_s=0.0)


async def over_grpc(folder: Path, loader: Loader, pool: Executor, script: list[Asked]) -> Record:
    store, keys, run, prepared = register(folder, loader)
    loop, rounds = asyncio.get_running_loop(), asyncio.Queue[Any]()
    async with grpc_server(store, keys, run, prepared, lambda facts: loop.call_soon_threadsafe(rounds.put_nowait, facts)) as (
        transport,
        ended,
    ):
        for asked in script:
            await replay(transport, asked, run, pool)
            assert (await rounds.get())["state"] == "committed"
        await ended
    store.close()
    return record(folder)


def test_every_round_of_the_script_reaches_its_goal(in_process: tuple[Record, list[Asked]]) -> None:
    assert [len(asked.devices) for asked in in_process[1]] == [SPEC.cohort.report_goal] * SPEC.rounds


def test_memory_leaves_the_same_record_as_in_process(
    in_process: tuple[Record, list[Asked]], loader: Loader, pool: Executor, tmp_path: Path
) -> None:
    expected, script = in_process
    assert over_memory(tmp_path, loader, pool, script) == expected


async def test_grpc_leaves_the_same_record_as_in_process(
    in_process: tuple[Record, list[Asked]], loader: Loader, pool: Executor, tmp_path: Path
) -> None:
    expected, script = in_process
    assert await over_grpc(tmp_path, loader, pool, script) == expected


@pytest.mark.slow
def test_two_workers_leave_the_same_record_as_one(in_process: tuple[Record, list[Asked]], tmp_path: Path) -> None:
    tutti.run(SPEC, store=str(tmp_path), seed=SEED, seed_noise=NOISE_SEED, workers=2)
    assert record(tmp_path) == in_process[0]


@pytest.mark.slow
def test_a_real_fleet_completes_a_run_over_grpc(tmp_path: Path) -> None:
    result = tutti.run(SPEC, store=str(tmp_path), transport="grpc", seed=SEED, workers=2)
    assert (result["rounds"], result["abandoned"]) == (SPEC.rounds, 0)
    assert len(record(tmp_path).entries) == 1 + 2 * SPEC.rounds
