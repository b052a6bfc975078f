import hashlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client_sim import cores
from client_sim.data import Loader, SyntheticFeatures
from client_sim.executor import Job
from client_sim.local_work import LocalWork, WorkSetup, add_up
from client_sim.update_rounding import device_entropy
from client_sim.workers import InMemoryExecutor, WorkerPool, can_be_sent, open_executor
from contract import plan
from contract.errors import ErrorCode, TuttiError
from contract.task import TrainingSpec, parse_mapping
from privacy import ddg, grid
from trainer.models import registry

LOADER = SyntheticFeatures(num_devices=40, seed=3, num_held_out=1)
SETUP = WorkSetup(loader=LOADER, model="mlp", training=TrainingSpec(batch_size=10, max_examples=20, learning_rate=0.1))
DIMENSION = registry.get("mlp").num_parameters


class Broken:
    """A loader whose device 3 has an example that is none."""

    num_devices = 5
    digest = "0" * 64

    def examples(self, index: int) -> list[dict[str, object]]:
        return [{"x": np.zeros(784, np.float32), "y": 999 if index == 3 else 0}]

    def held_out(self) -> Iterator[list[dict[str, object]]]:
        return iter(())


def plan_bytes(round_index: int = 0, clip_norm: float = 1.0) -> bytes:
    encoding = grid.plan(dimension=DIMENSION, clip_norm=clip_norm).to_json()
    return plan.encode(
        plan.Plan(
            task={}, run="r", round_index=round_index, leaf=round_index, model_digest="", encoding=encoding,
            outputs=(plan.Output(name="delta", length=DIMENSION, aggregated=True),),
        )
    )  # fmt: skip


