"""Groups and windows of a simulated secure round: sums as in the plain, lateness as over a wire, the same every time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.data import open_loader
from client_sim.executor import Job
from client_sim.timing import Phase as DevicePhase
from client_sim.workers import open_executor
from contract import task
from contract.task import DataSpec
from privacy import accounting, events
from secagg import Phase
from server import tasks
from server.distributed_mechanism import DistributedMechanism, lanes
from tutti.secure_simulation import IdealSum, ProtocolSum
from tutti.virtual_windows import VirtualWindows

TASK: dict[str, Any] = {
    "name": "secure-groups",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "over_selection": 1.4, "minimum_reports": 18},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}},
    "aggregation": {
        "secure": True,
        "group_size": 10,
        "minimum_survivors": 7,
        "corrupt_fraction": 0.0,
        "drop_fraction": 0.2,
    },
    "rounds": 2,
}
DEVICES = np.arange(20, dtype=np.int64) * 7


@pytest.fixture(scope="module")
def world() -> tuple[Job, Any, DistributedMechanism]:
    prepared = tasks.prepare(task.parse_mapping(TASK))
    assert isinstance(prepared.mechanism, DistributedMechanism)
    plan = prepared.mechanism.plan_bytes(
        spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32
    )
    job = Job(plan=plan, parameters=prepared.model.init(0), devices=DEVICES, order_seed=1, noise_seed=bytes(32))
    executor = open_executor(prepared.spec, open_loader(DataSpec(devices=400), model="mlp"), workers=0)
    return job, executor, prepared.mechanism


def protocol(executor: Any, **options: Any) -> ProtocolSum:
    return ProtocolSum(executor, entropy=lambda n: bytes(range(n)), seed=1, lost_after_input=0.0, groups=2, **options)


def plain_sum(world: tuple[Job, Any, DistributedMechanism], survivors: np.ndarray) -> np.ndarray:
    """Of the same encoded updates, in the clear."""
    job, executor, _ = world
    return executor.run(replace(job, devices=survivors)).total


def test_the_groups_sums_add_up_to_the_plain_sum(world: tuple[Job, Any, DistributedMechanism]) -> None:
    job, executor, mechanism = world
    survivors = DEVICES[1:]
    plain = plain_sum(world, survivors)
    ideal = IdealSum(executor, lanes(mechanism.vectors), groups=2, floor=7).run(job, survivors=survivors, leaves={}).reveal()
    sealed = protocol(executor).run(job, survivors=survivors, leaves={int(DEVICES[0]): DevicePhase.UPLOAD})
    assert np.array_equal(sealed.reveal(), plain)  # type: ignore[arg-type]
    assert np.array_equal(ideal, plain)  # type: ignore[arg-type]
    assert (sealed.count, sealed.in_sum()) == (19, 19)


def test_a_lost_group_leaves_the_others_sum(world: tuple[Job, Any, DistributedMechanism]) -> None:
    job, executor, mechanism = world
    survivors = np.sort(np.concatenate([DEVICES[::2], DEVICES[1:9:2]]))  # of the second group only four
    plain = plain_sum(world, DEVICES[::2])
    for sealed in (
        protocol(executor).run(job, survivors=survivors, leaves={}),
        IdealSum(executor, lanes(mechanism.vectors), groups=2, floor=7).run(job, survivors=survivors, leaves={}),
    ):
        assert np.array_equal(sealed.reveal(), plain)  # type: ignore[arg-type]
        assert sealed.in_sum() == 10


def windows(reporting_s: float = 60.0) -> VirtualWindows:
    prepared = tasks.prepare(task.parse_mapping(TASK))
    assert isinstance(prepared.mechanism, DistributedMechanism)
    assert prepared.mechanism.secagg is not None
    return VirtualWindows(parameters=prepared.mechanism.secagg, groups=2, seed=1, reporting_s=reporting_s)


def test_who_is_too_late_for_a_short_phase_is_left_out(
    world: tuple[Job, Any, DistributedMechanism], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, executor, _ = world
    late = {int(DEVICES[4]): list(Phase).index(Phase.SHARE_KEYS), int(DEVICES[5]): list(Phase).index(Phase.CONSISTENCY_CHECK)}
    monkeypatch.setattr(VirtualWindows, "late", lambda *_: late)
    sealed = protocol(executor, windows=windows()).run(job, survivors=DEVICES, leaves={})
    kept = np.delete(DEVICES, 4)  # whoever missed the consistency check is in the sum all the same
    plain = plain_sum(world, kept)
    assert np.array_equal(sealed.reveal(), plain)  # type: ignore[arg-type]


def test_windows_shrink_to_what_devices_take_and_repeat_themselves(world: tuple[Job, Any, DistributedMechanism]) -> None:
    job, _, _ = world
    arrivals = np.linspace(2.0, 6.0, 19)
    first, second = windows(), windows()
    closed = [(one.input_window_s(arrivals, 20), one.late(job, DEVICES)) for _ in range(5) for one in (first, second)]
    assert closed[::2] == closed[1::2]
    assert closed[0][0] == 60.0
    assert arrivals[-4] <= closed[-1][0] < 20.0
    third = windows()
    third.load(first.dump())
    assert third.input_window_s(arrivals, 20) == first.input_window_s(arrivals, 20)


@pytest.mark.slow
def test_a_run_in_groups_commits_and_charges_one_groups_price(tmp_path: Path) -> None:
    result = tutti.run(TASK, store=str(tmp_path), workers=0, seed=3)
    alone = {**TASK, "cohort": {**TASK["cohort"], "report_goal": 10, "minimum_reports": 9}}
    alone["aggregation"] = {**TASK["aggregation"], "group_size": None}
    worst = events.from_json(tasks.prepare(task.parse_mapping(alone)).mechanism.event(2))
    assert result["rounds"] == 2
    assert result["privacy"]["epsilon"] <= accounting.price(worst, 1e-5).epsilon * (1 + 1e-6)
