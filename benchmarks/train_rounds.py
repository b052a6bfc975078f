"""Seconds a round of local training takes, with one and with two pinned processes, against the matrix peak of the same cores.

The work is that of the peers' comparison: `nwp`, 32 devices with 16 to 32 sentences of 20 tokens, batches of 16; `mlp`, 100
devices with 20 examples of 784 features, batches of 10; one epoch of SGD; then the mean update is applied. Peak and rounds are
measured by the same processes in the same run, since only their ratio can be compared between machines.

    python benchmarks/train_rounds.py [--rounds N] [--work nwp mlp] [--processes 1 2]

prints one JSON list of rows {work, ours, unit, against, theirs, ratio, ...}; `theirs` is the time the round's matrix products
take at the measured peak, which is that of float32 products also where `products` says bfloat16 (ADR 30).
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from contract.randomness import stream

TOKENS, WORDS, WIDTH, UNITS = 20, 10_000, 96, 670
POOL = 128


Shared: TypeAlias = tuple[Any, ...]
"""Raw arrays: the parameters, each process's partial sum, its peak in GFLOP/s, its CPU seconds in the last round."""


@dataclass(frozen=True, slots=True)
class Work:
    """A compared round: which model, how many devices, and how they train."""

    model: str
    devices: int
    batch_size: int
    learning_rate: float
    parameters: int


WORKS = {
    "nwp": Work("next_word", 32, 16, 0.5, 1_412_250),
    "mlp": Work("mlp", 100, 10, 0.1, 54_270),
}


def num_examples(work: str, device: int) -> int:
    """How many examples one of the 128 devices has."""
    return int(stream(7, "size", device).integers(16, 33)) if work == "nwp" else 20


def examples(work: str, device: int) -> dict[str, Any]:
    """The arrays of one device."""
    n, generator = num_examples(work, device), stream(7, "examples", device)
    if work == "nwp":
        return {"tokens": generator.integers(0, WORDS, (n, TOKENS + 1), np.int32), "counted": np.ones((n, TOKENS), bool)}
    return {"x": generator.random((n, 784), np.float32), "y": generator.integers(0, 62, n).astype(np.int32)}


def cohort(work: str, number: int) -> list[int]:
    """The devices of a round: a window that moves over the pool."""
    count = WORKS[work].devices
    return [(number * count + i) % POOL for i in range(count)]


def gflop(work: str, number: int) -> float:
    """Operations of the round's matrix products, forward and twice that backward."""
    rows = sum(num_examples(work, device) for device in cohort(work, number))
    products = TOKENS * (2 * WIDTH * 3 * UNITS + UNITS * WIDTH + WIDTH * WORDS) if work == "nwp" else 784 * 64 + 64 * 62
    return 6 * rows * products / 1e9


def peak_gflops(repeats: int = 12) -> float:
    """The best rate of a 2048 x 2048 float32 product through JAX on this process's core, by its CPU time, so that neighbours do
    not count.
    """
    import jax

    a = jax.device_put(stream(0, "peak").standard_normal((2048, 2048), np.float32))
    product: Any = jax.jit(jax.numpy.dot)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        product(a, a).block_until_ready()
        best = min(best, time.process_time() - start)
    return 2 * 2048**3 / best / 1e9


def products(work: str) -> str:
    """What the factors of the largest products are rounded to; the peak is float32's in either case."""
    from trainer import bfloat16
    from trainer.models import get

    descent = get(WORKS[work].model).descent
    return "bfloat16" if descent is not None and descent.bfloat16 and bfloat16.gains() else "float32"


def views(shared: Shared) -> tuple[NDArray[Any], ...]:
    """NumPy arrays on the shared memory."""
    dtypes = (np.float32, np.float32, np.float64, np.float64)
    return tuple(np.frombuffer(array, dtype) for array, dtype in zip(shared, dtypes, strict=True))


def run_worker(core: int, place: int, of: int, work: str, rounds: int, shared: Shared, barrier: Barrier) -> None:
    """Measures its core's peak, then trains its share of each cohort whenever the barrier opens."""
    os.sched_setaffinity(0, {core})
    from trainer import DeviceExamples, LocalTrainer
    from trainer.models import get

    spec = WORKS[work]
    params, partials, peaks, busy = views(shared)
    partial = partials.reshape(of, -1)[place]
    trainer = LocalTrainer(model=get(spec.model), batch_size=spec.batch_size, learning_rate=spec.learning_rate)
    devices = {device: DeviceExamples(examples(work, device)) for number in range(rounds) for device in cohort(work, number)}
    barrier.wait()
    peaks[place] = peak_gflops()
    for number in range(rounds):
        barrier.wait()
        mine = [devices[device] for device in cohort(work, number)[place::of]]
        partial[:], start = 0, time.process_time()
        for delta, _ in trainer.train_many(params, mine, [None] * len(mine)):
            partial += delta
        busy[place] = time.process_time() - start
        barrier.wait()


def measure(work: str, processes: int, rounds: int, warmup: int) -> dict[str, Any]:
    """The median round with so many pinned processes, beside their peak."""
    from trainer.models import get

    spec = WORKS[work]
    context = multiprocessing.get_context("spawn")
    d = spec.parameters
    shared = tuple(
        context.RawArray(kind, n) for kind, n in (("f", d), ("f", d * processes), ("d", processes), ("d", processes))
    )
    params, partials, peaks, busy = views(shared)
    params[:] = get(spec.model).init(0)
    barrier = context.Barrier(processes + 1, timeout=300)  # a worker that dies breaks it
    cores = sorted(os.sched_getaffinity(0))[:processes]
    workers = [
        context.Process(target=run_worker, args=(core, place, processes, work, rounds + warmup, shared, barrier), daemon=True)
        for place, core in enumerate(cores)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    seconds: list[float] = []
    cpu: list[float] = []
    for _ in range(rounds + warmup):
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        params += partials.reshape(processes, d).sum(axis=0) / spec.devices
        seconds.append(time.perf_counter() - start)
        cpu.append(float(busy.sum()))
    for worker in workers:
        worker.join()
    operations = statistics.mean(gflop(work, warmup + i) for i in range(rounds))
    return row(work, seconds[warmup:], cpu[warmup:], peaks, operations)


def row(work: str, seconds: list[float], cpu: list[float], peaks: NDArray[Any], operations: float) -> dict[str, Any]:
    """One line of the table. CPU seconds tell more than wall seconds on a machine that others use too."""
    peak = float(peaks.sum())
    ours, floor = statistics.median(seconds), operations / peak
    return {
        "work": work,
        "ours": round(ours, 4),
        "unit": "s/round",
        "against": "peak",
        "theirs": round(floor, 4),
        "ratio": round(ours / floor, 3),
        "processes": len(peaks),
        "cpu_s": round(statistics.median(cpu), 4),
        "share_of_peak_by_cpu": round(operations / float(peaks.mean()) / statistics.median(cpu), 3),
        "share_of_peak": round(floor / ours, 3),
        "peak_gflops": round(peak, 1),
        "gflop": round(operations, 2),
        "products": products(work),
        "spread": [round(min(seconds), 4), round(max(seconds), 4)],
        "load": round(os.getloadavg()[0], 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def main() -> None:
    """Prints the rows as one JSON list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--work", nargs="+", choices=sorted(WORKS), default=["nwp", "mlp"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    arguments = parser.parse_args()
    rows = [measure(work, n, arguments.rounds, arguments.warmup) for work in arguments.work for n in arguments.processes]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
