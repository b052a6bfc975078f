"""Seconds a round of the product's own main job takes: `tutti run` with its workers, noise, store, ledger and records, on the peers' work.

    python benchmarks/product_rounds.py [--work nwp mlp] [--rounds 12] [--workers N] [--cohort N]

prints one JSON list of rows: median seconds a round, processor seconds of the main process and of the workers, peak memory of the
whole tree of processes (shared pages once), and the share of the matrix peak, measured by pinned processes just before the run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import round_work
import stages
import train_rounds
from machine import machine

from client_sim import cores
from tutti import runs


@dataclass(slots=True)
class Watch:
    """Marks the end of each round, and what it cost until then."""

    marks: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])
    reported: list[int] = field(default_factory=list[int])
    workers: list[int] = field(default_factory=list[int])

    def started(self, *, committed: int, note: str) -> None:
        del committed, note
        self._mark()

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        self._mark()
        self.reported.append(int(facts["reported"]))

    def _mark(self) -> None:
        if len(self.marks) < 2:  # to look through all processes takes longer than some stages of a round
            self.workers = stages.children(os.getpid())
        workers = sum(stages.cpu_seconds(child) for child in self.workers)
        self.marks.append((time.perf_counter(), time.process_time(), workers))

    def rounds(self, warmup: int) -> list[tuple[float, float, float]]:
        """Wall, main and worker seconds of each round after `warmup`."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in pairs][warmup:]


class PeakMemory:
    """Peak memory of this process and those it started, sampled twice a second."""

    def __init__(self) -> None:
        self.mb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.mb = max(self.mb, stages.pss_mb([os.getpid(), *stages.children(os.getpid())]))

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return round(self.mb, 1)


def matrix_peak(workers: int) -> float:
    """GFLOP/s of `workers` pinned processes together: the best 2048 x 2048 float32 product of each, by its processor time."""
    script = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); import train_rounds; print(train_rounds.peak_gflops())"
    )
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent)])
    usable = cores.available()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(usable[place % len(usable)])],
            env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, text=True,
        )
        for place in range(workers)
    ]  # fmt: skip
    return sum(float(process.communicate()[0]) for process in started)


def measure(work: str, *, rounds: int, warmup: int, workers: int, cohort: int | None = None) -> dict[str, Any]:
    """One run in a fresh store. The peers' best is compared with the median round."""
    peak = matrix_peak(workers)
    spec, watch = round_work.spec(work, rounds + warmup, cohort=cohort), Watch()
    with tempfile.TemporaryDirectory() as folder:
        memory = PeakMemory()
        runs.run(spec, data=round_work.RoundWork(work), workers=workers, store=folder, seed=1, progress=watch)
        peak_mb = memory.stop()
    timed = watch.rounds(warmup)
    seconds = statistics.median(row[0] for row in timed)
    examples = statistics.mean(watch.reported[warmup:]) * float(round_work.sizes(work).mean())
    floor = round_work.gflop(work, examples) / peak
    worker_s = statistics.mean(row[2] for row in timed)
    return {
        "work": work,
        "ours": round(seconds, 4),
        "unit": "s/round",
        "against": "peak",
        "theirs": round(floor, 4),
        "ratio": round(seconds / floor, 3),
        "machine": machine(),
        "where": "tutti run",
        "workers": workers,
        "devices": round(statistics.mean(watch.reported[warmup:]), 1),
        "spread_s": [round(min(row[0] for row in timed), 4), round(max(row[0] for row in timed), 4)],
        "main_cpu_s": round(statistics.mean(row[1] for row in timed), 4),
        "worker_cpu_s": round(worker_s, 4),
        "share_of_peak": round(floor / seconds, 3),
        "share_of_peak_by_worker_cpu": round(floor * workers / worker_s, 3) if worker_s else None,
        "peak_pss_mb": peak_mb,
        "peak_gflops": round(peak, 1),
        "products": train_rounds.products(work),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=sorted(round_work.COHORTS), default=["nwp", "mlp"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(cores.available()))
    parser.add_argument("--cohort", type=int, default=None)
    arguments = parser.parse_args()
    rows = [
        measure(work, rounds=arguments.rounds, warmup=arguments.warmup, workers=arguments.workers, cohort=arguments.cohort)
        for work in arguments.work
    ]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
