"""Orchestration at production scale under virtual time, training stubbed: rounds of 6,500 devices out of millions.

The real round machine, store and ledger; a real fleet with conditions, dropouts, records and the oracle; only the updates are zeros.
The once-a-day rule is a separation of 313 rounds, as in the published system.

    python benchmarks/fleet_orchestration.py [--rounds 2000] [--devices 5000000] [--goal 6500]

prints one JSON object: seconds, CPU seconds (which neighbours hardly move), seconds a round,
virtual days, session shapes, and what the oracle saw.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from client_sim.executor import Job, Updates
from client_sim.oracle import ParticipationOracle
from client_sim.population import make_population
from client_sim.records import ParticipationRecords
from client_sim.simulator import FleetOptions, FleetSimulator, wake_interval
from client_sim.timing import effort_of
from contract import task
from server import registration, tasks
from server.orchestrator import Orchestrator
from server.pace import PaceSteering
from server.registration import RunSettings
from tutti import stores

SEPARATION = 313


class ZeroUpdates:
    """Every device's update is 0; the sum is exact."""

    def __init__(self, dimension: int) -> None:
        self._total = np.zeros(dimension, np.int64)

    def run(self, job: Job) -> Updates:
        count = len(job.devices)
        return Updates(total=self._total, count=count, metrics={}, norms_squared=np.zeros(count, np.int64))

    def close(self) -> None:
        """Nothing to end."""


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--devices", type=int, default=5_000_000)
    parser.add_argument("--goal", type=int, default=6500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measure(arguments, directory)))


def measure(arguments: argparse.Namespace, directory: str) -> dict[str, Any]:
    """One run in a fresh store."""
    spec = task.parse_mapping(
        {
            "population": "benchmark",
            "model": {"name": "mlp"},
            "cohort": {"report_goal": arguments.goal, "minimum_separation": SEPARATION},
            "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-10},
            "rounds": arguments.rounds,
        }
    )
    prepared = tasks.prepare(spec)
    target, selection_s = round(1.3 * arguments.goal), spec.deadlines.selection_s
    with stores.opened(directory) as (database, keys):
        run = registration.register(
            store=database,
            keys=keys,
            prepared=prepared,
            settings=RunSettings(seed=1),
            not_covered=[],
            start=prepared.model.init(0),
        )
        orchestrator = Orchestrator(
            store=database,
            run=run,
            mechanism=prepared.mechanism,
            optimizer=prepared.optimizer,
            key=registration.key_of(keys, run),
            pace=PaceSteering(devices=arguments.devices, cohort=target, round_s=selection_s),
        )
        oracle = ParticipationOracle(num_devices=arguments.devices, minimum_separation=SEPARATION, max_participations=None)
        fleet = FleetSimulator(
            server=orchestrator,
            population=make_population(arguments.devices, 1),
            records=ParticipationRecords(num_devices=arguments.devices),
            num_examples=lambda devices, _: np.full(len(devices), 20),
            executor=ZeroUpdates(prepared.model.num_parameters),
            options=FleetOptions(
                seed=1,
                effort=effort_of(1_412_250),
                wake_interval_s=wake_interval(arguments.devices, cohort_target=target, selection_s=selection_s),
            ),
            oracle=oracle,
        )
        shapes, began, cpu_began, devices = Counter[str](), time.perf_counter(), time.process_time(), 0
        for trace in fleet.rounds():
            shapes.update(trace.shapes)
            devices += trace.accepted
    seconds = time.perf_counter() - began
    return {
        "work": "orchestration",
        "ours": seconds / arguments.rounds,
        "unit": "s/round",
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu_began,
        "rounds": arguments.rounds,
        "devices_taken": devices,
        "virtual_days": fleet.now_s / 86_400,
        "shapes": dict(shapes),
        "violations": oracle.num_violations,
        "smallest_separation": oracle.smallest_separation,
        "most_participations": oracle.most_participations,
        "evidence": oracle.evidence,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
