"""Rounds an hour with adaptive phase windows, against the best fixed windows that hindsight can find, on heavy-tailed latencies.

Every round has its own pace (a daily tide, and what its hour happens to be like); within it latencies are lognormal with a Pareto tail, and
some devices never answer. Both policies see the same latencies. The fixed windows are searched over a grid, one window for each phase,
and judged on the very rounds that they were searched on.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.randomness import stream
from secagg.windows import AdaptiveWindows, PhaseObservation

RESULTS = Path(__file__).parent / "results"
TYPICAL_S = np.array([1.0, 1.5, 6.0, 1.0, 1.0])
"""Median latencies of AdvertiseKeys' reply to ShareKeys, MaskedInput, ConsistencyCheck, Unmasking and of the check-in."""
REST_S = 20.0
LONGEST_S = 300.0
Policy = Callable[[int, int, int], Callable[[NDArray[np.float64]], float]]


@dataclass(frozen=True)
class World:
    """Latencies of all rounds: float64, shape (rounds, phases, n), infinite where a device never answers."""

    latencies: NDArray[np.float64]
    may_leave: int


def make_world(rounds: int, n: int, drop_fraction: float, seed: int, *, tide: float = 3.0, gone: float = 0.004) -> World:
    """Heavy tails (one answer in twelve is Pareto with exponent 1.1), a tide by a factor `tide` either way, hours that differ."""
    rng = stream(seed, "windows")
    shape = (rounds, len(TYPICAL_S), n)
    pace = np.exp(np.log(tide) * np.sin(2 * np.pi * np.arange(rounds) / 160) + rng.normal(0.0, 0.25, rounds))
    body = TYPICAL_S[None, :, None] * np.exp(rng.normal(0.0, 0.5, shape))
    heavy = np.where(rng.random(shape) < 1 / 12, 1.0 + rng.pareto(1.1, shape), 1.0)
    latencies = body * heavy * pace[:, None, None]
    latencies[rng.random(shape) < gone] = np.inf
    return World(latencies, int(drop_fraction * n))


def play_fixed(world: World, windows: NDArray[np.float64]) -> float:
    """Completed rounds an hour."""
    hours, completed = 0.0, 0
    for latencies in world.latencies:
        seconds, done = _play_round(latencies, world.may_leave, lambda phase, *_: lambda _arrived: float(windows[phase]))[:2]
        hours += seconds / 3600
        completed += done
    return completed / hours


def play_adaptive(world: World, windows: AdaptiveWindows) -> float:
    """Completed rounds an hour; the windows learn from round to round."""
    hours, completed = 0.0, 0
    for latencies in world.latencies:
        current = windows
        seconds, done, seen = _play_round(
            latencies,
            world.may_leave,
            lambda phase, alive, allowed, w=current: w.open(phase, alive=alive, may_leave=allowed).deadline_s,
        )
        for phase, observed in enumerate(seen):
            windows = windows.observe(phase, observed)
        hours += seconds / 3600
        completed += done
    return completed / hours


def _play_round(latencies: NDArray[np.float64], may_leave: int, deadline: Policy) -> tuple[float, bool, list[PhaseObservation]]:
    alive, allowed, seconds = np.arange(latencies.shape[1]), may_leave, REST_S
    seen: list[PhaseObservation] = []
    for phase in range(latencies.shape[0]):
        taken = latencies[phase, alive]
        waited = _close(np.sort(taken), deadline(phase, len(alive), allowed), len(alive) - 2 * may_leave)
        answered = taken <= waited
        seen.append(PhaseObservation(seconds=taken[answered], waited_s=waited, missing=int((~answered).sum())))
        seconds += waited
        allowed -= int((~answered).sum())
        alive = alive[answered]
        if allowed < 0:
            return seconds, False, seen
    return seconds, True, seen


def _close(arrivals: NDArray[np.float64], deadline: Callable[[NDArray[np.float64]], float], asked_from: int) -> float:
    """When the phase closes: the deadline is asked for again with each of the last arrivals."""
    count = max(asked_from, (len(arrivals) + 1) // 2)
    while True:
        until = deadline(arrivals[:count])
        if count == len(arrivals):
            return float(arrivals[-1])
        if arrivals[count] > until:
            return max(until, float(arrivals[count - 1]))
        count += 1


def best_fixed(world: World) -> tuple[float, NDArray[np.float64]]:
    """The best windows by coordinate descent over a fine grid, started from several common multiples of the medians."""
    grid = np.geomspace(1.0, 60.0, 28)
    found = max(((play_fixed(world, TYPICAL_S * factor), factor) for factor in grid), key=lambda pair: pair[0])
    windows, rate = TYPICAL_S * found[1], found[0]
    for _ in range(2):
        for phase in range(len(TYPICAL_S)):
            for factor in grid:
                tried = windows.copy()
                tried[phase] = TYPICAL_S[phase] * factor
                if (got := play_fixed(world, tried)) > rate:
                    rate, windows = got, tried
    return rate, windows


def compare(rounds: int, seed: int, *, n: int = 100, drop_fraction: float = 0.1, tide: float = 3.0) -> dict[str, object]:
    """Both policies on one world."""
    world = make_world(rounds, n, drop_fraction, seed, tide=tide)
    fixed, windows = best_fixed(world)
    start = AdaptiveWindows(first_s=tuple(10 * TYPICAL_S), longest_s=LONGEST_S, rest_s=REST_S)
    adaptive = play_adaptive(world, start)
    return {
        "work": f"rounds an hour, {n} devices, {drop_fraction:g} may leave, tide x{tide:g}, seed {seed}",
        "ours": round(adaptive, 2),
        "unit": "rounds/hour",
        "against": "best fixed windows in hindsight",
        "theirs": round(fixed, 2),
        "ratio": round(adaptive / fixed, 3),
        "fixed_windows_s": [round(float(w), 1) for w in windows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=160)
    arguments = parser.parse_args()
    rows = [compare(arguments.rounds, seed, tide=tide) for tide in (1.0, 3.0) for seed in (1, 2)]
    print(json.dumps(rows, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "secagg_windows.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
