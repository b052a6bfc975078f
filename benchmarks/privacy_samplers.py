"""Million draws a second on one core: ours at several deviations, OpenDP, rejection in NumPy floats, NumPy's own Gaussian.

    python benchmarks/privacy_samplers.py [--draws 4194304]

prints one JSON object; every line is measured in the same run, on the same core, in processor time.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from privacy.keystream import Keystream
from privacy.samplers import discrete_gaussian, rounded_gaussian, skellam

DEVIATIONS = (0.7, 3.0, 10.0, 52.0, 63.0, 64.0, 800.0, 1e5)


def rate(work: Callable[[int], Any], count: int) -> float:
    work(min(count, 1 << 16))
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        work(count)
        best = max(best, count / (time.process_time() - start) / 1e6)
    return round(best, 3)


def rejection(count: int, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Discrete Gaussian by rejecting a rounded Gaussian, in floats."""
    kept = np.empty(0, np.int64)
    while kept.size < count:
        x = np.rint(generator.normal(0, deviation, count))
        real = generator.normal(0, 1, count)
        accept = generator.random(count) < np.exp(-np.abs(x) / (8 * deviation**2)) * (np.abs(real) < 6)
        kept = np.concatenate([kept, x[accept].astype(np.int64)])
    return kept[:count]


def opendp_rate(deviation: float, count: int) -> float | None:
    try:
        import opendp.prelude as dp
    except ImportError:
        return None
    dp.enable_features("contrib")
    measure = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i32")), dp.l2_distance(T=float), scale=deviation)
    return rate(lambda n: measure([0] * n), min(count, 1 << 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1 << 22)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    stream = Keystream(bytes(32), "benchmark", 0)
    generator = np.random.Generator(np.random.SFC64(1))
    found: dict[str, Any] = {"keystream_GB_s": round(rate(stream.read, 1 << 22) / 1e3, 2)}
    for name, law in (("discrete_gaussian", discrete_gaussian), ("skellam", skellam), ("rounded_gaussian", rounded_gaussian)):
        found[name] = {}
        for deviation in DEVIATIONS:
            if law is not skellam or deviation <= 2**15:
                sampler = law(deviation)
                found[name][f"{deviation:g}"] = rate(partial(sampler.draw, stream), arguments.draws)
    found["numpy_rejection_floats_10"] = rate(lambda n: rejection(n, 10.0, generator), arguments.draws)
    found["numpy_float_gaussian"] = rate(generator.standard_normal, arguments.draws)
    found["opendp_10"] = opendp_rate(10.0, arguments.draws)
    print(json.dumps({"unit": "million draws a second, one core", **found}))


if __name__ == "__main__":
    main()
