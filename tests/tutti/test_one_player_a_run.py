"""A run is played by one process at a time; whoever comes second is told so, and changes nothing."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tutti
from contract.errors import ErrorCode, TuttiError
from server.jobs import JobKind, Jobs
from server.store.values import RunState
from tutti import runs, stores
from tutti.playing import Silence

TASK: dict[str, Any] = {
    "name": "alone",
    "population": "alone-test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 3,
}
RESUME = """
import sys
from contract.errors import TuttiError
from tutti import runs
try:
    runs.resume("latest", store=sys.argv[1], workers=0)
except TuttiError as error:
    print(error.code.slug, error.detail)
"""


class Meanwhile(Silence):
    """Pauses the run after its first round, and has another process resume it before this one has stopped."""

    def __init__(self, store: Path) -> None:
        self.store, self.said, self.state = store, "", None

    def round_ended(self, facts: Mapping[str, Any]) -> None:
        if self.said:
            return
        with stores.opened(str(self.store)) as (database, _):
            database.set_run_state(database.run("latest").id, RunState.PAUSED)
            told = subprocess.run([sys.executable, "-c", RESUME, str(self.store)], capture_output=True, text=True, check=True)
            self.said, self.state = told.stdout, database.run("latest").state


@pytest.mark.timeout(120)
def test_who_resumes_a_run_that_another_process_plays_is_told_so_and_what_to_do(tmp_path: Path) -> None:
    watched = Meanwhile(tmp_path)
    tutti.run(TASK, store=str(tmp_path), workers=0, seed=1, progress=watched)
    with stores.opened(str(tmp_path)) as (database, _):
        run = database.run("latest")
    assert watched.said.startswith(f"lease-held run {run.id[:12]} is being played by another process")
    assert f"tutti runs pause {run.id[:12]}" in watched.said
    assert watched.state is RunState.PAUSED  # who was refused has not undone the pause
    assert runs.resume(run.id, store=str(tmp_path), workers=0)["rounds"] == TASK["rounds"]
    assert not list((tmp_path / "playing").iterdir())


def test_a_run_whose_job_a_runner_has_leased_is_the_runners(tmp_path: Path) -> None:
    class Stop(Silence):
        def round_ended(self, facts: Mapping[str, Any]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tutti.run(TASK, store=str(tmp_path), workers=0, seed=1, progress=Stop())
    with stores.opened(str(tmp_path)) as (database, _):
        run, jobs = database.run("latest").id, Jobs(database.transactions)
        jobs.add(job=run, kind=JobKind.RUN, population="alone-test", requested_by="t", workers=0, approved=True)
        assert jobs.player(run) is None
        jobs.take("runner-elsewhere")
        assert Jobs(database.transactions, now_s=lambda: 4e9).player(run) is None  # its lease has run out by then
        with pytest.raises(TuttiError, match="played by runner-elsewhere, which holds the lease") as refused:
            runs.resume(run, store=str(tmp_path), workers=0)
        assert refused.value.code is ErrorCode.LEASE_HELD
    assert runs.resume(run, store=str(tmp_path), workers=0, holder="runner-elsewhere")["rounds"] == TASK["rounds"]
