"""What a device spends on encoding at d = 1.41M, stage by stage, beside a plain NumPy float version of the same steps.

    python benchmarks/privacy_encode.py [--dimension 1412250] [--repeats 9]

prints one JSON object: milliseconds of processor time (medians, one core, no threads) of each stage and their shares, for the
distributed encoder (16 bits, 100 devices, discrete Gaussian and Skellam), the central grid, and the float version (clip, signs,
radix-2 Hadamard, scale, stochastic rounding, NumPy's Gaussian, rounding), measured side by side in one run; `ratio` is ours over
the float version's.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from contract.entropy import system_entropy
from privacy import ddg, grid, rounding, skellam
from privacy.distributed import DistributedPlan
from privacy.keystream import Keystream
from privacy.samplers import discrete_gaussian
from privacy.samplers import skellam as skellam_law

SEED = bytes(range(32))


def median_ms(work: Callable[[], Any], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def distributed(plan: DistributedPlan, x: np.ndarray, repeats: int) -> dict[str, Any]:
    factor = np.float32(plan.scale * plan.clip_norm / np.linalg.norm(x))
    scaled = plan.rotation.apply(x * factor, SEED)
    sampler = {"ddg": discrete_gaussian, "skellam": skellam_law}[plan.mechanism](plan.local_sigma)
    stages = {
        "clip": median_ms(lambda: (np.einsum("i,i->", x, x, dtype=np.float64), x * factor), repeats),
        "rotate": median_ms(lambda: plan.rotation.apply(x, SEED), repeats),
        "round": median_ms(lambda: rounding.round_within(scaled, plan.squared_norm, Keystream(SEED, "b", 0)), repeats),
        "noise": median_ms(lambda: sampler.draw(Keystream(SEED, "n", 0), plan.padded_dimension), repeats),
    }
    whole = median_ms(lambda: plan.encode(x, system_entropy, SEED), repeats)
    return {
        "encode_ms": round(whole, 2),
        "decode_ms": round(
            median_ms(lambda: plan.decode(np.zeros(plan.padded_dimension, np.int64), plan.devices, SEED), repeats), 2
        ),
        "stages_ms": {name: round(value, 2) for name, value in stages.items()},
        "shares": {name: round(value / sum(stages.values()), 3) for name, value in stages.items()},
        "local_sigma": round(plan.local_sigma, 1),
    }


def plain_float(x: np.ndarray, plan: DistributedPlan, generator: np.random.Generator) -> np.ndarray:
    """The same steps as a newcomer would write them in NumPy."""
    x = x * min(1.0, plan.clip_norm / np.linalg.norm(x))
    padded = np.zeros(1 << (x.size - 1).bit_length(), np.float32)
    padded[: x.size] = x * generator.choice(np.array([-1.0, 1.0], np.float32), x.size)
    width = 1
    while width < padded.size:
        pairs = padded.reshape(-1, 2, width)
        padded = np.concatenate([pairs[:, :1] + pairs[:, 1:], pairs[:, :1] - pairs[:, 1:]], axis=1).reshape(-1)
        width *= 2
    scaled = padded * (plan.scale / math.sqrt(padded.size))
    while True:
        floor = np.floor(scaled)
        rounded = floor + (generator.random(scaled.size) < scaled - floor)
        if np.dot(rounded, rounded) <= plan.squared_norm:
            break
    return (rounded + np.rint(generator.normal(0, plan.local_sigma, rounded.size))).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=1_412_250)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    generator = np.random.Generator(np.random.SFC64(1))
    x = generator.normal(size=arguments.dimension).astype(np.float32)
    common = {"dimension": arguments.dimension, "clip_norm": 0.3, "noise_multiplier": 1.0, "devices": 100, "bits": 16}
    found: dict[str, Any] = {
        name: distributed(module.plan(**common), x, arguments.repeats) for name, module in (("ddg", ddg), ("skellam", skellam))
    }
    central = grid.plan(dimension=arguments.dimension, clip_norm=0.3)
    vector = central.encode(x, system_entropy)
    found["central_grid"] = {
        "encode_ms": round(median_ms(lambda: central.encode(x, system_entropy), arguments.repeats), 2),
        "accepts_ms": round(median_ms(lambda: central.accepts(vector), arguments.repeats), 2),
    }
    float_ms = median_ms(lambda: plain_float(x, ddg.plan(**common), generator), max(3, arguments.repeats // 3))
    found["plain_float_ms"] = round(float_ms, 2)
    found["ratio"] = {name: round(found[name]["encode_ms"] / float_ms, 3) for name in ("ddg", "skellam", "central_grid")}
    print(json.dumps({"dimension": arguments.dimension, **found}))


if __name__ == "__main__":
    main()
