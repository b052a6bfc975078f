import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from client_sim.data import SyntheticText
from client_sim.executor import Job
from client_sim.local_work import WorkSetup
from client_sim.splitting import pieces
from client_sim.work_queue import MOST_PIECES, WorkQueue, taken
from client_sim.workers import WorkerPool
from contract import plan
from contract.task import TrainingSpec
from privacy import grid
from trainer.models import registry

MODEL = "next_word_small"
LOADER = SyntheticText(num_devices=40, seed=3, num_held_out=1)
TRAINING = TrainingSpec(batch_size=4, max_examples=8, learning_rate=0.1)


def job(devices: list[int], model: str = MODEL) -> Job:
    parameters = registry.get(model).init(0)
    encoding = grid.plan(dimension=len(parameters), clip_norm=1.0).to_json()
    output = plan.Output(name="delta", length=len(parameters), aggregated=True)
    told = plan.Plan(task={}, run="r", round_index=0, leaf=0, model_digest="", encoding=encoding, outputs=(output,))
    return Job(plan=plan.encode(told), parameters=parameters, devices=np.array(devices), order_seed=5, noise_seed=bytes(32))


def everything_from(descriptor: int) -> list[int]:
    return list(taken(descriptor))


def test_a_piece_is_taken_by_one_of_many() -> None:
    queue = WorkQueue()
    queue.fill(list(range(MOST_PIECES)))
    with ThreadPoolExecutor(max_workers=4) as readers:
        found = list(readers.map(everything_from, [queue.descriptor] * 4))
    assert sorted(chain.from_iterable(found)) == list(range(MOST_PIECES))
    queue.close()


def test_what_was_left_of_a_round_is_not_work_of_the_next() -> None:
    queue = WorkQueue()
    queue.fill([7, 8, 9])
    assert next(taken(queue.descriptor)) == 7
    queue.fill([3])
    assert list(taken(queue.descriptor)) == [3]
    with pytest.raises(ValueError, match=f"at most {MOST_PIECES} pieces of work, not {MOST_PIECES + 1}"):
        queue.fill(list(range(MOST_PIECES + 1)))
    queue.close()


def test_pieces_are_all_rows_once_and_the_largest_come_first() -> None:
    setup = WorkSetup(loader=LOADER, model=MODEL, training=TRAINING)
    found = pieces(setup, job(list(range(40))), most=100)
    rows = np.concatenate(found)
    assert [len(piece) for piece in found] == [1] * 40
    assert sorted(rows.tolist()) == list(range(40))
    loads = np.minimum(LOADER.num_examples(rows), 8)
    assert (np.diff(loads) <= 0).all()
    assert sorted(len(piece) for piece in pieces(setup, job(list(range(40))), most=16)) == [2] * 8 + [3] * 8
    assert pieces(setup, job([]), most=16) == []


def test_a_worker_that_dies_over_its_piece_is_replaced_and_no_device_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loader_that_kills_once_for_test.py").write_text(
        "import os, pathlib, signal\n"
        "from client_sim.data import SyntheticText\n"
        "class KillsOnce(SyntheticText):\n"
        "    def examples(self, index):\n"
        "        mark = pathlib.Path(os.environ['MARK_FOR_TEST'])\n"
        "        if index == 13 and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().examples(index)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("MARK_FOR_TEST", str(tmp_path / "killed"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    loader = importlib.import_module("loader_that_kills_once_for_test").KillsOnce(num_devices=40, seed=3, num_held_out=1)
    pool = WorkerPool(WorkSetup(loader=loader, model=MODEL, training=TRAINING), num_workers=2)
    before = pool.process_ids
    killed = pool.run(job(list(range(20))))
    assert (tmp_path / "killed").exists()
    assert sum(old != new for old, new in zip(before, pool.process_ids, strict=True)) == 1
    again = pool.run(job(list(range(20))[::-1]))
    pool.close()
    assert killed.count == again.count == 20
    assert np.array_equal(killed.total, again.total)
    for name, values in killed.metrics.items():
        assert np.array_equal(values, again.metrics[name][::-1])
    assert np.array_equal(killed.norms_squared, again.norms_squared[::-1])


def test_a_job_that_nobody_waited_for_is_not_taken_for_the_next() -> None:
    pool = WorkerPool(WorkSetup(loader=LOADER, model=MODEL, training=TRAINING), num_workers=2)
    wait = pool.begin(job([1, 2, 3]))
    for again in (lambda: pool.run(job([4])), lambda: pool.begin_secure(job([4]), bytes(32))):
        with pytest.raises(ValueError, match="still at a job that nobody waited for"):
            again()
    assert wait().count == 3
    assert pool.run(job([4])).count == 1
    pool.close()
