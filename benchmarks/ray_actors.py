"""Seconds a round with one and with two of Ray's actors, beside as many local workers; each on a core of its own.

    python benchmarks/ray_actors.py [--work nwp] [--cohort 100] [--rounds 4] [--actors 1 2]

needs the extra `ray`. The work is the compared round's with a cohort of which each of two actors gets fifty devices. Prints one JSON
object: seconds and the workers' processor seconds a round, the digest of the sum, how much faster two are than one, and one row for
`results/latest.json`: `ours` is the round with two actors, `theirs` half the time of one. Processor seconds tell what wall seconds do
not on a machine that others use.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import results_file
import round_work
import stages
from machine import machine

from client_sim.executor import Executor, Job
from client_sim.local_work import WorkSetup
from client_sim.ray_executor import RayExecutor
from client_sim.workers import WorkerPool
from contract import plan
from contract.task import TrainingSpec
from privacy import grid
from trainer.models import registry


def setup(work: str) -> WorkSetup:
    """The product's main job in a worker."""
    spec = round_work.spec(work, 1)
    training = TrainingSpec(
        batch_size=spec.training.batch_size, learning_rate=spec.training.learning_rate, max_examples=spec.training.max_examples
    )
    return WorkSetup(loader=round_work.RoundWork(work), model=spec.model.name, training=training)


def jobs(work: str, cohort: int, rounds: int) -> list[Job]:
    """One for each round, with noise seeds, so that every executor must give the same sums."""
    model = registry.get(round_work.spec(work, 1).model.name)
    encoding = grid.plan(dimension=model.num_parameters, clip_norm=1.0).to_json()
    output = plan.Output(name="delta", length=model.num_parameters, aggregated=True)
    parameters, found = model.init(0), list[Job]()
    for number in range(rounds):
        facts: dict[str, Any] = {"task": {}, "run": "r", "round_index": number, "leaf": number, "model_digest": ""}
        encoded = plan.encode(plan.Plan(**facts, encoding=encoding, outputs=(output,)))
        devices = np.arange(number * cohort, (number + 1) * cohort)
        found.append(Job(plan=encoded, parameters=parameters, devices=devices, order_seed=5, noise_seed=bytes(32)))
    return found


def measure(executor: Executor, processes: Sequence[int], jobs: Sequence[Job]) -> dict[str, Any]:
    """The rounds after the first, in which programs are compiled or loaded."""
    digest, seconds, busy = hashlib.sha256(), list[float](), list[float]()
    for job in jobs:
        start, before = time.perf_counter(), sum(map(stages.cpu_seconds, processes))
        digest.update(executor.run(job).total.tobytes())
        seconds.append(time.perf_counter() - start)
        busy.append(sum(map(stages.cpu_seconds, processes)) - before)
    return {
        "s_per_round": round(statistics.median(seconds[1:]), 4),
        "best_s": round(min(seconds[1:]), 4),
        "worker_cpu_s": round(statistics.median(busy[1:]), 4),
        "digest": digest.hexdigest()[:16],
    }


def compare(work: str, cohort: int, rounds: int, actors: Sequence[int]) -> dict[str, Any]:
    """Ray's actors and local workers, one after another, on the same rounds."""
    todo, found = jobs(work, cohort, rounds + 1), dict[str, Any]()
    for name, kind in (("ray", RayExecutor), ("processes", WorkerPool)):
        for count in actors:
            executor = (
                RayExecutor(setup(work), num_actors=count)
                if kind is RayExecutor
                else WorkerPool(setup(work), num_workers=count)
            )
            try:
                found[f"{name}, {count}"] = measure(executor, executor.process_ids, todo)
            finally:
                executor.close()
    return found


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=sorted(round_work.COHORTS), default="nwp")
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--actors", type=int, nargs=2, default=[1, 2])
    arguments = parser.parse_args()
    found = compare(arguments.work, arguments.cohort, arguments.rounds, arguments.actors)
    few, many = (found[f"ray, {count}"]["s_per_round"] for count in arguments.actors)
    times = arguments.actors[1] / arguments.actors[0]
    report = {
        "machine": machine(),
        "work": f"{arguments.work}, {arguments.cohort} devices",
        "found": found,
        "one_digest": len({one["digest"] for one in found.values()}) == 1,
        "speedup": round(few / many, 3),
        "load": round(os.getloadavg()[0], 2),
        "row": results_file.row(
            f"{arguments.work}, Ray's actors", many, "s/round", "half of one actor", few / times, machine=machine()
        ),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
