"""How a job is split over workers, and what they answer put together again: the same for processes and for Ray's actors."""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client_sim.executor import Job, Updates
from client_sim.local_work import WorkSetup
from client_sim.worker_messages import Done

MOST_STARTS = 3
"""How often the same share of a job is tried before the job is given up."""


def pieces(setup: WorkSetup, job: Job, *, most: int) -> list[npt.NDArray[np.int64]]:
    """Rows of the job to be taken one piece after another, at most `most` pieces: the largest first, so that all end together."""
    rows = np.argsort(-_load(setup, job), kind="stable")
    return list(np.array_split(rows, min(most, len(rows)))) if len(rows) else []


def _load(setup: WorkSetup, job: Job) -> npt.NDArray[np.int64]:
    return np.minimum(setup.caches.num_examples(job.devices, job.at_s), setup.training.max_examples) + 1


def shares(setup: WorkSetup, job: Job, count: int) -> list[npt.NDArray[np.int64]]:
    """Rows of the job for each of `count` workers, so that all have about as many examples.

    Integers add up to the same sum whoever adds them, so the split is free to follow the load.
    """
    load = _load(setup, job)
    if not len(load) or load.min() == load.max():  # all alike: in turn, as below
        return [np.arange(worker, len(load), count) for worker in range(count)]
    rows, loads = np.argsort(-load, kind="stable").tolist(), load.tolist()
    finish = [(0, worker) for worker in range(count)]  # a heap: who has the least comes first
    share: list[list[int]] = [[] for _ in range(count)]
    for row in rows:
        least, worker = finish[0]
        share[worker].append(row)
        heapq.heapreplace(finish, (least + loads[row], worker))
    return [np.array(sorted(own), np.int64) for own in share]


def merged(
    job: Job, split: Sequence[npt.NDArray[np.int64]], answers: Sequence[Done | None], total: npt.NDArray[np.int64]
) -> Updates:
    """What the workers measured, in the order of the job's devices, with the sum of their sums."""
    count = len(job.devices)
    metrics: dict[str, npt.NDArray[np.float64]] = {}
    norms = np.zeros(count, np.int64)
    for share, answer in zip(split, answers, strict=True):
        if answer is not None:
            norms[share] = answer.norms_squared
            for name, values in answer.metrics.items():
                metrics.setdefault(name, np.zeros(count))[share] = values
    return Updates(total=total, count=count, metrics=metrics, norms_squared=norms)
