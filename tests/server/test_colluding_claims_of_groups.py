"""A task that names a corrupt fraction has a claim against a colluding server, however small its groups are."""

from pathlib import Path
from typing import Any

import pytest

from client_sim.secure_work import secure_context
from contract import task
from contract.collusion import colluding_devices
from privacy import accounting, distributed_plans
from privacy import report as reports
from privacy.events import from_json
from privacy.ledger.noised_sums import NoisedSums
from secagg import receipt, thresholds
from server import registration, tasks
from server.distributed_mechanism import DistributedMechanism
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.store.store import Store


def spec_of(
    *, goal: int = 992, size: int | None = 16, fraction: float = 0.05, survivors: int = 14, **privacy: Any
) -> task.TaskSpec:
    return task.parse_mapping(
        {
            "name": "g", "population": "p", "model": {"name": "mlp"}, "rounds": 2,
            "cohort": {"report_goal": goal, "minimum_reports": goal, "max_participations": 1},
            "privacy": {"mechanism": "skellam", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-6, **privacy},
            "aggregation": {
                "secure": True, "corrupt_fraction": fraction, "drop_fraction": 0.1, "minimum_survivors": survivors,
                **({} if size is None else {"group_size": size}),
            },
        }
    )  # fmt: skip


def mechanism_of(spec: task.TaskSpec) -> DistributedMechanism:
    mechanism = tasks.prepare(spec).mechanism
    assert isinstance(mechanism, DistributedMechanism)
    return mechanism


def planned(spec: task.TaskSpec, folder: Path) -> dict[str, Any]:
    prepared, store = tasks.prepare(spec), Store.open(str(folder))
    run = registration.register(
        store=store, keys=KeyDirectory(folder / "k"), prepared=prepared, settings=RunSettings(devices=100_000), not_covered=[],
        start=prepared.model.init(0),
    )  # fmt: skip
    (body, *_) = [entry.body for entry in store.ledger.entries(run=run.id)]
    store.close()
    return reports.planned_report(body)


def honest_noise(report: dict[str, Any]) -> dict[str, str]:
    (line,) = [line for line in report["assumptions"] if line["name"] == "honest-noise"]
    return line


@pytest.mark.parametrize(
    ("fraction", "devices", "corrupt"),
    [(0.05, 16, 1), (0.05, 19, 1), (0.05, 40, 2), (1e-9, 3, 1), (0.0, 1000, 0), (0.29, 100, 29)],
)
def test_a_fraction_stands_for_one_device_at_least(fraction: float, devices: int, corrupt: int) -> None:
    assert colluding_devices(fraction, devices) == corrupt
    assert thresholds.complete_topology(devices, fraction).corrupt_neighbours == corrupt


def test_groups_of_sixteen_have_a_colluding_claim_that_prices_one_device_of_each(tmp_path: Path) -> None:
    spec = spec_of()
    mechanism = mechanism_of(spec)
    report = planned(spec, tmp_path)
    claims = mechanism.events([14 * 62])
    assert mechanism.update.corrupt == 1
    aggregation = {"secure": True, "group_size": 16, "corrupt_fraction": "0.05"}
    assert NoisedSums.of({"cohort": {"report_goal": 992}, "aggregation": aggregation}).corrupt == 1
    # Noise is made for the 13 honest ones of 14 survivors: z c from those alone.
    alone = accounting.price(from_json(claims["colluding"]), 1e-6).epsilon
    assert accounting.price(from_json(claims["event"]), 1e-6).epsilon < alone
    assert mechanism.update.local_sigma == pytest.approx(mechanism.update.scale * 2.0 * 0.5 / 13**0.5)
    assert report["guarantee"]["epsilon"] < report["guarantee"]["colluding"]["epsilon"]
    said = honest_noise(report)
    assert said["text"].startswith("Of each group's 16 devices at most 1 (the fraction 0.05, and one at least)")
    assert "may put all devices it has into one group" in said["evidence"]
    assert not any("NO CLAIM" in line for line in report["first_lines"])


def test_one_group_speaks_of_the_round(tmp_path: Path) -> None:
    report = planned(spec_of(goal=100, size=None, survivors=80), tmp_path)
    assert honest_noise(report)["text"].startswith("Of a round's 100 devices at most 5 ")
    assert "group" not in honest_noise(report)["evidence"]


@pytest.mark.parametrize(
    "changes", [{"fraction": 0.0}, {"mechanism": "none", "clip_norm": None, "noise_multiplier": None, "delta": None}]
)
def test_a_task_without_the_claim_says_so_first(changes: dict[str, Any], tmp_path: Path) -> None:
    report = planned(spec_of(**changes), tmp_path)
    assert (report["guarantee"]["colluding"] or {"epsilon": None})["epsilon"] is None
    assert any(line.startswith("NO CLAIM against a colluding server: ") for line in report["first_lines"])
    if changes == {"fraction": 0.0}:
        assert honest_noise(report)["text"] == "Every one of each group's devices adds its noise and shows it to nobody."


def test_devices_server_ledger_and_receipts_count_the_same_corrupt_devices() -> None:
    spec = spec_of()
    mechanism = mechanism_of(spec)
    text = mechanism.plan_bytes(spec=spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint="")
    parameters = secure_context(text).parameters
    counted = colluding_devices(parameters.corrupt_fraction, parameters.roster_size)
    assert counted == mechanism.update.corrupt == parameters.topology(16).corrupt_neighbours == 1
    assert receipt.colluding_devices is colluding_devices is distributed_plans.colluding_devices


def test_two_survivors_of_whom_one_may_collude_are_too_few() -> None:
    with pytest.raises(task.TaskFormError, match="survivors"):
        tasks.prepare(spec_of(goal=6, size=3, survivors=2))
