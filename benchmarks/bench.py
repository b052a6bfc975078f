"""`make bench`: the short benchmarks, one after another, into one table, `results/latest.json` and plots. About ten minutes.

    python benchmarks/bench.py [--only rounds encode ...]

Each part is a process of its own, so that what one leaves in memory does not weigh on the next.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import growth
import results_file
from machine import machine

HERE = Path(__file__).parent
Rows = list[dict[str, Any]]
CUT = 100
BETTER, WORSE = "#4c72b0", "#c44e52"


def run(script: str, *arguments: str) -> Any:
    """What a benchmark prints first as JSON."""
    command = [sys.executable, str(HERE / script), *arguments]
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    print("running", script, *arguments, file=sys.stderr, flush=True)
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": paths})
    return json.JSONDecoder().raw_decode(printed.stdout.lstrip())[0]


def row(work: str, ours: float, unit: str, against: str, theirs: float) -> dict[str, Any]:
    return results_file.row(work, ours, unit, against, theirs, machine=machine())


def rounds() -> Rows:
    """The compared rounds in the product's main job, and by the trainer alone, against the matrix peak."""
    product, alone = run("product_rounds.py"), run("train_rounds.py", "--rounds", "6", "--processes", "2")
    (HERE / "results" / "rounds.json").write_text(json.dumps({"product": product, "trainer": alone}, indent=1) + "\n")
    return [*product, *({**found, "work": f"{found['work']}, trainer alone", "machine": machine()} for found in alone)]


def profile() -> Rows:
    """Where the main job's time goes, on synthetic text; the whole of it is in results/main_job_profile.json."""
    found = run("main_job_profile.py", "--work", "nwp", "--cohort", "100", "--rounds", "12", "--inside-rounds", "3")
    (HERE / "results" / "main_job_profile.json").write_text(json.dumps(found, indent=1) + "\n")
    share = found["orchestration_store_ledger"]
    return [
        row("main job: orchestration, store, ledger", share["share_of_cpu"], "of CPU", "limit", 0.05),
        row("main job: orchestration, store, ledger", share["share_of_wall"], "of wall", "limit of wall", 0.05),
    ]


def encode() -> Rows:
    """A device's encoding against the same steps in plain floating point."""
    found = run("privacy_encode.py")
    theirs = found["plain_float_ms"]
    return [
        row("encode 1.41M, discrete Gaussian", found["ddg"]["encode_ms"], "ms", "plain NumPy floats", theirs),
        row("encode 1.41M, Skellam", found["skellam"]["encode_ms"], "ms", "plain NumPy floats", theirs),
        row("encode 1.41M, central grid", found["central_grid"]["encode_ms"], "ms", "plain NumPy floats", theirs),
    ]


def samplers() -> Rows:
    """A draw of exact noise against floating point, and against OpenDP's exact sampler."""
    found = run("privacy_samplers.py")
    ours = 1e3 / found["discrete_gaussian"]["10"]
    rows = [row("discrete Gaussian draw, sigma 10", ours, "ns", "NumPy rejection", 1e3 / found["numpy_rejection_floats_10"])]
    if found["opendp_10"]:
        rows.append(row("discrete Gaussian draw, sigma 10", ours, "ns", "OpenDP", 1e3 / found["opendp_10"]))
    return rows


def secagg() -> Rows:
    """Secure aggregation of 32 devices against what was asked for."""
    found = run("secagg_rounds.py", "--quick")
    return [
        row(f"secagg {party}, 32 devices x 1.3M", found[f"{party}_ms"], "CPU ms", "limit", found[f"{party}_budget_ms"])
        for party in ("device", "server")
    ]


def upload() -> Rows:
    """An upload through session, hash, norm and sum against bare gRPC."""
    found = run("grpc_upload.py")
    ours = found["stack_ms_an_upload"]
    return [row("upload of 5.65 MB", ours, "ms", "bare gRPC", ours / found["stack_over_bare"])]


def grows() -> Rows:
    """Growth with cohort, parameters, examples and processes: a file and a plot of their own."""
    print("running growth.py", file=sys.stderr, flush=True)
    growth.write(growth.measure())
    return []


PARTS: Mapping[str, Callable[[], Rows]] = {
    "rounds": rounds, "profile": profile, "encode": encode, "samplers": samplers, "secagg": secagg, "upload": upload,
    "growth": grows,
}  # fmt: skip


def plot(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every ratio on one logarithmic axis: bars to the left of 1 are less than theirs. Floors, which nobody reaches,
    are grey; bars are cut at a hundred times, the figures beside them are not.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.3 * len(rows)))
    names = [f"{found['work']}  against {found['against']}" for found in rows]
    ratios = [float(found["ratio"]) for found in rows]
    drawn = [min(max(ratio, 1 / CUT), CUT) for ratio in ratios]
    colors = ["#8c8c8c" if found["against"] == "peak" else BETTER if found["ratio"] <= 1 else WORSE for found in rows]
    axis.barh(names, [ratio - 1 for ratio in drawn], left=1, height=0.62, color=colors)
    for place, ratio in enumerate(ratios):
        inward = (4, "left") if ratio >= 1 else (-4, "right")
        axis.annotate(
            f"{ratio:.3g}", (drawn[place], place), (inward[0], 0), textcoords="offset points", ha=inward[1], va="center", size=8
        )
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_xlim(1 / (4 * CUT), 4 * CUT)
    axis.xaxis.set_major_locator(LogLocator(10))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(axis="y", length=0, labelsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.set_xlabel(
        "ours over theirs: left of 1 is better; grey: times the floor; cut at 100",
        size=8,
    )
    axis.set_title(f"{', '.join(sorted({found['machine'] for found in rows}))}", size=9, loc="left")
    figure.tight_layout()
    figure.savefig(results_file.RESULTS / "latest.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Runs the parts and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    for name in arguments.only:
        results_file.put(PARTS[name]())
    rows = results_file.read()
    if rows:
        plot(rows)
        print(results_file.table(rows))


if __name__ == "__main__":
    main()
