"""Over gRPC too the simulation checks what the devices promise, and no fleet waits for devices that cannot come."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.fleet_setup import Seen
from client_sim.fleet_sightings import Sighted
from client_sim.journal import FleetJournal, FleetState
from contract import task
from contract.errors import ErrorCode, TuttiError
from contract.ids import SessionId
from privacy.report import run_report
from server.faults import FaultPoint
from server.store.values import Round, RunState
from tutti import runs, stores
from tutti.loopback_oracle import Muster, WatchedReleases

TASK: dict[str, Any] = {
    "name": "watched",
    "population": "watched",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 30},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1, "max_participations": 3},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 4,
}


def statuses(store: Path) -> dict[str, str]:
    with stores.opened(str(store)) as (database, _):
        (run,) = database.runs()
        report = run_report([entry.body for entry in database.entries(run=run.id)])
    return {line["name"]: line["status"] for line in report["assumptions"]}


class PausedAfter:
    """Asks the run to stop after some rounds."""

    def __init__(self, store: Path, rounds: int) -> None:
        self._store, self._left = store, rounds

    def started(self, *, committed: int, note: str) -> None:
        """Nothing to say."""

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        """One round less."""
        self._left -= 1
        if self._left == 0:
            with stores.opened(str(self._store)) as (database, _):
                database.set_run_state(database.runs()[0].id, RunState.PAUSED)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_run_over_grpc_says_that_separation_was_checked_on_it(tmp_path: Path) -> None:
    assert tutti.run(TASK, store=str(tmp_path), transport="grpc", workers=2)["rounds"] == TASK["rounds"]
    found = statuses(tmp_path)
    assert (found["minimum-separation"], found["max-participations"]) == ("checked", "checked")
    with stores.opened(str(tmp_path)) as (database, _):
        facts = database.rounds(database.runs()[0].id)[-1].facts
    assert facts["violations"] == 0


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_devices_that_lost_their_records_are_found_over_grpc(tmp_path: Path) -> None:
    """Ten of twenty take part, forget it, and ten of twenty take part: nearly always some come too soon. It is found across a resume."""
    spec = TASK | {"data": {"source": "synthetic", "devices": 20}, "rounds": 2}
    spec["cohort"] = TASK["cohort"] | {"report_goal": 10, "minimum_reports": 10}
    tutti.run(spec, store=str(tmp_path), transport="grpc", workers=1, progress=PausedAfter(tmp_path, 1))
    with sqlite3.connect(tmp_path / "devices.db") as devices:
        devices.execute("DELETE FROM participation")
    assert runs.resume("latest", store=str(tmp_path), workers=1)["rounds"] == 2
    assert statuses(tmp_path)["minimum-separation"] == "violated"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_fleet_smaller_than_the_cohort_goes_on_after_an_interrupted_round(tmp_path: Path) -> None:
    """Selection would last ten minutes a round; whoever uploaded in the interrupted round is not waited for."""
    spec = TASK | {"data": {"source": "synthetic", "devices": 7}, "rounds": 3}
    spec["cohort"] = {"report_goal": 5, "over_selection": 2.0, "minimum_reports": 2}

    def crash(point: FaultPoint, index: int) -> None:
        if (point, index) == (FaultPoint.AFTER_CHARGE, 1):
            raise TuttiError(ErrorCode.INTERNAL, "as good as dead")

    with pytest.raises(TuttiError, match="as good as dead"):
        tutti.run(spec, store=str(tmp_path), transport="grpc", workers=1, faults=crash)
    result = runs.resume("latest", store=str(tmp_path), workers=1)
    assert (result["rounds"], result["abandoned"]) == (2, 1)
    with stores.opened(str(tmp_path)) as (database, _):
        (run,) = database.runs()
        abandoned = [json.loads(entry.body) for entry in database.entries() if b"abandoned" in entry.body]
    assert [(body["reason"], body["leaf_used"]) for body in abandoned] == [("interrupted", True)]
    assert run.state is RunState.COMPLETED
    assert statuses(tmp_path)["minimum-separation"] == "checked"


def test_a_release_that_too_few_can_join_is_not_waited_for() -> None:
    sighted = Sighted()
    muster = Muster(task.parse_mapping(TASK), sighted, num_devices=6)
    assert muster(2) == 6
    sighted.add(Seen({}, {2: 2}))
    assert muster(2) == 4
    muster.require_enough()
    sighted.add(Seen({}, {2: 1}))
    with pytest.raises(TuttiError, match=r"release 2 needs 4 devices, and of all 6 only 3") as refused:
        muster.require_enough()
    assert refused.value.code is ErrorCode.TOO_FEW_DEVICES
    assert muster(3) == 6
    muster.require_enough()


def test_sessions_of_the_next_round_are_kept_and_those_that_left_are_forgotten() -> None:
    sighted = Sighted()
    names = [SessionId(name) for name in ("in-0", "lost-0", "in-1", "in-2")]
    sighted.add(Seen(dict(zip(names[:3], (0, 1, 2), strict=True)), {}))
    assert sighted.devices([names[0]]) == [0]
    sighted.add(Seen({names[3]: 3}, {}))
    assert sighted.devices([names[2]]) == [2]
    assert sighted.devices([names[1]]) is None
    assert sighted.devices([names[3]]) == [3]


def committed(index: int) -> Round:
    return Round(
        run="r", index=index, leaf=index, state="committed", reason=None, reported=4, facts={}, sum_seal=None, charge_entry=1,
        outcome_entry=2, model_digest="d",
    )  # fmt: skip


@pytest.mark.parametrize(("on_record", "complete"), [([0], True), ([0, 1], False)])
def test_an_oracle_that_missed_a_release_says_nothing(tmp_path: Path, on_record: list[int], complete: bool) -> None:
    spec, journal = task.parse_mapping(TASK), FleetJournal(tmp_path / "devices.db", run="r")
    first = WatchedReleases(spec, journal, [], num_devices=3)
    first.oracle.observe(0, np.array([1]))
    empty = np.empty(0)
    journal.save(1, FleetState(now_s=0.0, wakes_s=empty, records=empty.reshape(5, 0), oracle=first.oracle.dump()))
    again = WatchedReleases(spec, journal, [committed(index) for index in on_record], num_devices=3)
    assert again.complete is complete
    assert again.oracle.evidence == first.oracle.evidence
    journal.close()