def job(devices: list[int], *, round_index: int = 0, seed: bytes | None = bytes(32)) -> Job:
    return Job(
        plan=plan_bytes(round_index),
        parameters=registry.get("mlp").init(0),
        devices=np.array(devices, np.int64),
        order_seed=5,
        noise_seed=seed,
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(SETUP, num_workers=2)
    yield made
    made.close()


def test_one_worker_and_two_give_the_same_sum_bit_for_bit(pool: WorkerPool) -> None:
    single = WorkerPool(SETUP, num_workers=1)
    devices = list(range(17))
    one, two = single.run(job(devices)), pool.run(job(devices))
    shuffled = pool.run(job(devices[::-1]))
    single.close()
    assert np.array_equal(one.total, two.total)
    assert np.array_equal(one.total, shuffled.total)
    assert one.metrics.keys() == two.metrics.keys()
    for name in one.metrics:
        assert np.array_equal(one.metrics[name], two.metrics[name])
        assert np.array_equal(one.metrics[name][::-1], shuffled.metrics[name])
    assert np.array_equal(one.norms_squared, two.norms_squared)
    assert one.count == 17


@pytest.mark.slow
def test_this_process_pinned_gives_the_sum_of_the_workers(pool: WorkerPool) -> None:
    """In a process of its own: what an earlier test did with JAX here cannot matter there."""
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_worker_pool as t; "
        "total = t.InMemoryExecutor(t.SETUP).run(t.job(list(range(9)))).total; print(hashlib.sha256(total.tobytes()).hexdigest())"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - as the test finds itself
    ran = subprocess.run(
        [sys.executable, "-c", program, os.path.dirname(__file__)],  # noqa: PTH120
        capture_output=True, text=True, check=True, cwd=root, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": root},
    )  # fmt: skip
    assert ran.stdout.strip() == hashlib.sha256(pool.run(job(list(range(9)))).total.tobytes()).hexdigest()


def test_a_round_is_repeatable_with_a_noise_seed_and_fresh_without(pool: WorkerPool) -> None:
    assert np.array_equal(pool.run(job([1, 2, 3])).total, pool.run(job([1, 2, 3])).total)
    assert not np.array_equal(pool.run(job([1, 2, 3], seed=None)).total, pool.run(job([1, 2, 3], seed=None)).total)
    assert not np.array_equal(pool.run(job([1, 2, 3])).total, pool.run(job([1, 2, 3], round_index=1)).total)


def test_every_update_is_within_the_norm_and_the_sum_is_of_exactly_these(pool: WorkerPool) -> None:
    grid_of = grid.plan(dimension=DIMENSION, clip_norm=1.0)
    together = pool.run(job([4, 9, 30]))
    apart = [pool.run(job([device])) for device in (4, 9, 30)]
    assert np.array_equal(together.total, sum(part.total for part in apart))
    assert (together.norms_squared <= grid_of.norm_bound_squared).all()
    assert together.metrics["examples"].tolist() == np.minimum(LOADER.num_examples(np.array([4, 9, 30])), 20).tolist()


def test_a_killed_worker_is_replaced_and_no_device_counts_twice(pool: WorkerPool) -> None:
    before = pool.run(job(list(range(12))))
    os.kill(pool.process_ids[0], signal.SIGKILL)
    after = pool.run(job(list(range(12))))
    again = pool.run(job(list(range(12))))
    assert after.count == 12
    assert np.array_equal(before.total, after.total)
    assert np.array_equal(before.total, again.total)


@pytest.mark.slow
def test_work_that_kills_its_worker_every_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly_loader_for_test.py").write_text(
        "import os, signal\n"
        "from client_sim.data import SyntheticFeatures\n"
        "class Deadly(SyntheticFeatures):\n"
        "    def examples(self, index):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    deadly = importlib.import_module("deadly_loader_for_test").Deadly(num_devices=5, seed=0)
    pool = WorkerPool(WorkSetup(loader=deadly, model="mlp", training=TrainingSpec()), num_workers=1)
    with pytest.raises(TuttiError, match="died 3 times at the same work") as caught:
        pool.run(job([3]))
    assert caught.value.code is ErrorCode.INTERNAL
    pool.close()


def test_an_empty_share_costs_nothing(pool: WorkerPool) -> None:
    assert pool.run(job([7])).count == 1
    assert not pool.run(job([])).total.any()


def test_examples_that_the_model_cannot_read_name_their_device() -> None:
    executor = InMemoryExecutor(WorkSetup(loader=Broken(), model="mlp", training=TrainingSpec()))
    with pytest.raises(TuttiError, match="device 3: mlp cannot read its examples") as caught:
        executor.run(job([0, 3]))
    assert caught.value.code is ErrorCode.DATA_INVALID


def test_an_update_that_is_no_number_contributes_nothing() -> None:
    wild = WorkSetup(loader=LOADER, model="mlp", training=TrainingSpec(learning_rate=1e30, epochs=4))
    total = np.ones(DIMENSION, np.int64)
    updates = add_up(LocalWork(wild), job([0, 1]), total)
    assert updates.metrics["diverged"].tolist() == [1.0, 1.0]
    assert not total.any()


def test_what_must_not_be_seen_is_masked_before_training() -> None:
    class Typist(Broken):
        def examples(self, index: int) -> list[dict[str, object]]:
            rows: list[dict[str, object]] = [{"text": "my card is 4111 1111 1111 1111 ok"}, {"text": "see you tomorrow"}]
            return rows[: 2 - index]

    setup = WorkSetup(loader=Typist(), model="next_word_small", training=TrainingSpec())
    dimension = registry.get("next_word_small").num_parameters
    encoding = grid.plan(dimension=dimension, clip_norm=1.0).to_json()
    outputs = (plan.Output(name="delta", length=dimension, aggregated=True),)
    text = plan.encode(plan.Plan(task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=encoding, outputs=outputs))
    parameters = registry.get("next_word_small").init(0)
    updates = add_up(
        LocalWork(setup),
        Job(plan=text, parameters=parameters, devices=np.arange(3), order_seed=1),
        np.zeros(dimension, np.int64),
    )
    assert updates.metrics["masked_card"].tolist() == [1.0, 1.0, 0.0]
    assert updates.metrics["kept"].tolist() == [2.0, 1.0, 0.0]
    assert updates.norms_squared[2] == 0


def test_distributed_encodings_are_summed_as_they_are(pool: WorkerPool) -> None:
    chosen = ddg.plan(dimension=DIMENSION, clip_norm=1.0, noise_multiplier=0.5, devices=6, minimum_survivors=6)
    outputs = (plan.Output(name="delta", length=chosen.padded_dimension, aggregated=True),)
    told = plan.Plan(task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=chosen.to_json(), outputs=outputs)
    text, parameters = plan.encode(told), registry.get("mlp").init(0)
    distributed = Job(plan=text, parameters=parameters, devices=np.arange(6), order_seed=5, noise_seed=bytes(32))
    summed = pool.run(distributed)
    apart = sum(update.vector.astype(np.int64) for update in LocalWork(SETUP).updates(distributed))
    assert summed.total.shape == (chosen.padded_dimension,)
    plain = chosen.decode(summed.total, 6, plan.rotation_seed(told))
    assert (
        np.linalg.norm(plain - chosen.decode(np.asarray(apart), 6, plan.rotation_seed(told))) < 1.0
    )  # other cores, other last bits
    central = grid.plan(dimension=DIMENSION, clip_norm=1.0).decode(pool.run(job(list(range(6)))).total)
    noise = 0.5 * np.sqrt(DIMENSION)
    assert np.linalg.norm(plain - central) == pytest.approx(noise, rel=0.05)
    assert pool.run(job([1])).total.shape == (DIMENSION,)


def test_a_plan_of_another_kind_is_refused(pool: WorkerPool) -> None:
    unknown = Job(
        plan=plan_bytes().replace(b'"grid"', b'"heap"'),
        parameters=registry.get("mlp").init(0),
        devices=np.array([1]),
        order_seed=1,
    )
    with pytest.raises(ValueError, match="knows no encoding of kind 'heap'"):
        pool.run(unknown)


def test_a_loader_that_cannot_be_sent_trains_here() -> None:
    class Local(Broken):
        pass

    spec = parse_mapping({"population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": 4}, "rounds": 2})
    loader: Loader = Local()
    assert not can_be_sent(loader)
    assert isinstance(open_executor(spec, loader), InMemoryExecutor)
    with pytest.raises(TuttiError, match="cannot be sent"):
        open_executor(spec, loader, workers=2)


def test_entropy_is_the_systems_own_unless_seeded() -> None:
    assert device_entropy(None, 0, 0)(32) != device_entropy(None, 0, 0)(32)
    assert device_entropy(bytes(32), 0, 1)(32) == device_entropy(bytes(32), 0, 1)(32)
    assert device_entropy(bytes(32), 0, 1)(32) != device_entropy(bytes(32), 1, 0)(32)


def test_pinning_is_undone() -> None:
    before = cores.available()
    with cores.pinned(before[-1]):
        assert cores.available() == before[-1:]
    assert cores.available() == before
