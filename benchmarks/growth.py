"""How a round grows with cohort, parameters, examples and processes: processor seconds of the trainer, and seconds with more processes.

    python benchmarks/growth.py

writes results/growth.json, growth.md and growth.svg. One line is varied at a time, around the mlp's and the next-word model's compared
rounds. A last column says how far a line is from proportional: the seconds of the largest size over what the smallest promises.
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
DIVIDED = "processes"
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


def relative(name: str, points: dict[str, float]) -> float:
    """How the seconds of the largest size compare with what the smallest promises: 1 is proportional, below 1 grows more slowly; for
    processes, among which a round is divided, 1 is a perfect division.
    """
    sizes, seconds = [int(size) for size in points], list(points.values())
    grown, larger = seconds[-1] / seconds[0], sizes[-1] / sizes[0]
    return grown * larger if DIVIDED in name else grown / larger


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    rows = [
        f"# Growth\n\n{found['machine']}; load {found['load']}. Processor seconds a round on one core; wall seconds for processes.\n",
        "| line | seconds at each size | largest over what the smallest promises |",
        "|---|---|---|",
    ]
    for name, points in found["seconds"].items():
        shown = ", ".join(f"{int(size):,}: {second:.4g}" for size, second in points.items())
        rows.append(f"| {name} | {shown} | {relative(name, points):.2f} |")
    return "\n".join(rows) + "\n"


def write(found: dict[str, Any]) -> None:
    """The figures, the table and the plot."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot as plt

    (results_file.RESULTS / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    (results_file.RESULTS / "growth.md").write_text(table(found))
    figure, axes = plt.subplots(2, 3, figsize=(10, 6))
    for axis, (name, points) in zip(axes.flat, found["seconds"].items(), strict=False):
        panel(axis, name, points)
    for axis in axes.flat[len(found["seconds"]) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("seconds a round", size=8)
    note = "dashed: in proportion to the size\n(processes: divided among them)\n\n"
    axes.flat[-1].text(0, 0.5, f"{note}{found['machine']}\nload {found['load']}", size=8, va="center")
    figure.tight_layout()
    figure.savefig(results_file.RESULTS / "growth.svg", metadata={"Date": None})
    plt.close(figure)


def panel(axis: Any, name: str, points: dict[str, float]) -> None:
    """One line, beside what its first point promises."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    sizes, seconds = [int(size) for size in points], list(points.values())
    promised = [seconds[0] * (sizes[0] / size if DIVIDED in name else size / sizes[0]) for size in sizes]
    axis.loglog(sizes, promised, color="#8c8c8c", linestyle="--", linewidth=0.8)
    axis.loglog(sizes, seconds, marker="o", markersize=4, color="#4c72b0")
    axis.set_title(name, size=9)
    axis.set_ylim(min(*seconds, *promised) / 1.7, max(*seconds, *promised) * 1.7)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for along in (axis.xaxis, axis.yaxis):
        along.set_minor_locator(NullLocator())
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, alpha=0.25)


def main() -> None:
    """Measures and writes."""
    found = measure()
    write(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
