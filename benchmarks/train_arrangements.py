"""The measured table behind `Arrangement`: CPU milliseconds a device, for each model and number of lanes, on one pinned core.

    python benchmarks/train_arrangements.py [--devices N]

Data are synthetic, with as many examples a device as keyboards have: a median of 4, a few with many. The first run of each line
compiles and is not counted; `compile_s` says what it took. Prints one JSON list.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from contract.randomness import stream

LANES = {"mlp": (1, 5, 10, 25, 50), "next_word_small": (1, 4, 16, 50), "next_word": (1, 2, 4), "text_selection": (1, 4, 16)}


def words(generator: np.random.Generator, sizes: NDArray[np.int64], vocabulary: int) -> list[dict[str, Any]]:
    """Sentences of about ten Zipfian tokens."""
    devices: list[dict[str, Any]] = []
    for size in sizes:
        tokens = np.minimum(generator.zipf(1.3, (size, 21)) + 3, vocabulary - 1).astype(np.int32)
        counted = np.arange(20) < np.minimum(generator.geometric(0.1, (size, 1)), 20)
        devices.append({"tokens": tokens, "counted": counted})
    return devices


def features(generator: np.random.Generator, sizes: NDArray[np.int64], _: int) -> list[dict[str, Any]]:
    """Points of 784 features in 62 classes."""
    return [
        {"x": generator.random((size, 784), np.float32), "y": generator.integers(0, 62, size).astype(np.int32)}
        for size in sizes
    ]


def taps(generator: np.random.Generator, sizes: NDArray[np.int64], _: int) -> list[dict[str, Any]]:
    """Windows of random pieces, with the tapped word right."""
    right = np.zeros(120, bool)
    right[0] = True
    return [
        {
            "exists": np.ones((size, 39), bool),
            "upper": np.full((size, 39), -1, np.int8),
            "right": np.tile(right, (size, 1)),
            "entity": np.zeros(size, np.int32),
            "several": np.zeros(size, bool),
            "pieces": generator.integers(0, 20_000, (size, 39, 105)).astype(np.uint16),
        }
        for size in sizes
    ]


DATA: dict[str, Callable[[np.random.Generator, NDArray[np.int64], int], list[dict[str, Any]]]] = {
    "mlp": features,
    "next_word": words,
    "next_word_small": words,
    "text_selection": taps,
}


def measure(name: str, lanes: int, count: int) -> dict[str, Any]:
    """One line of the table."""
    from trainer import DeviceExamples, LocalTrainer
    from trainer.models import get

    model = get(name)
    sizes = np.clip(stream(1, "sizes").lognormal(np.log(4), 1.4, count), 1, 256).astype(np.int64)
    vocabulary = 2_000 if name == "next_word_small" else 10_000
    devices = [DeviceExamples(arrays) for arrays in DATA[name](stream(1, "data", name), sizes, vocabulary)]
    trainer = LocalTrainer(model=model, batch_size=16, learning_rate=0.1, lanes=lanes)
    params = model.init(0)
    seconds: list[float] = []
    for _ in range(3):
        start = time.process_time()
        for _delta, _metrics in trainer.train_many(params, devices, range(count)):
            pass
        seconds.append(time.process_time() - start)
    steady = min(seconds[1:])
    return {
        "model": name,
        "lanes": lanes,
        "chosen": lanes == model.arrangement.lanes,
        "ms_per_device": round(1e3 * steady / count, 3),
        "compile_s": round(seconds[0] - steady, 1),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--model", nargs="+", choices=sorted(LANES), default=sorted(LANES))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps([measure(name, n, arguments.devices) for name in arguments.model for n in LANES[name]], indent=1))


if __name__ == "__main__":
    main()
