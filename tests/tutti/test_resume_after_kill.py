"""`kill -9` at every enumerated place of a round, then resume: nothing is revealed without a charge, and a replay ends the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tutti
from server.faults import FaultPoint
from tutti import runs, stores

TASK: dict[str, Any] = {
    "name": "kill",
    "population": "kill-test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 4,
}
SCRIPT = """
import json, os, signal, sys
import tutti
task, store, point, occurrence, seeds = json.loads(sys.argv[1])
reached = []
def kill(at, index):
    if at.value == point:
        reached.append(index)
    if len(reached) == occurrence:
        os.kill(os.getpid(), signal.SIGKILL)
tutti.run(task, store=store, workers=0, faults=kill, **seeds)
"""


FOLLOWING: dict[str, Any] = {
    **TASK,
    "name": "kill-following",
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4},
    "privacy": {
        "mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 0.4, "delta": 1e-5, "adaptive_clip": {}, "adaptive_zeroing": {},
    },
}  # fmt: skip
SAMPLED: dict[str, Any] = {
    **TASK,
    "name": "kill-sampled",
    "cohort": {"report_goal": 6},
    "privacy": {
        "mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "sampling": "poisson", "sampling_rate": 0.03,
    },
}  # fmt: skip
ARRIVING: dict[str, Any] = {
    **TASK,
    "name": "kill-arriving",
    "data": {"source": "synthetic", "devices": 200, "cache": {"most_examples": 8, "longest_days": 0.05, "arrival_days": 0.1}},
}


def killed(store: Path, point: FaultPoint, occurrence: int, task: dict[str, Any] = TASK, **seeds: int) -> None:
    """Starts a run in a process of its own that kills itself the `occurrence`-th time that it comes to `point`."""
    arguments = json.dumps([task, str(store), point.value, occurrence, seeds])
    ended = subprocess.run([sys.executable, "-c", SCRIPT, arguments], capture_output=True, timeout=120, check=False)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]


def promises(store: Path) -> None:
    """No outcome without a charge, no charge without exactly one outcome but perhaps the last, no model without an entry."""
    with stores.opened(str(store)) as (database, _):
        bodies = [json.loads(entry.body) for entry in database.entries()]
        run = database.runs()[0]
        rounds = database.rounds(run.id)
    charged = [body["round"] for body in bodies if body["kind"] == "round-charged"]
    committed = [body["round"] for body in bodies if body.get("result") == "committed"]
    assert len(set(charged)) == len(charged)
    assert set(committed) <= set(charged)
    assert all(row.outcome_entry is not None for row in rounds[:-1])
    leaves = [body["leaf"] for body in bodies if body.get("result") == "committed"]
    assert len(set(leaves)) == len(leaves)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run, never stopped."""
    return tutti.run(TASK, store=str(tmp_path_factory.mktemp("whole")), workers=0, seed=3, seed_noise=4)


@pytest.mark.slow
@pytest.mark.parametrize("point", FaultPoint)
def test_a_seeded_run_ends_with_the_same_model(point: FaultPoint, whole: dict[str, Any], tmp_path: Path) -> None:
    killed(tmp_path, point, 3, seed=3, seed_noise=4)
    promises(tmp_path)
    resumed = runs.resume("latest", store=str(tmp_path), workers=0)
    promises(tmp_path)
    assert resumed["model_digest"] == whole["model_digest"]
    assert resumed["privacy"] == whole["privacy"]


@pytest.mark.slow
@pytest.mark.parametrize("task", [FOLLOWING, SAMPLED, ARRIVING], ids=["adaptive", "poisson", "arriving"])
@pytest.mark.parametrize("point", [FaultPoint.BEFORE_COMMIT, FaultPoint.AFTER_COMMIT])
def test_clips_coins_and_caches_of_a_seeded_run_are_those_of_a_whole_one(
    point: FaultPoint, task: dict[str, Any], tmp_path: Path
) -> None:
    undisturbed = tutti.run(task, store=str(tmp_path / "whole"), workers=0, seed=3, seed_noise=4)
    killed(tmp_path / "killed", point, 3, task=task, seed=3, seed_noise=4)
    resumed = runs.resume("latest", store=str(tmp_path / "killed"), workers=0)
    promises(tmp_path / "killed")
    assert resumed["model_digest"] == undisturbed["model_digest"]


@pytest.mark.slow
@pytest.mark.parametrize("point", [FaultPoint.AFTER_CHARGE, FaultPoint.BEFORE_COMMIT])
def test_noise_is_never_used_for_other_data(point: FaultPoint, tmp_path: Path) -> None:
    """Fresh rounding gives another sum after the crash: the leaf is used up, and the charge stands."""
    killed(tmp_path, point, 2, seed=3)
    result = runs.resume("latest", store=str(tmp_path), workers=0)
    promises(tmp_path)
    with stores.opened(str(tmp_path)) as (database, _):
        bodies = [json.loads(entry.body) for entry in database.entries()]
    abandoned = [body for body in bodies if body.get("result") == "abandoned" and body["reason"] == "interrupted"]
    assert [(body["leaf"], body["leaf_used"]) for body in abandoned] == [(1, True)]
    assert result["rounds"] == TASK["rounds"] - 1
    last = [body["event"] for body in bodies if body["kind"] == "round-charged"][-1]
    assert last["leaves"] == TASK["rounds"]
