"""The production replay on an accelerator: rounds of 6,500 devices, the 1,412,250-parameter next-word model, FedAvg with
momentum.

    python benchmarks/gpu/replay.py [--minutes 8]          on the card
    python benchmarks/gpu/replay.py --dry-run              the same program, small, on any machine
    python benchmarks/gpu/replay.py --predict 400 4.8      arithmetic alone: a card of 400 TFLOP/s and 4.8 TB/s

Prints one JSON object: the checks (the card's update against float32 at the highest precision), the card's measured limits, a
table of arrangements (lanes x precision), the replay at the fastest one with devices a second, the shares of the limits by
operations and by bytes, and the projected time of all 2,000 rounds. It imports only jax, optax, NumPy and trainer.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# (JAX types its functions only in part.)

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))
from trainer import CohortTrainer, DeviceExamples, Model, server_optimizer
from trainer.models import get

ROUNDS, COHORT, TOKENS = 2_000, 6_500, 20
PRECISIONS: tuple[str | None, ...] = ("float32", "tensorfloat32", "BF16_BF16_F32")


@dataclass(frozen=True, slots=True)
class Size:
    """How large the replay is."""

    cohort: int
    pool: int
    words: int
    width: int
    units: int
    lanes: tuple[int, ...]


FULL = Size(COHORT, 8_192, 10_000, 96, 670, (32, 64, 128, 256))
DRY = Size(24, 32, 200, 8, 16, (4, 8))


def population(size: Size) -> list[DeviceExamples]:
    """Devices with 16 to 32 sentences of 20 tokens, as in the comparison of rounds."""
    generator = np.random.default_rng(7)
    devices: list[DeviceExamples] = []
    for count in generator.integers(16, 33, size.pool):
        tokens = generator.integers(4, size.words, (count, TOKENS + 1)).astype(np.int32)
        devices.append(DeviceExamples({"tokens": tokens, "counted": np.ones((count, TOKENS), bool)}))
    return devices


def device_cost(size: Size, rows: float) -> tuple[float, float]:
    """(operations, bytes) of one device: products forward and twice backward; and what must pass memory if nothing stays in
    cache.

    Bytes of a step of 16 rows: the logits written, read for maximum and sum, their exponentials written and read twice;
    parameters read twice, gradients written and read, parameters written; the layer's states written and read.
    """
    gates = 3 * size.units
    products = 2 * size.width * gates + size.units * size.width + size.width * size.words
    operations = 6 * rows * TOKENS * products
    parameters = size.words * size.width + 2 * size.width * gates + gates + size.units * size.width
    steps = -(-rows // 16)
    step_rows = 16 * TOKENS
    moved = 4 * (steps * (step_rows * size.words * 6 + 5 * parameters + step_rows * size.units * 12) + 4 * parameters)
    return operations, moved


def predict(teraflops: float, terabytes: float) -> dict[str, float]:
    """What a card with these sustained limits needs for a round and for the run, if nothing overlaps."""
    operations, moved = device_cost(FULL, 24.0)
    seconds = COHORT * (operations / (teraflops * 1e12) + moved / (terabytes * 1e12))
    return {
        "s_per_round": round(seconds, 3),
        "devices_per_s": round(COHORT / seconds),
        "hours": round(seconds * ROUNDS / 3600, 2),
    }


def limits(small: bool) -> dict[str, float]:
    """The card's measured limits: TFLOP/s of a product in each precision, TB/s of a copy."""
    n = 512 if small else 8_192
    a = jnp.ones((n, n), jnp.float32)
    measured: dict[str, float] = {}
    for precision in PRECISIONS:
        try:
            with jax.default_matmul_precision(precision or "default"):
                product = jax.jit(jnp.dot)
                measured[str(precision)] = 2 * n**3 / best(lambda product=product: product(a, a)) / 1e12
        except (ValueError, RuntimeError) as error:
            measured[f"{precision}: {type(error).__name__}"] = 0.0
    copied = jnp.zeros(1 << (22 if small else 30), jnp.float32)
    add = jax.jit(lambda x: x + 1.0)
    measured["copy_tb_per_s"] = 2 * copied.nbytes / best(lambda: add(copied)) / 1e12
    return measured


def best(run: Any, repeats: int = 8) -> float:
    """The shortest of several runs, in seconds."""
    jax.block_until_ready(run())
    shortest = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def trainer(model: Model, lanes: int, precision: str | None) -> CohortTrainer:
    """The published local training: batches of 16, one epoch, learning rate 0.5, clipped."""
    return CohortTrainer(model=model, batch_size=16, learning_rate=0.5, clip_norm=0.3, lanes=lanes, matmul_precision=precision)


