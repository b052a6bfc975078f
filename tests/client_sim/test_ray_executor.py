"""Ray's actors: the same sums as local workers, also when one is lost."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from client_sim.data import SyntheticFeatures
from client_sim.executor import Job
from client_sim.local_work import WorkSetup
from client_sim.workers import WorkerPool
from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.task import TrainingSpec
from privacy import grid
from trainer.models import registry

if find_spec("ray") is None:
    pytest.skip("the extra `ray` is not installed", allow_module_level=True)

from client_sim.ray_executor import RayExecutor

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a busy machine may take minutes to start Ray's processes
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]
DIMENSION = registry.get("mlp").num_parameters
TRAINING = TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1)
LOADER = SyntheticFeatures(num_devices=160, seed=3, num_held_out=1)


class Noted:
    """Devices whose examples take a while to read, and a note that reading has begun."""

    digest = "0" * 64
    num_devices = 160

    def __init__(self, note: Path) -> None:
        self._note = note

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return LOADER.num_examples(devices)

    def examples(self, index: int) -> Sequence[Any]:
        self._note.touch()
        time.sleep(0.005)
        return LOADER.examples(index)

    def held_out(self) -> Iterator[Sequence[Any]]:
        return iter(())


def setup(loader: Any = LOADER) -> WorkSetup:
    return WorkSetup(loader=loader, model="mlp", training=TRAINING)


def job(count: int) -> Job:
    encoding = grid.plan(dimension=DIMENSION, clip_norm=1.0).to_json()
    encoded = plan.encode(
        plan.Plan(
            task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=encoding,
            outputs=(plan.Output(name="delta", length=DIMENSION, aggregated=True),),
        )
    )  # fmt: skip
    parameters = registry.get("mlp").init(0)
    return Job(plan=encoded, parameters=parameters, devices=np.arange(count), order_seed=5, noise_seed=bytes(32))


@pytest.fixture(scope="module")
def expected() -> Any:
    pool = WorkerPool(setup(), num_workers=1)
    updates = pool.run(job(120))
    pool.close()
    return updates


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "reading"


@pytest.fixture(scope="module")
def executor(note: Path) -> Iterator[RayExecutor]:
    """Two actors on a cluster of their own, as `tutti run --executor ray` has them."""
    try:
        made = RayExecutor(setup(Noted(note)), num_actors=2)
    except TuttiError as error:
        busy = os.getloadavg()[0] / len(os.sched_getaffinity(0))
        # Ray gives its own processes half a minute, whatever the machine; where it cannot start, our side of it has nothing to show.
        if error.code is ErrorCode.UNAVAILABLE and (busy > 3 or os.environ.get("TUTTI_RAY_MAY_BE_MISSING")):
            pytest.skip(f"Ray did not start on this machine (load {busy:.1f} a core): {error.detail}")
        raise
    yield made
    made.close()


def assert_equal(found: Any, expected: Any) -> None:
    assert np.array_equal(found.total, expected.total)
    assert found.count == 120
    assert np.array_equal(found.norms_squared, expected.norms_squared)
    for name in expected.metrics:
        assert np.array_equal(found.metrics[name], expected.metrics[name])


def test_two_actors_give_the_sum_of_one_local_worker(executor: RayExecutor, expected: Any) -> None:
    assert_equal(executor.run(job(120)), expected)


def test_each_actor_stays_on_a_core_of_its_own(executor: RayExecutor) -> None:
    allowed = [os.sched_getaffinity(process) for process in executor.process_ids]
    assert all(len(cores) == 1 for cores in allowed)
    assert len(set.union(*allowed)) == min(2, len(os.sched_getaffinity(0)))


def test_an_actor_killed_mid_round_changes_nothing_but_time(executor: RayExecutor, expected: Any, note: Path) -> None:
    note.unlink(missing_ok=True)
    stays, victim = executor.process_ids
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(executor.run(job(120))))
    thread.start()
    while not note.exists():
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    thread.join()
    assert executor.process_ids[0] == stays
    assert executor.process_ids[1] != victim
    assert_equal(results[0], expected)


def test_a_cluster_of_our_own_listens_on_the_loopback_device_only(executor: RayExecutor) -> None:
    del executor
    ours = set[str]()
    for process in descendants(os.getpid()):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                ours.add(descriptor.readlink().name)
    listening = [
        fields[1].rpartition(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in ours
    ]
    assert len(listening) >= 3
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_who_has_not_the_token_of_our_cluster_is_turned_away(executor: RayExecutor) -> None:
    with grpc.insecure_channel(executor._ray.get_runtime_context().gcs_address) as channel:
        alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        with pytest.raises(grpc.RpcError) as caught:
            alive(b"", timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = (("authorization", f"Bearer {os.environ['RAY_AUTH_TOKEN']}"),)
        assert isinstance(alive(b"", timeout=60, metadata=token), bytes)


def descendants(process: int) -> set[int]:
    parents = dict[int, list[int]]()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    found, waiting = set[int](), [process]
    while waiting:
        more = parents.get(waiting.pop(), [])
        found.update(more)
        waiting += more
    return found
