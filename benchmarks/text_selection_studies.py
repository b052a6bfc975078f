"""Two studies of text selection that its makers did: a label bug that federated metrics give away, and another language.

    python benchmarks/text_selection_studies.py labels --data text_selection.jsonl.gz --weights text_selection_public_weights.npz
    python benchmarks/text_selection_studies.py locale --weights text_selection_public_weights.npz [--rounds N]

`labels`: the devices' pipeline has a bug that cuts the last word off an address before it becomes a label. Both arms are the same round of
the head over public weights, with secure sums (ideal) and without noise; compared are metrics that left the devices inside the sum.
`locale`: the shipped task with `data.locale: ja` and nothing else changed, against the public English weights on the same held-out users.

Each prints one JSON object and, with --write, puts it into results/text_selection_studies.json under its name.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np

import tutti
from client_sim.data import open_loader
from client_sim.data.loader import Example, Loader
from client_sim.executor import Job
from client_sim.workers import open_executor
from contract import plan as plans
from contract import task
from server import tasks
from server.distributed_mechanism import DistributedMechanism, lanes
from trainer.models import registry
from tutti.evaluation import HeldOut
from tutti.secure_simulation import IdealSum

RESULTS = Path(__file__).parent / "results" / "text_selection_studies.json"
SHIPPED = Path(__file__).parents[1] / "deploy" / "tasks" / "text_selection.yaml"
SHOWN = (
    "exact",
    "precision",
    "exact_several",
    "exact_none",
    "exact_address",
    "precision_address",
    "exact_phone_several",
    "precision_phone",
)


class CutAddresses:
    """A loader whose pipeline loses the last word of every address that a user selected: the planted bug."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    @property
    def num_devices(self) -> int:
        """As many as there are."""
        return self._loader.num_devices

    @property
    def digest(self) -> str:
        """Another one: these are other labels."""
        return self._loader.digest[::-1]

    def examples(self, index: int) -> Sequence[Example]:
        """The device's examples with wrong labels."""
        return [without_last_word(example) for example in self._loader.examples(index)]

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Held-out users as they are."""
        return self._loader.held_out()


def without_last_word(example: Example) -> Example:
    """An address that ends before its last word, unless that was tapped; anything else as it is.

    >>> spoilt = without_last_word({"text": "at 5 Elm St", "tap": [3, 4], "selection": [3, 11], "entity": "address"})
    >>> spoilt["selection"]
    [3, 8]
    """
    if example.get("entity") != "address":
        return example
    text, selection, tap = str(example["text"]), pair(example["selection"]), pair(example["tap"])
    cut = text.rstrip()[: selection[1]].rfind(" ", selection[0], selection[1])
    return {**example, "selection": [selection[0], cut]} if cut >= tap[1] else example


def pair(value: Any) -> tuple[int, int]:
    """Two offsets."""
    start, end = value
    return int(start), int(end)


def label_spec(weights: str, devices: int) -> task.TaskSpec:
    """The head over public weights, ideal secure sums without noise, federated metrics inside them."""
    return task.replace(
        task.read(SHIPPED),
        model={"init_from": weights, "trainable": "head"},
        data={"devices": None},
        cohort={"report_goal": devices, "minimum_reports": devices, "max_participations": None},
        privacy={"mechanism": "none", "noise_multiplier": None, "delta": None, "metrics": {"clip_norm": 32.0}},
        aggregation={"ideal": True, "bits": None, "minimum_survivors": devices * 8 // 10},
        rounds=1,
    )


def federated(spec: task.TaskSpec, loader: Loader) -> dict[str, float]:
    """The federated metrics of a first round: what the server reads in the sum of the first devices' counts, and nothing else."""
    prepared = tasks.prepare(spec)
    mechanism, start = prepared.mechanism, prepared.model.init(0)
    assert isinstance(mechanism, DistributedMechanism)
    plan = mechanism.plan_bytes(spec=spec, run="r" * 64, round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32)
    devices = np.arange(spec.cohort.report_goal, dtype=np.int64)
    job = Job(plan=plan, parameters=start, devices=devices, order_seed=1, noise_seed=bytes(32))  # no noise: it rounds
    executor = open_executor(spec, loader, workers=0)
    total = IdealSum(executor, lanes(mechanism.vectors)).run(job, survivors=devices, leaves={}).reveal()
    assert total is not None
    _, found = mechanism.decode(total, count=len(devices), seed=plans.rotation_seed(plans.decode(plan)))
    return {name: round(found[f"federated_{name}"], 4) for name in SHOWN if f"federated_{name}" in found}


def labels(data: str, weights: str, *, devices: int) -> dict[str, Any]:
    """Federated metrics with and without the bug."""
    spec = label_spec(weights, devices)
    loader = open_loader(task.replace(spec, data={"source": data}).data, model="text_selection")
    right, wrong = federated(spec, loader), federated(spec, CutAddresses(loader))
    return {
        "work": f"text_selection head over public weights, {devices} devices, metrics from inside one sum",
        "right_labels": right,
        "addresses_without_their_last_word": wrong,
        "change": {name: round(wrong[name] - right[name], 4) for name in right},
    }


def locale(weights: str, *, rounds: int) -> dict[str, Any]:
    """Japanese devices: the shipped task with its locale changed, and the English weights, on the same held-out users."""
    spec = task.replace(task.read(SHIPPED), data={"locale": "ja"}, aggregation={"ideal": True}, rounds=rounds)
    with tempfile.TemporaryDirectory() as folder:
        result = tutti.run(spec, store=folder, seed=1)
    model = registry.get("text_selection", init_from=weights)
    proxy = HeldOut.of(model, open_loader(spec.data, model="text_selection")).measure(model.init(0))
    trained = {name.removeprefix("held_out_"): value for name, value in result["metrics"].items() if "held_out_exact" in name}
    names = ("exact", "exact_address", "exact_none", "exact_phone")
    ours = {name: round(trained[name], 4) for name in names}
    theirs = {name: round(proxy[f"held_out_{name}"], 4) for name in names}
    return {
        "work": f"locale ja, the shipped task otherwise (z = {spec.privacy.noise_multiplier}, ideal sum), {rounds} rounds",
        "trained": ours,
        "proxy": theirs,
        "gain_in_address_accuracy": round(ours["exact_address"] - theirs["exact_address"], 4),
        "epsilon": result["privacy"]["epsilon"],
        "delta": result["privacy"]["delta"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["labels", "locale"])
    parser.add_argument("--data")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.study == "labels":
        if given.data is None:
            parser.error("labels needs --data")
        found = labels(given.data, given.weights, devices=given.devices)
    else:
        found = locale(given.weights, rounds=given.rounds)
    print(json.dumps(found, indent=1))
    if given.write:
        before: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**before, given.study: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
