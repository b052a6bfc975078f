"""Runs of one population that share their devices' records: caps and separation hold across tasks, and nobody's charges are lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.records import ParticipationRecords
from contract.errors import ErrorCode, TuttiError
from server.faults import FaultPoint
from server.store.values import RunState
from tutti import runs, shared_records, stores

pytestmark = pytest.mark.slow
TASK: dict[str, Any] = {
    "name": "first",
    "population": "own",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 3, "max_participations": 1, "minimum_separation": 2},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 5.0, "delta": 1e-5},
    "rounds": 3,
}


def play(store: Path, name: str, **options: Any) -> str:
    return str(tutti.run({**TASK, "name": name}, store=str(store), workers=0, seed=1, population="phones", **options)["run"])


def test_no_device_takes_part_more_often_than_its_cap_allows_in_all_tasks_together(tmp_path: Path) -> None:
    first, second = play(tmp_path, "first"), play(tmp_path, "second")
    with stores.opened(str(tmp_path)) as (database, _):
        found = [database.run(name) for name in (first, second)]
        assert [run.settings["shared_records"] for run in found] == [0, 3]
        assert {run.spec.population for run in found} == {"phones"}
        contributed = sum(row.reported for run in found for row in database.rounds(run.id))
    records = ParticipationRecords(num_devices=200, path=tmp_path / "devices.db", scope="population phones")
    times = records.participations(np.arange(200))
    records.close()
    assert times.max() == 1
    assert times.sum() >= contributed >= 18


def test_runs_that_share_nothing_keep_records_of_their_own(tmp_path: Path) -> None:
    for name in ("first", "second"):
        tutti.run({**TASK, "name": name}, store=str(tmp_path), workers=0, seed=1)
    with stores.opened(str(tmp_path)) as (database, _):
        assert all(run.settings["shared_records"] is None for run in database.runs())


def test_a_killed_run_goes_on_unless_others_have_used_its_devices_since(tmp_path: Path) -> None:
    def kill(point: FaultPoint, index: int) -> None:
        if point is FaultPoint.AFTER_CHARGE and index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, "killed", faults=kill)
    runs.resume("latest", store=str(tmp_path), workers=0)
    with stores.opened(str(tmp_path)) as (database, _):
        assert database.run("latest").state is RunState.COMPLETED
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path, "left", faults=kill)
    with stores.opened(str(tmp_path)) as (database, _):
        left = database.run("latest").id
    play(tmp_path, "later")
    with pytest.raises(TuttiError) as refused:
        runs.resume(left, store=str(tmp_path), workers=0)
    assert refused.value.code is ErrorCode.RUN_STATE
    with stores.opened(str(tmp_path)) as (database, _):
        assert database.run(left).state is RunState.RUNNING
        assert database.run(left).next_leaf == 1


def test_one_run_at_a_time_plays_on_shared_records_and_on_the_same_devices_only(tmp_path: Path) -> None:
    with shared_records.held(tmp_path, "phones"), pytest.raises(TuttiError) as refused:
        play(tmp_path, "second")
    assert refused.value.code is ErrorCode.LEASE_HELD
    play(tmp_path, "first")
    with pytest.raises(TuttiError) as refused:
        tutti.run(
            {**TASK, "data": {"source": "synthetic", "devices": 201}}, store=str(tmp_path), workers=0, population="phones"
        )
    assert refused.value.code is ErrorCode.DATA_INVALID
    with pytest.raises(TuttiError) as refused:
        play(tmp_path, "wire", transport="grpc")
    assert refused.value.code is ErrorCode.MECHANISM_UNSUPPORTED


def test_a_device_counts_on_from_where_another_task_left_it() -> None:
    records = ParticipationRecords(num_devices=3, first_index=10)
    records.charge(np.array([1]), 0)
    assert records.last(np.array([0, 1])).tolist() == [-1, 0]
    assert records.eligible(np.arange(3), 2, minimum_separation=2).tolist() == [True, False, True]
    records.refund(np.array([1]), 0)
    assert records.eligible(np.arange(3), 0, minimum_separation=2).all()
