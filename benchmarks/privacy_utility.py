"""What each central mechanism costs in accuracy at equal privacy: prefix error, and a small federated task.

    python benchmarks/privacy_utility.py [--data ../shared/data/mnist10k_features.npz] [--rounds 120] [--seeds 3] [--epsilon 0.5]

prints one JSON object. `prefix_error` is sensitivity times root-mean-square error of the prefix sums with noise of deviation 1, so that
at equal rho the smaller one is as much better; three schedules. `accuracy` (if the data is there) is that of softmax regression on 64
random projections of digits, 8,000 simulated devices with 4 examples each, 200 a round in a cyclic order (separation 39), clip 0.5,
server momentum 0.9, at that epsilon, delta 1e-5, under each mechanism with its real integer noise, calibrated by `tutti account`'s means;
for Poisson sampling the cohort is drawn by coins. Mean and range over seeds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from contract.entropy import system_entropy
from contract.randomness import stream
from privacy import blt_optimum, central, matrix_sensitivity, strategies, tree_sensitivity

SCHEDULES = ((2000, 399, 5), (1000, 99, 10), (500, 499, 1))
DELTA = 1e-5
DEVICES, COHORT, EXAMPLES, FEATURES, CLASSES, CLIP = 8000, 200, 4, 64, 10, 0.5
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data" / "mnist10k_features.npz"


def prefix_errors(rounds: int, separation: int, participations: int) -> dict[str, float]:
    zeta = tree_sensitivity.squared(leaves=rounds, minimum_separation=separation, max_participations=participations)
    levels = [[level for level in range(rounds.bit_length()) if t >> level & 1] for t in range(1, rounds + 1)]
    tree = np.mean([len(found) for found in levels])
    honaker = np.mean([sum(1 / (2 - 2.0**-level) for level in found) for found in levels])

    def toeplitz(column: np.ndarray) -> float:
        full = np.concatenate([column, np.zeros(rounds)])[:rounds]
        squared = matrix_sensitivity.toeplitz(full, minimum_separation=separation, participations=participations)
        return float(squared**0.5 * strategies.prefix_error(full, rounds))

    schedule = blt_optimum.Schedule(rounds=rounds, minimum_separation=separation, participations=participations)
    found = blt_optimum.optimum(schedule, buffers=2)
    return {
        "tree": float((zeta * tree) ** 0.5),
        "honaker": float((zeta * honaker) ** 0.5),
        "square_root": toeplitz(strategies.square_root_banded(bands=rounds).real()),
        "banded": toeplitz(strategies.square_root_banded(bands=min(separation + 1, rounds)).real()),
        "blt_2": toeplitz(matrix_sensitivity.coefficients(found.buf_decay, found.output_scale, rounds)),
        "independent": float((participations * np.mean(np.arange(1, rounds + 1))) ** 0.5),
    }


def features(images: np.ndarray) -> np.ndarray:
    projection = stream(1, "projection").normal(size=(images.shape[1], FEATURES)) / np.sqrt(images.shape[1])
    return np.concatenate([np.tanh(images / 127.5 @ projection), np.ones((len(images), 1))], axis=1)


def update(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Two local steps of softmax regression on one device."""
    local = weights.copy()
    for _ in range(2):
        scores = x @ local
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(len(y)), y] -= 1
        local -= 0.5 * x.T @ scores / len(y)
    return local - weights


def train(plan: central.CentralPlan, x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray], seed: int) -> float:
    generator = stream(seed, "devices")
    held = generator.integers(0, len(x), (DEVICES, EXAMPLES))
    order = generator.permutation(DEVICES)
    weights, velocity = np.zeros((x.shape[1], CLASSES)), np.zeros((x.shape[1], CLASSES))
    noise = plan.stream(system_entropy(32))
    for leaf in range(plan.rounds):
        if plan.sampling_rate is not None:
            cohort = np.flatnonzero(generator.random(DEVICES) < plan.sampling_rate)
        else:
            cohort = order[np.arange(leaf * COHORT, (leaf + 1) * COHORT) % DEVICES]
        total = np.zeros(plan.grid.dimension, np.int64)
        for device in cohort:
            delta = update(weights, x[held[device]], y[held[device]]).astype(np.float32).reshape(-1)
            total += plan.grid.encode(delta, system_entropy)
        mean = plan.grid.decode(total + noise.next()).reshape(weights.shape) / COHORT
        velocity = 0.9 * velocity + mean
        weights = weights + velocity
    return float((np.argmax(test[0] @ weights, axis=1) == test[1]).mean())


def accuracies(path: Path, rounds: int, seeds: int, epsilon: float) -> dict[str, Any]:
    with np.load(path) as data:
        images, labels, split = data["x"].astype(np.float64), data["y"].astype(int), data["split"]
    x = features(images)
    test = x[split == 1], labels[split == 1]
    separation = DEVICES // COHORT - 1
    common = {"dimension": x.shape[1] * CLASSES, "clip_norm": CLIP, "rounds": rounds, "minimum_separation": separation}
    kinds: dict[str, dict[str, Any]] = {
        "no noise": {"mechanism": "none"},
        "tree": {"mechanism": "tree", "honaker": False},
        "honaker": {"mechanism": "tree"},
        "banded": {"mechanism": "banded"},
        "blt": {"mechanism": "blt"},
        "dp-fedavg": {"mechanism": "gaussian"},
        "dp-fedavg, Poisson": {"mechanism": "gaussian", "sampling_rate": COHORT / DEVICES},
    }
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind["mechanism"] == "blt":
            times = tree_sensitivity.most_participations(leaves=rounds, minimum_separation=separation)
            schedule = blt_optimum.Schedule(rounds=rounds, minimum_separation=separation, participations=times)
            best = blt_optimum.optimum(schedule, buffers=2)
            kind["strategy"] = strategies.buffered(buf_decay=best.buf_decay, output_scale=best.output_scale)

        def make(multiplier: float, chosen: dict[str, Any] = kind) -> central.CentralPlan:
            return central.plan(**common, **chosen, noise_multiplier=multiplier)

        multiplier = 0.0
        if name != "no noise":
            multiplier = central.calibrate(lambda z, made=make: made(z).event(rounds), epsilon=epsilon, delta=DELTA)
        runs = [train(make(multiplier), x[split == 0], labels[split == 0], test, seed) for seed in range(seeds)]
        found[name] = {
            "noise_multiplier": multiplier,
            "accuracy": round(float(np.mean(runs)), 4),
            "range": [min(runs), max(runs)],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--only-accuracy", action="store_true")
    arguments = parser.parse_args()
    schedules = () if arguments.only_accuracy else SCHEDULES
    errors = {
        f"n {n}, s {s}, k {k}": {name: round(v, 2) for name, v in prefix_errors(n, s, k).items()} for n, s, k in schedules
    }
    found: dict[str, Any] = {"prefix_error": errors}
    if arguments.data.is_file():
        found["accuracy"] = accuracies(arguments.data, arguments.rounds, arguments.seeds, arguments.epsilon)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
