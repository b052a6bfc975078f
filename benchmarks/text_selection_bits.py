"""Accuracy of text selection over noise and lane width, and the epsilon that is true after rounding: a table and a picture of the cliff.

    python benchmarks/text_selection_bits.py run --data FILE.jsonl.gz --weights PUBLIC.npz --arms head_z1_b12 head_z1_central ...
    python benchmarks/text_selection_bits.py plot --weights PUBLIC.npz

An arm is `TRAINABLE_zZ_bBITS` (secure sum, ideal, distributed discrete Gaussian noise) or `TRAINABLE_zZ_central` (as much noise, added
by the server). `run` does 200 rounds of 100 devices from the public weights for each, takes about two minutes for a head and five for
a whole model on one core, and puts a row into results/text_selection_bits.json; an arm that stands there is not run again. `plot` draws
results/text_selection_bits.svg from the rows, with epsilon priced for every number of bits.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import tutti
from contract import task
from privacy.report import price_of
from server import tasks

RESULTS = Path(__file__).parent / "results"
ROWS, PICTURE = RESULTS / "text_selection_bits.json", RESULTS / "text_selection_bits.svg"
SHOWN = ("exact", "exact_address", "exact_none", "exact_phone_several")
PRICED_BITS = range(8, 17)


def spec_of(arm: str, weights: str | None) -> dict[str, Any]:
    """The task of an arm.

    >>> spec_of("all_z0_central", None)["privacy"]["mechanism"]
    'none'
    """
    trainable, z, lanes = arm.split("_")
    noise = float(z.removeprefix("z"))
    privacy: dict[str, Any] = {"mechanism": "none", "clip_norm": 0.01, "delta": 1e-5}
    if noise > 0:
        privacy |= {"mechanism": "gaussian" if lanes == "central" else "ddg", "noise_multiplier": noise}
    aggregation: dict[str, Any] = {"secure": False}
    if lanes != "central":
        aggregation = {"secure": True, "ideal": True, "bits": int(lanes.removeprefix("b"))}
        aggregation |= {"corrupt_fraction": 0.05, "drop_fraction": 0.1, "minimum_survivors": 80}
        privacy |= {"metrics": {"clip_norm": 64.0}} if noise > 0 else {}
    return {
        "name": "text-selection-bits",
        "population": f"bits-{arm}",
        "model": {"name": "text_selection", "trainable": trainable} | ({"init_from": weights} if weights else {}),
        "data": {"source": "synthetic", "devices": 2000, "locale": "en"},
        "cohort": {"report_goal": 100, "over_selection": 1.3, "minimum_reports": 90, "max_participations": 16},
        "deadlines": {"selection_s": 600, "reporting_s": 300},
        "training": {"batch_size": 16, "epochs": 1, "max_examples": 64, "learning_rate": 0.1},
        "server": {"optimizer": "adam", "learning_rate": 0.003},
        "privacy": privacy,
        "aggregation": aggregation,
        "rounds": 200,
    }


def planned_epsilon(arm: str, weights: str) -> float | None:
    """Epsilon of all rounds at the fewest survivors; None where nothing is promised."""
    prepared = tasks.prepare(task.parse_mapping(spec_of(arm, weights)))
    price = price_of(prepared.mechanism.event(prepared.spec.rounds), prepared.spec.privacy.delta)
    return None if price is None else price.epsilon


def measure(arm: str, *, data: str, weights: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ended = tutti.run(spec_of(arm, weights), data=data, seed=1, workers=0, store=folder)
    metrics: dict[str, float] = {name: round(ended["metrics"][f"held_out_{name}"], 4) for name in SHOWN}
    return {"arm": arm, "epsilon": ended["privacy"]["epsilon"]} | metrics


def draw(rows: dict[str, dict[str, Any]], weights: str) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tutti"
    from matplotlib import pyplot as plt

    picture, (heads, wholes, below) = plt.subplots(3, 1, sharex=True, figsize=(7.2, 8.4), layout="constrained")
    for axes, trainable, title in ((heads, "head", "head trained"), (wholes, "all", "whole model trained")):
        for z, colour in (("0", "tab:gray"), ("0.3", "tab:orange"), ("1", "tab:blue")):
            cells = {bits: rows.get(f"{trainable}_z{z}_b{bits}") for bits in PRICED_BITS}
            points = [(bits, row["exact_address"]) for bits, row in cells.items() if row is not None]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"z {z}, secure sum")
            if (central := rows.get(f"{trainable}_z{z}_central")) is not None:
                axes.axhline(central["exact_address"], color=colour, linestyle=":", label=f"z {z}, central")
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_ylabel("held-out addresses right")
        axes.set_ylim(0.89, 1.0)
    picture.legend(*heads.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    for trainable, style in (("head", "o-"), ("all", "s--")):
        priced = [(bits, planned_epsilon(f"{trainable}_z1_b{bits}", weights)) for bits in PRICED_BITS]
        promised = [(bits, epsilon) for bits, epsilon in priced if epsilon is not None]
        below.plot(*zip(*promised, strict=True), style, label=f"z 1, {'head' if trainable == 'head' else 'whole model'}")
    below.set_ylabel("epsilon of 200 rounds at delta 1e-5")
    below.set_xlabel("bits a lane (where there is no point, nothing is promised)")
    below.set_ylim(bottom=0)
    below.legend(fontsize=8)
    picture.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "plot"])
    parser.add_argument("--data")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--arms", nargs="+", default=[])
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {row["arm"]: row for row in json.loads(ROWS.read_text())} if ROWS.exists() else {}
    if given.action == "plot":
        draw(rows, given.weights)
        return
    if given.data is None:
        parser.error("run needs --data")
    for arm in given.arms:
        if arm not in rows:
            rows[arm] = measure(arm, data=given.data, weights=given.weights)
            print(json.dumps(rows[arm]))
            ROWS.write_text(json.dumps(sorted(rows.values(), key=lambda row: row["arm"]), indent=1) + "\n")


if __name__ == "__main__":
    main()
