"""`--engine tff`: the same task, cohorts, entries and report on TensorFlow Federated."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from client_sim.data.convert import convert
from contract.errors import ErrorCode, TuttiError
from tutti import playing, runs, stores
from tutti.engines import process
from tutti.engines.process import EngineProcess

pytestmark = pytest.mark.tff
TASK: dict[str, Any] = {
    "name": "small",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 8, "over_selection": 1.5, "minimum_reports": 6, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.2},
    "rounds": 3,
}
NOISE = {"clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5}
SECURE = {"secure": True, "bits": 16, "minimum_survivors": 5}


@pytest.fixture
def shared(engine: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> EngineProcess:
    """Runs use the process that is there already."""

    @contextlib.contextmanager
    def start(tell: object = None) -> Iterator[EngineProcess]:
        yield engine

    monkeypatch.setattr(process, "start", start)
    return engine


def entries(store: Path, run: str) -> list[dict[str, Any]]:
    with stores.opened(str(store)) as (database, _):
        return [json.loads(entry.body) for entry in database.entries(run=run)]


def test_twenty_rounds_end_with_the_same_accuracy_and_the_same_entries(shared: EngineProcess, tmp_path: Path) -> None:
    task = {**TASK, "rounds": 20}
    ours = tutti.run(task, store=str(tmp_path / "ours"), workers=0, seed=1)
    theirs = tutti.run(task, store=str(tmp_path / "theirs"), seed=1, engine="tff")
    # The same devices and examples in the same order: sampling error would be 0.03, but only rounding differs.
    assert abs(ours["metrics"]["held_out_accuracy"] - theirs["metrics"]["held_out_accuracy"]) <= 0.002
    assert abs(ours["metrics"]["held_out_loss"] - theirs["metrics"]["held_out_loss"]) <= 1e-4
    assert theirs["rounds"] == 20
    kinds = [
        [entry["kind"] for entry in entries(tmp_path / name, run["run"])] for name, run in (("ours", ours), ("theirs", theirs))
    ]
    assert kinds[0] == kinds[1]
    assert "tensorflow-federated 0.87.0" in entries(tmp_path / "theirs", theirs["run"])[0]["facts"]["engine"]


def test_devices_train_on_what_their_caches_hold_and_empty_ones_add_nothing(shared: EngineProcess, tmp_path: Path) -> None:
    cache = {"most_examples": 8, "longest_days": 0.02, "arrival_days": 0.1}
    task = {**TASK, "data": {**TASK["data"], "cache": cache}}
    runs_of = {
        name: tutti.run(task, store=str(tmp_path / name), engine=name, seed=1, workers=0 if name == "tutti" else None)
        for name in ("tutti", "tff")
    }
    losses = [run["metrics"]["held_out_loss"] for run in runs_of.values()]
    assert abs(losses[0] - losses[1]) <= 1e-4


@pytest.mark.parametrize(
    ("privacy", "aggregation"),
    [
        ({"mechanism": "tree", "restart_every": 2, **NOISE}, {}),
        ({"mechanism": "gaussian", "adaptive_clip": {"bit_noise_multiplier": 4.0}, **NOISE}, {}),
        ({"mechanism": "ddg", **NOISE}, SECURE),
    ],
)
def test_private_tasks_are_charged_before_each_round_and_say_what_is_not_accounted(
    shared: EngineProcess, tmp_path: Path, privacy: dict[str, Any], aggregation: dict[str, Any]
) -> None:
    task = {**TASK, "rounds": 2, "privacy": privacy, "aggregation": aggregation}
    result = tutti.run(task, store=str(tmp_path), seed=1, engine="tff")
    found = [entry for entry in entries(tmp_path, result["run"]) if entry["kind"] in ("round-charged", "round-outcome")]
    assert [entry["kind"] for entry in found if entry.get("result") != "abandoned"] == ["round-charged", "round-outcome"] * 2
    assert result["privacy"]["epsilon"] > 0
    lines = " ".join(result["privacy"]["first_lines"])
    assert "tensorflow-federated 0.87.0" in lines
    assert "floating point" in lines
    assert ("adds in the clear" in lines) == bool(aggregation)


def test_a_secure_task_compiles_to_secure_aggregation_alone(engine: EngineProcess) -> None:
    shapes = {"W1": [784, 2], "b1": [2], "W2": [2, 62], "b2": [62]}
    facts = {
        "model": {"name": "mlp", "shapes": shapes, "specs": {"x": ["<f4", [784]], "y": ["<i4", []]}},
        "learning_rate": 0.1,
        "server": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0},
    }
    parameters = {"parameters": np.zeros(784 * 2 + 2 + 124 + 62, np.float32)}
    secure = {
        "kind": "distributed",
        "mechanism": "skellam",
        "clients": 8,
        "bits": 16,
        "beta": 0.0,
        "clip_norm": 0.5,
        "noise_multiplier": 1.0,
    }
    found = engine.call("build", {**facts, "aggregation": secure}, parameters)[0]["aggregations"]
    assert found == {"secure": True, "unsecure": False}
    found = engine.call("build", {**facts, "aggregation": {"kind": "none"}}, parameters)[0]["aggregations"]
    assert found["unsecure"]


def test_a_run_of_another_engine_is_not_resumed_by_ours(shared: EngineProcess, tmp_path: Path) -> None:
    class Stop(playing.Silence):
        def round_ended(self, facts: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tutti.run(TASK, store=str(tmp_path), seed=1, engine="tff", progress=Stop())
    with pytest.raises(TuttiError, match="whose noise ended with it") as error:
        runs.resume("latest", store=str(tmp_path))
    assert error.value.code is ErrorCode.RUN_STATE


def test_tff_reads_the_client_data_that_we_write(engine: EngineProcess, tmp_path: Path) -> None:
    rows = [{"client_id": name, "text": f"says {name}", "y": number} for number, name in enumerate("abca")]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert(tmp_path / "d.jsonl", tmp_path / "d.sqlite")
    asked = {"path": str(tmp_path / "d.sqlite"), "features": {"text": ["text", []], "y": ["int", []]}}
    clients = engine.call("client_data", asked)[0]["clients"]
    assert sorted(clients) == ["a", "b", "c"]
    assert clients["a"] == [{"text": "says a", "y": 0}, {"text": "says a", "y": 3}]
