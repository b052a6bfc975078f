"""Ray's actors: the same sums as local workers, also when one is lost."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from client_sim.ray_executor import RayExecutor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a busy machine may take minutes to start Ray's processes
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]
DIMENSION = registry.get("mlp").num_parameters
TRAINING = TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1)
LOADER = SyntheticFeatures(num_devices=160, seed=3, num_held_out=1)


class Slow:
    """Devices whose examples take a while to read, and a note that reading has begun."""

    digest = "0" * 64
    num_devices = 160

    def __init__(self, note: Path) -> None:
        self._note = note

    def num_examples(self, devices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return LOADER.num_examples(devices)

    def examples(self, index: int) -> Sequence[Any]:
        self._note.touch()
        time.sleep(0.01)
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


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    for name in ("RAY_agent_register_timeout_ms", "RAY_raylet_start_wait_time_s"):  # a busy machine is slow to start its agents
        os.environ.setdefault(name, "300000" if name.endswith("ms") else "300")
    environment = {"env_vars": {"PYTHONPATH": paths}}
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def test_two_actors_give_the_sum_of_one_local_worker(expected: Any) -> None:
    executor = RayExecutor(setup(), num_actors=2)
    found = executor.run(job(120))
    executor.close()
    assert np.array_equal(found.total, expected.total)
    assert found.count == 120
    assert np.array_equal(found.norms_squared, expected.norms_squared)
    for name in expected.metrics:
        assert np.array_equal(found.metrics[name], expected.metrics[name])


def test_an_actor_killed_mid_round_changes_nothing_but_time(expected: Any, tmp_path: Path) -> None:
    note = tmp_path / "reading"
    executor = RayExecutor(setup(Slow(note)), num_actors=2)
    victim = executor.process_ids[1]
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(executor.run(job(120))))
    thread.start()
    while not note.exists():
        time.sleep(0.01)
    os.kill(victim, signal.SIGKILL)
    thread.join()
    assert executor.process_ids[1] != victim
    executor.close()
    assert np.array_equal(results[0].total, expected.total)
    assert results[0].count == 120


def test_an_actor_has_at_least_fifty_devices_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = RayExecutor(setup(), num_actors=2)
    shares: list[int] = []
    order = executor._order

    def counted(place: int, parameters: Any, job: Job, share: npt.NDArray[np.int64]) -> Any:
        shares.append(len(share))
        return order(place, parameters, job, share)

    monkeypatch.setattr(executor, "_order", counted)
    executor.run(job(60))
    executor.run(job(100))
    executor.close()
    assert shares[0] == 60
    assert len(shares) == 3


def test_secure_aggregation_stays_with_local_workers() -> None:
    executor = RayExecutor(setup(), num_actors=1)
    with pytest.raises(TuttiError) as caught:
        executor.begin_secure(job(3), bytes(32))
    executor.close()
    assert caught.value.code is ErrorCode.MECHANISM_UNSUPPORTED
