"""Seconds a round with one and with two of Ray's actors, beside as many local workers; each on a core of its own.

    python benchmarks/ray_actors.py [--work nwp] [--cohort 100] [--rounds 3]

needs the extra `ray`. The work is the compared round's with a cohort of which each of two actors gets fifty devices. Prints one JSON
object: seconds and the workers' processor seconds a round, the digest of all sums, how much faster two are than one, and a row as in
`results/latest.json`: `ours` is the round with two actors, `theirs` half the time of one.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import results_file
import round_work
import stages
from machine import machine

from client_sim import ray_cluster
from client_sim.executor import Job
from client_sim.local_work import WorkSetup
from client_sim.ray_executor import RayExecutor
from client_sim.workers import WorkerPool
from contract import plan
from contract.task import TrainingSpec
from privacy import grid
from trainer.models import registry

COUNTS = (1, 2)


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


@dataclass(slots=True)
class Runner:
    """An executor, and what its rounds took."""

    executor: RayExecutor | WorkerPool
    digest: Any = field(default_factory=hashlib.sha256)
    seconds: list[float] = field(default_factory=list[float])
    busy: list[list[float]] = field(default_factory=list[list[float]])

    def play(self, job: Job) -> None:
        """One round more."""
        processes = self.executor.process_ids
        start, before = time.perf_counter(), [stages.cpu_seconds(process) for process in processes]
        self.digest.update(self.executor.run(job).total.tobytes())
        self.seconds.append(time.perf_counter() - start)
        self.busy.append([stages.cpu_seconds(process) - then for process, then in zip(processes, before, strict=True)])

    def found(self) -> dict[str, Any]:
        """The rounds after the first, in which programs are compiled or loaded."""
        return {
            "s_per_round": round(statistics.median(self.seconds[1:]), 4),
            "spread_s": [round(min(self.seconds[1:]), 4), round(max(self.seconds[1:]), 4)],
            "worker_cpu_s": round(statistics.median(map(sum, self.busy[1:])), 4),
            "busiest_worker_cpu_s": round(statistics.median(map(max, self.busy[1:])), 4),
            "digest": self.digest.hexdigest()[:16],
        }


def compare(work: str, cohort: int, rounds: int) -> dict[str, Runner]:
    """Ray's actors and local workers in turns on the same rounds, so that they have the same neighbours."""
    ray = ray_cluster.load(own=True)
    ray_cluster.open_here(ray, sum(COUNTS))
    ours, runners = setup(work), dict[str, Runner]()
    try:
        for count in COUNTS:
            runners[f"ray, {count}"] = Runner(RayExecutor(ours, num_actors=count))
            runners[f"processes, {count}"] = Runner(WorkerPool(ours, num_workers=count))
        for job in jobs(work, cohort, rounds + 1):
            for runner in runners.values():
                runner.play(job)
    finally:
        for runner in runners.values():
            runner.executor.close()
        ray.shutdown()
    return runners


def speedup(runners: Mapping[str, Runner], kind: str) -> dict[str, float]:
    """How much faster two are than one, as medians over the rounds: by the clock, and by the processor seconds of the busiest worker,
    which neighbours on the machine hardly move.
    """
    one, two = (runners[f"{kind}, {count}"] for count in COUNTS)
    by_clock = [a / b for a, b in zip(one.seconds[1:], two.seconds[1:], strict=True)]
    by_processor = [max(a) / max(b) for a, b in zip(one.busy[1:], two.busy[1:], strict=True)]
    return {"by_clock": round(statistics.median(by_clock), 3), "by_processor": round(statistics.median(by_processor), 3)}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=sorted(round_work.COHORTS), default="nwp")
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    runners = compare(arguments.work, arguments.cohort, arguments.rounds)
    found = {name: runner.found() for name, runner in runners.items()}
    one, two = (found[f"ray, {count}"]["s_per_round"] for count in COUNTS)
    report = {
        "machine": machine(),
        "work": f"{arguments.work}, {arguments.cohort} devices",
        "found": found,
        "one_digest": len({runner.digest.hexdigest() for runner in runners.values()}) == 1,
        "speedup": {kind: speedup(runners, kind) for kind in ("ray", "processes")},
        "load": round(os.getloadavg()[0], 2),
        "row": results_file.row(
            f"{arguments.work}, two Ray actors", two, "s/round", "half of one actor", one / 2, machine=machine()
        ),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
