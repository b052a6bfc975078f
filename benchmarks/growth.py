"""How a round grows with cohort, parameters, examples and processes: processor seconds of the trainer, and seconds with more processes.

    python benchmarks/growth.py

writes results/growth.json, growth.md and growth.svg. One line is varied at a time, around the mlp's and the next-word model's compared
rounds. A last column says how far a line is from proportional: the seconds of the largest over the smallest, divided by their sizes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import results_file
from machine import machine

LINES: dict[str, Sequence[int]] = {
    "cohort, mlp": (25, 50, 100, 200, 400),
    "examples a device, mlp": (10, 20, 40, 80),
    "parameters, next word": (89_424, 345_768, 1_412_250),
    "processes, next word": (1, 2),
    "devices taken in a round, orchestration": (100, 1_000, 6_500),
}
WIDTHS = {89_424: (2_000, 32, 112), 345_768: (5_000, 48, 312), 1_412_250: (10_000, 96, 670)}


def mlp(cohort: int, examples: int) -> float:
    """Processor seconds of a round on this core."""
    from trainer import DeviceExamples, LocalTrainer
    from trainer.models import get

    generator, model = np.random.default_rng(1), get("mlp")
    devices = [
        DeviceExamples(
            {"x": generator.random((examples, 784), np.float32), "y": generator.integers(0, 62, examples).astype(np.int32)}
        )
        for _ in range(cohort)
    ]
    return _best(LocalTrainer(model=model, batch_size=10, learning_rate=0.1), model.init(0), devices)


def next_word(parameters: int, cohort: int = 8) -> float:
    """Processor seconds of a round of eight devices with 32 sentences of 20 words."""
    from trainer import DeviceExamples, LocalTrainer
    from trainer.models import get

    words, width, units = WIDTHS[parameters]
    generator, model = np.random.default_rng(1), get("next_word", words=words, width=width, units=units)
    counted = np.ones((32, 20), bool)
    devices = [
        DeviceExamples({"tokens": generator.integers(4, words, (32, 21)).astype(np.int32), "counted": counted})
        for _ in range(cohort)
    ]
    return _best(LocalTrainer(model=model, batch_size=16, learning_rate=0.5), model.init(0), devices)


def _best(trainer: Any, params: Any, devices: Sequence[Any]) -> float:
    best = float("inf")
    for _ in range(4):  # the first compiles
        start = time.process_time()
        for _delta in trainer.train_many(params, devices, [None] * len(devices)):
            pass
        best = min(best, time.process_time() - start)
    return best


def orchestration(goal: int) -> float:
    """Processor seconds of a round of so many devices with stubbed training, out of 50 times as many."""
    return (
        float(
            _script("fleet_orchestration.py", "--rounds", "6", "--goal", str(goal), "--devices", str(50 * goal))["cpu_seconds"]
        )
        / 6
    )


def processes(count: int) -> float:
    """Wall seconds of the compared next-word round."""
    return float(_script("train_rounds.py", "--work", "nwp", "--rounds", "4", "--processes", str(count))[0]["ours"])


def _script(name: str, *arguments: str) -> Any:
    folder = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(folder.parent)}
    command = [sys.executable, str(folder / name), *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def point(line: str, size: int) -> float:
    """Seconds at one point of a line."""
    match line:
        case "cohort, mlp":
            return _pinned(f"mlp({size}, 20)")
        case "examples a device, mlp":
            return _pinned(f"mlp(100, {size})")
        case "parameters, next word":
            return _pinned(f"next_word({size})")
        case "processes, next word":
            return processes(size)
        case _:
            return orchestration(size)


def _pinned(call: str) -> float:
    """A measurement in a process of its own on one core, whose JAX takes no other."""
    script = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); import growth; print(growth.{call})"
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return float(ran.stdout.split()[-1])


def measure() -> dict[str, Any]:
    """All lines."""
    lines = {name: {str(size): round(point(name, size), 5) for size in sizes} for name, sizes in LINES.items()}
    return {"machine": machine(), "load": round(os.getloadavg()[0], 2), "seconds": lines}


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    rows = [
        f"# Growth\n\n{found['machine']}; load {found['load']}.\n",
        "| line | seconds at each size | relative to proportional |",
        "|---|---|---|",
    ]
    for name, points in found["seconds"].items():
        sizes = [int(size) for size in points]
        seconds = list(points.values())
        relative = seconds[-1] / seconds[0] / (sizes[-1] / sizes[0])
        shown = ", ".join(f"{size:,}: {second:.4g}" for size, second in zip(sizes, seconds, strict=True))
        rows.append(f"| {name} | {shown} | {relative:.2f} |")
    return "\n".join(rows) + "\n"


def write(found: dict[str, Any]) -> None:
    """The figures, the table and the plot."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot as plt

    (results_file.RESULTS / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    (results_file.RESULTS / "growth.md").write_text(table(found))
    figure, axes = plt.subplots(1, len(LINES), figsize=(3.4 * len(LINES), 3))
    for axis, (name, points) in zip(axes, found["seconds"].items(), strict=True):
        axis.loglog([int(size) for size in points], list(points.values()), marker="o")
        axis.set(title=name)
        axis.title.set_fontsize(8)
        axis.grid(visible=True, which="major", alpha=0.3)
    axes[0].set_ylabel("seconds a round")
    figure.tight_layout()
    figure.savefig(results_file.RESULTS / "growth.svg", metadata={"Date": None})


def main() -> None:
    """Measures and writes."""
    found = measure()
    write(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