def checks(model: Model, devices: list[DeviceExamples]) -> dict[str, float]:
    """How far the sum of a few devices lies from the one at the highest precision, relative to its norm."""
    params, few = model.init(0), devices[:4]
    reference = trainer(model, 4, "highest").sum_updates(params, few, range(4)).total
    distances: dict[str, float] = {}
    for precision in PRECISIONS:
        try:
            total = trainer(model, 4, precision).sum_updates(params, few, range(4)).total
        except (ValueError, RuntimeError) as error:
            distances[f"{precision}: {type(error).__name__}"] = -1.0
        else:
            distances[str(precision)] = float(np.linalg.norm(total - reference) / np.linalg.norm(reference))
    return distances


def table(model: Model, size: Size, devices: list[DeviceExamples]) -> list[dict[str, Any]]:
    """Devices a second for each arrangement that fits into memory, fastest first."""
    rows: list[dict[str, Any]] = []
    params = model.init(0)
    for precision in PRECISIONS:
        for lanes in size.lanes:
            arranged, some = trainer(model, lanes, precision), devices[: max(2 * lanes * len(jax.devices()), 8)]
            try:
                arranged.sum_updates(params, some, range(len(some)))
                start = time.perf_counter()
                arranged.sum_updates(params, some, range(len(some)))
            except (ValueError, RuntimeError) as error:
                rows.append({"lanes": lanes, "precision": precision, "devices_per_s": 0.0, "fault": type(error).__name__})
            else:
                speed = len(some) / (time.perf_counter() - start)
                rows.append({"lanes": lanes, "precision": precision, "devices_per_s": round(speed, 1)})
    return sorted(rows, key=lambda row: -row["devices_per_s"])


def replay(model: Model, size: Size, devices: list[DeviceExamples], arranged: CohortTrainer, minutes: float) -> dict[str, Any]:
    """Rounds for so many minutes, each with its server step."""
    optimizer = server_optimizer("sgd", 1.0, 0.9)
    params, state = model.init(0), optimizer.init(model.num_parameters)
    generator = np.random.default_rng(1)
    seconds: list[float] = []
    losses: list[float] = []
    stop = time.perf_counter() + 60 * minutes
    while time.perf_counter() < stop or len(seconds) < 2:
        start = time.perf_counter()
        chosen: NDArray[np.int64] = generator.choice(len(devices), size.cohort, replace=False)
        result = arranged.sum_updates(params, [devices[i] for i in chosen], chosen.tolist())
        params, state = optimizer.update(result.total / np.float32(size.cohort), state, params)
        seconds.append(time.perf_counter() - start)
        losses.append(result.metrics["loss"])
    steady = float(np.median(seconds[1:]))
    return {
        "rounds": len(seconds),
        "s_per_round": round(steady, 3),
        "first_round_s": round(seconds[0], 2),
        "devices_per_s": round(size.cohort / steady, 1),
        "losses": [round(losses[0], 4), round(losses[-1], 4)],
        "projected_hours_of_2000_rounds": round(steady * ROUNDS / 3600, 3),
    }


def main() -> None:
    """Prints the report as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--predict", nargs=2, type=float, metavar=("TFLOPS", "TBPS"))
    arguments = parser.parse_args()
    if arguments.predict:
        print(json.dumps(predict(*arguments.predict)))
        return
    size = DRY if arguments.dry_run else FULL
    model = get("next_word", words=size.words, width=size.width, units=size.units)
    devices = population(size)
    measured = limits(small=arguments.dry_run)
    arrangements = table(model, size, devices)
    fastest = arrangements[0]
    arranged = trainer(model, fastest["lanes"], fastest["precision"])
    run = replay(model, size, devices, arranged, 0.05 if arguments.dry_run else arguments.minutes)
    operations, moved = device_cost(size, 24.0)
    peak = max(measured.get(str(fastest["precision"]), 0.0), 1e-9)
    report = {
        "backend": jax.default_backend(),
        "cards": [card.device_kind for card in jax.devices()],
        "parameters": model.num_parameters,
        "checks_relative_distance": checks(model, devices),
        "limits": {name: round(value, 3) for name, value in measured.items()},
        "arrangements": arrangements,
        "replay": run,
        "share_of_limit_by_operations": round(run["devices_per_s"] * operations / (peak * 1e12), 4),
        "share_of_limit_by_bytes": round(run["devices_per_s"] * moved / (measured["copy_tb_per_s"] * 1e12), 4),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
