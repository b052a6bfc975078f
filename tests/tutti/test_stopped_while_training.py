"""A fleet's state and records are on disk while its workers train: whatever ends a run there, it goes on as if it had not been."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.executor import Job, Updates
from client_sim.journal import FleetJournal
from client_sim.records import ParticipationRecords
from client_sim.workers import InMemoryExecutor
from contract.errors import ErrorCode, TuttiError
from server.store.values import RunState
from tutti import runs, stores

pytestmark = pytest.mark.slow
TASK: dict[str, Any] = {
    "name": "stopped",
    "population": "stopped-test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 4,
}
SECURE: dict[str, Any] = {
    **TASK,
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4},
    "aggregation": {"secure": True, "ideal": True},
}
KILLED_ROUND = 2
SCRIPT = """
import json, os, signal, sys
import tutti
from client_sim.journal import FleetJournal
task, store, when, index, workers = json.loads(sys.argv[1])
save = FleetJournal.save
def killed(self, round_index, state, **more):
    if when == "before" and round_index == index + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, round_index, state, **more)
    if when == "after" and round_index == index + 1:
        os.kill(os.getpid(), signal.SIGKILL)
FleetJournal.save = killed
tutti.run(task, store=store, workers=workers, seed=3, seed_noise=4)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run, never stopped."""
    return tutti.run(TASK, store=str(tmp_path_factory.mktemp("whole")), workers=0, seed=3, seed_noise=4)


def kill(store: Path, when: str, *, task: dict[str, Any] = TASK, workers: int = 0) -> None:
    arguments = json.dumps([task, str(store), when, KILLED_ROUND, workers])
    ended = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, timeout=120, check=False)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]


def stands_at(store: Path) -> tuple[str, int, int]:
    """The run, the round at which its server stands, and the newest that its fleet's journal holds."""
    with stores.opened(str(store)) as (database, _):
        run = database.run("latest")
    journal = FleetJournal(store / "devices.db", run=run.id)
    latest = journal.latest()
    journal.close()
    assert latest is not None
    return run.id, run.next_round, latest[0]


def charged_on_disk(store: Path, leaf: int) -> int:
    with sqlite3.connect(store / "devices.db") as devices:
        return int(devices.execute("SELECT count(*) FROM participation WHERE last = ?", (leaf,)).fetchone()[0])


@pytest.mark.parametrize(("when", "workers"), [("before", 0), ("after", 0), ("after", 1)])
def test_a_run_killed_while_it_trains_ends_with_the_same_model(
    when: str, workers: int, whole: dict[str, Any], tmp_path: Path
) -> None:
    kill(tmp_path, when, workers=workers)
    run, server, fleet = stands_at(tmp_path)
    assert (server, fleet) == (KILLED_ROUND, KILLED_ROUND + (when == "after"))
    # Charges of the round and the fleet's state after it are on disk together, or neither is.
    assert (charged_on_disk(tmp_path, KILLED_ROUND) >= TASK["cohort"]["report_goal"]) == (when == "after")
    resumed = runs.resume(run, store=str(tmp_path), workers=0)
    assert resumed["model_digest"] == whole["model_digest"]
    assert resumed["privacy"] == whole["privacy"]


def test_a_secure_round_is_in_the_records_before_its_sum_and_in_the_journal_after_it(tmp_path: Path) -> None:
    undisturbed = tutti.run(SECURE, store=str(tmp_path / "whole"), workers=0, seed=3, seed_noise=4)
    store = tmp_path / "killed"
    kill(store, "before", task=SECURE)
    assert charged_on_disk(store, KILLED_ROUND) >= SECURE["cohort"]["minimum_reports"]
    resumed = runs.resume("latest", store=str(store), workers=0)
    assert resumed["model_digest"] == undisturbed["model_digest"]


def test_a_run_whose_training_failed_once_goes_on_as_if_it_had_not(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, jobs = InMemoryExecutor.run, list[Job]()

    def once(self: InMemoryExecutor, job: Job) -> Updates:
        jobs.append(job)
        if len(jobs) == KILLED_ROUND + 1:
            # An update may leave its device now: its participation is on disk.
            assert charged_on_disk(tmp_path, KILLED_ROUND) >= len(job.devices)
            raise TuttiError(ErrorCode.DATA_INVALID, "a device's data cannot be read")
        return run(self, job)

    monkeypatch.setattr(InMemoryExecutor, "run", once)
    with pytest.raises(TuttiError, match="cannot be read"):
        tutti.run(TASK, store=str(tmp_path), workers=0, seed=3, seed_noise=4)
    name, server, fleet = stands_at(tmp_path)
    assert (server, fleet) == (KILLED_ROUND, KILLED_ROUND + 1)
    resumed = runs.resume(name, store=str(tmp_path), workers=0)
    assert resumed["model_digest"] == whole["model_digest"]
    records = ParticipationRecords(num_devices=200, path=tmp_path / "devices.db", scope=name)
    assert records.participations(np.arange(200)).sum() >= TASK["rounds"] * TASK["cohort"]["report_goal"]
    assert records.participations(np.arange(200)).max() <= (TASK["rounds"] + 1) // 2  # separation
    records.close()


def test_a_run_that_is_paused_while_a_round_trains_has_charged_nobody_for_it(whole: dict[str, Any], tmp_path: Path) -> None:
    class Pauses:
        def started(self, *, committed: int, note: str) -> None: ...

        def round_ended(self, facts: Any) -> None:
            if facts["round"] == 0:
                with stores.opened(str(tmp_path)) as (database, _):
                    database.set_run_state(database.run("latest").id, RunState.PAUSED)

    tutti.run(TASK, store=str(tmp_path), workers=1, seed=3, seed_noise=4, progress=Pauses())
    name, server, fleet = stands_at(tmp_path)
    assert (server, fleet) == (1, 1)
    assert charged_on_disk(tmp_path, 1) == 0
    assert runs.resume(name, store=str(tmp_path), workers=0)["model_digest"] == whole["model_digest"]


def test_a_journal_that_cannot_be_written_stops_the_run_before_its_sum_is_taken(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = FleetJournal.save

    def full(self: FleetJournal, round_index: int, *state: Any, **more: Any) -> None:
        if round_index == KILLED_ROUND + 1:
            raise sqlite3.OperationalError("database or disk is full")
        save(self, round_index, *state, **more)

    with monkeypatch.context() as patch:
        patch.setattr(FleetJournal, "save", full)
        with pytest.raises(sqlite3.OperationalError):
            tutti.run(TASK, store=str(tmp_path), workers=1, seed=3, seed_noise=4)
    name, server, fleet = stands_at(tmp_path)
    assert (server, fleet) == (KILLED_ROUND, KILLED_ROUND)
    with stores.opened(str(tmp_path)) as (database, _):
        assert [row.state for row in database.rounds(name)] == ["committed"] * KILLED_ROUND
    assert runs.resume(name, store=str(tmp_path), workers=0)["model_digest"] == whole["model_digest"]
