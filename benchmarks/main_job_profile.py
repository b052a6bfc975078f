"""Where the main job's time goes: rounds of 100 devices of the published next-word model under DP-FTRL, with store, ledger and records.

    python benchmarks/main_job_profile.py --data irc_chat.jsonl.gz [--rounds 100] [--workers N]
    python benchmarks/main_job_profile.py --work mlp            the peers' work instead

Without --data it takes the synthetic keyboard. Prints one JSON object: for each stage of the main process its exclusive wall and
processor milliseconds a round, the processor time of the workers, and the share of orchestration, store and ledger together, by
processor time and by wall time (of what no training went on beside; with what did, too); then, from rounds trained in the main
process, what training itself consists of. The first rounds, in which programs are compiled, are left out.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import round_work
import stages
from machine import machine

from client_sim import local_work
from client_sim.data import open_loader
from client_sim.data.loader import Loader
from client_sim.encoding import GridEncoder
from client_sim.journal import FleetJournal
from client_sim.records import ParticipationRecords
from client_sim.simulator import FleetSimulator
from client_sim.workers import InMemoryExecutor, WorkerPool
from contract import task
from server.budgets import BudgetGuard
from server.leaf_noise import LeafNoise
from server.mechanisms import CentralMechanism
from server.observability import ObservedServer
from server.orchestrator import Orchestrator
from server.store.store import Store
from trainer import ServerOptimizer
from tutti import runs
from tutti.spending import Spending

STAGES: tuple[tuple[type, str, str], ...] = (
    (FleetSimulator, "_select", "fleet: check-ins"),
    (FleetSimulator, "_collect", "fleet: timing"),
    (FleetJournal, "save", "fleet: journal"),
    (ParticipationRecords, "write", "fleet: records on disk"),
    (WorkerPool, "begin", "training: orders"),
    (FleetSimulator, "_contribute", "training"),
    (InMemoryExecutor, "run", "training: the rest"),
    (LeafNoise, "added_to", "mechanism: noise"),
    (LeafNoise, "prepare", "mechanism: noise"),
    (CentralMechanism, "decode", "mechanism: decode"),
    (CentralMechanism, "event", "ledger: events"),
    (BudgetGuard, "check_round", "ledger: budget"),
    (ServerOptimizer, "update", "server optimiser"),
    (Orchestrator, "position", "orchestration"),
    (ObservedServer, "check_in", "orchestration"),
    (ObservedServer, "start", "orchestration"),
    (ObservedServer, "report", "orchestration"),
    (ObservedServer, "contribute", "orchestration"),
    (ObservedServer, "finish", "orchestration"),
    (ObservedServer, "settle", "orchestration"),
    (Store, "charge", "store and ledger: charge"),
    (Store, "commit_round", "store and ledger: commit"),
    (Store, "add_facts", "store: facts"),
    (Store, "run_state", "store: state"),
    (Spending, "now", "ledger: what was spent"),
)
INSIDE_TRAINING: tuple[tuple[type, str, str], ...] = (
    (local_work.LocalWork, "_examples", "training: reading, masking, featurising"),
    (GridEncoder, "rounded", "training: clip and round"),
    (GridEncoder, "may_be_summed", "training: check of the norm"),
)
COUNTED = ("orchestration", "store", "ledger")
MEANWHILE = ", while workers train"


class Watch:
    """Clears what was counted when the warm-up is over."""

    def __init__(self, found: stages.Stages, warmup: int) -> None:
        self._found, self._left = found, warmup
        self.wall_s = self.cpu_s = self.workers_s = 0.0
        self.rounds = 0

    def started(self, *, committed: int, note: str) -> None: ...

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        del facts
        self._left -= 1
        now = time.perf_counter(), time.process_time(), sum(map(stages.cpu_seconds, stages.children(os.getpid())))
        if self._left == 0:
            self._found.clear()
            self._began = now
        elif self._left < 0:
            self.rounds += 1
            self.wall_s, self.cpu_s, self.workers_s = (after - before for before, after in zip(self._began, now, strict=True))


def profile(
    job: tuple[task.TaskSpec, Loader], *, rounds: int, warmup: int, num_workers: int | None, found: stages.Stages
) -> dict[str, Any]:
    """One run in a fresh store."""
    spec, loader = job
    watch = Watch(found, warmup)
    found.clear()
    with tempfile.TemporaryDirectory() as folder:
        spec = task.replace(spec, rounds=rounds + warmup)
        runs.run(spec, data=loader, workers=num_workers, store=folder, seed=1, progress=watch)
    cpu_s = watch.cpu_s + watch.workers_s
    rows = [
        {
            "stage": name,
            "wall_ms": round(1e3 * stage.wall_s / watch.rounds, 2),
            "cpu_ms": round(1e3 * stage.cpu_s / watch.rounds, 2),
            "calls": round(stage.calls / watch.rounds, 1),
        }
        for name, stage in sorted(found.found.items(), key=lambda item: -item[1].wall_s)
    ]
    counted = [row for row in rows if str(row["stage"]).startswith(COUNTED)]
    alone = [row for row in counted if not str(row["stage"]).endswith(MEANWHILE)]
    return {
        "rounds": watch.rounds,
        "s_per_round": round(watch.wall_s / watch.rounds, 4),
        "main_cpu_s": round(watch.cpu_s / watch.rounds, 4),
        "workers_cpu_s": round(watch.workers_s / watch.rounds, 4),
        "orchestration_store_ledger": {
            "share_of_cpu": round(sum(row["cpu_ms"] for row in counted) * watch.rounds / 1e3 / cpu_s, 4),
            "share_of_wall": round(sum(row["wall_ms"] for row in alone) * watch.rounds / 1e3 / watch.wall_s, 4),
            "share_of_wall_with_meanwhile": round(
                sum(row["wall_ms"] for row in counted) * watch.rounds / 1e3 / watch.wall_s, 4
            ),
        },
        "stages": rows,
    }


def job_of(data: str | None, work: str | None, cohort: int | None) -> tuple[task.TaskSpec, Loader]:
    """The published task, on chat if there is a file; or one of the compared works."""
    if work is not None:
        return round_work.spec(work, 1, cohort=cohort), round_work.RoundWork(work)
    spec = task.read(Path(__file__).parents[1] / "deploy" / "tasks" / "next_word.yaml")
    if data is not None:
        spec = task.replace(
            spec,
            data={"source": data},
            cohort={"minimum_separation": 20, "max_participations": 4},
            deadlines={"selection_s": 7200},
        )
    return spec, round_work.TrainingOnly(open_loader(spec.data, model=spec.model.name))


def main() -> None:
    """Prints the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None)
    parser.add_argument("--work", choices=sorted(round_work.COHORTS), default=None)
    parser.add_argument("--cohort", type=int, default=None, help="devices a round, of --work")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--inside-rounds", type=int, default=5)
    arguments = parser.parse_args()
    job, found = job_of(arguments.data, arguments.work, arguments.cohort), stages.Stages()
    for owner, method, name in STAGES:
        found.wrap(owner, method, name)
    found.name_aside(WorkerPool, "begin", MEANWHILE, after=True)
    found.name_aside(FleetSimulator, "_contribute", "")
    report = {"machine": machine(), "load": round(os.getloadavg()[0], 2)}
    whole = profile(job, rounds=arguments.rounds, warmup=arguments.warmup, num_workers=arguments.workers, found=found)
    for owner, method, name in INSIDE_TRAINING:
        found.wrap(owner, method, name)
    inside = profile(job, rounds=arguments.inside_rounds, warmup=arguments.warmup, num_workers=0, found=found)
    training = [row for row in inside["stages"] if str(row["stage"]).startswith("training")]
    print(json.dumps({**report, **whole, "inside_training": training, "inside_rounds": inside["rounds"]}, indent=1))


if __name__ == "__main__":
    main()
