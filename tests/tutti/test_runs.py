"""The Python interface and the command line, in process, on the small model."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import tutti
from contract import task
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskFormError
from privacy.report import summarize
from server import registration, tasks
from server.registration import RunSettings
from server.store.values import RunState
from tutti import cli, plots, stores, templates
from tutti.commands import inspect
from tutti.launching import SimulatedRuns

TASK: dict[str, Any] = {
    "name": "small",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 60},
    "cohort": {"report_goal": 6, "over_selection": 1.5, "minimum_reports": 4, "minimum_separation": 1},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5},
    "rounds": 3,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one completed run."""
    path = tmp_path_factory.mktemp("store")
    tutti.run(TASK, store=str(path), workers=0, seed=1)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Runs the command line and gives its exit code."""
    monkeypatch.setattr("sys.argv", ["tutti", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_run_object_has_every_key(store: Path) -> None:
    result = tutti.run(TASK, store=str(store), workers=0, seed=1)
    assert set(result) >= {"run", "task", "rounds", "abandoned", "model_digest", "metrics", "privacy", "seconds"}
    keys = {"mechanism", "rho", "epsilon", "delta", "conversion", "epsilons", "unit", "adjacency", "tier", "first_lines"}
    assert set(result["privacy"]) == keys | {"open_round"}
    assert result["rounds"] == 3


def test_every_run_of_a_task_is_a_new_one(store: Path) -> None:
    with stores.opened(str(store)) as (database, _):
        runs = database.runs()
    assert len({run.id for run in runs}) == len(runs) >= 1
    assert [run.ordinal for run in runs] == list(range(len(runs)))


def test_the_list_of_runs_comes_in_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stores.opened(str(tmp_path)) as (database, keys):
        launcher = SimulatedRuns(database, keys)
        made = [launcher.register(task.parse_mapping(TASK), seed=1, seed_noise=None).id for _ in range(3)]
    inspect.list_runs(limit=2, store=str(tmp_path), json_output=True)
    newest = json.loads(capsys.readouterr().out)
    assert ([row["run"] for row in newest["runs"]], newest["next"]) == (made[1:], made[1])
    inspect.list_runs(limit=2, before=newest["next"][:12], store=str(tmp_path), json_output=True)
    older = json.loads(capsys.readouterr().out)
    assert ([row["run"] for row in older["runs"]], older["next"]) == (made[:1], None)
    inspect.list_runs(limit=2, store=str(tmp_path))
    assert f"--before {made[1][:12]}" in capsys.readouterr().err


def test_a_seed_alone_leaves_the_noise_fresh(tmp_path: Path) -> None:
    first, second = (tutti.run(TASK, store=str(tmp_path / name), workers=0, seed=1) for name in "ab")
    assert first["run"] == second["run"]
    assert first["model_digest"] != second["model_digest"]
    assert not any("VOID" in line for line in first["privacy"]["first_lines"])


def test_seeded_noise_replays_and_the_report_opens_with_it(tmp_path: Path) -> None:
    first, second = (tutti.run(TASK, store=str(tmp_path / name), workers=0, seed=1, seed_noise=2) for name in "ab")
    assert first["model_digest"] == second["model_digest"]
    assert first["privacy"]["first_lines"][0].startswith("GUARANTEE VOID")
    assert (first["privacy"]["epsilon"], first["privacy"]["rho"]) == (None, None)
    with stores.opened(str(tmp_path / "a")) as (database, _):
        run = database.run("latest")
        assert not any(row.facts[name] is not None for row in database.rounds(run.id) for name in ("rho", "epsilon"))
        assert set(plots.history(database, run).epsilons) == {None}


def test_people_are_told_no_less_than_a_run_costs(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stores.opened(str(store)) as (database, _):
        epsilon = summarize([entry.body for entry in database.entries(run=database.run("latest").id)]).epsilon or math.inf
    for words, pattern in (
        (("runs", "show"), r"epsilon\s+([0-9.]+) at delta"),
        (("runs", "list"), r"([0-9.]+) at 1e-05"),
    ):
        assert call(monkeypatch, *words, "--store", str(store)) == 0
        told = re.findall(pattern, capsys.readouterr().out)
        assert told
        assert all(epsilon <= float(one) <= 1.02 * epsilon for one in told)


def test_the_noise_key_is_destroyed_at_the_end(store: Path) -> None:
    assert not list((store / "keys").glob("*.key"))


def test_json_prints_one_object(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "runs", "show", "--store", str(store), "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "small"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"privacy": {"mechanism": "tree", "noise_multiplier": 1.0, "delta": 1e-5}}, "privacy.clip_norm"),
        ({"privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 1.0}}, "privacy.delta"),
        ({"privacy": {"mechanism": "none", "epsilon": 1.0}}, "privacy.mechanism"),
        ({"model": {"name": "nothing"}}, "model.name"),
        ({"cohort": {"report_goal": 6, "minimum_reports": 7}}, "cohort.minimum_reports"),
        ({"rounds": 0}, "rounds"),
        ({"server": {"optimizer": "adam", "momentum": 0.9}}, "server.momentum"),
    ],
)
def test_a_fault_names_its_key(
    change: dict[str, Any], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(TASK | change))
    assert call(monkeypatch, "task", "check", str(path), "--json") == ErrorCode.TASK_INVALID.value.exit_code
    assert key in [problem["path"] for problem in json.loads(capsys.readouterr().out)["problems"]]
    with pytest.raises(TaskFormError):
        tutti.run(path, store=str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_an_unknown_run_is_said_so(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "runs", "show", "zzz", "--store", str(store)) == ErrorCode.NOT_FOUND.value.exit_code
    assert "zzz" in capsys.readouterr().err


def test_a_paused_run_goes_on(tmp_path: Path) -> None:
    class Pausing:
        def started(self, *, committed: int, note: str) -> None:
            del committed, note

        def round_ended(self, facts: Any) -> None:
            if facts["leaf"] == 0 and facts["state"] == "committed":
                with stores.opened(str(tmp_path)) as (database, _):
                    database.set_run_state(database.run("latest").id, RunState.PAUSED)

    paused = tutti.run(TASK, store=str(tmp_path), workers=0, seed=1, seed_noise=2, progress=Pausing())
    assert paused["rounds"] == 1
    whole = tutti.run(TASK, store=str(tmp_path / "whole"), workers=0, seed=1, seed_noise=2)
    assert tutti.runs.resume("latest", store=str(tmp_path), workers=0)["model_digest"] == whole["model_digest"]


def test_pictures_and_exports_are_written(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (
        ("plot", "latest", "--to", str(tmp_path / "run.svg")),
        ("compare", "latest", "latest", "--to", str(tmp_path / "pair.png")),
        ("sessions", "latest", "--to", str(tmp_path / "sessions.png")),
        ("export", "latest", "--to", str(tmp_path / "export")),
    ):
        assert call(monkeypatch, *words, "--store", str(store)) == 0
    assert {path.name for path in (tmp_path / "export").iterdir()} >= {"model.safetensors", "model_card.md"}
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("run.svg", "pair.png", "sessions.png"))


def test_templates_run_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates.write(tmp_path / "mine")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    result = tutti.run(tmp_path / "mine" / "task.yaml", store=str(tmp_path / "store"), workers=0, seed=1)
    assert result["rounds"] == 10
    with pytest.raises(TuttiError):
        templates.write(tmp_path / "mine")


def test_the_latest_run_is_the_one_that_began_last_however_soon_after_another(tmp_path: Path) -> None:
    mapping = {
        "population": "p",
        "model": {"name": "mlp"},
        "cohort": {"report_goal": 4},
        "rounds": 1,
        "privacy": {"mechanism": "none"},
    }
    with stores.opened(str(tmp_path)) as (database, keys):
        for name in "abcdefgh":
            prepared = tasks.prepare(task.parse_mapping({**mapping, "name": name}))
            run = registration.register(
                store=database,
                keys=keys,
                prepared=prepared,
                settings=RunSettings(),
                not_covered=[],
                start=prepared.model.init(0),
            )
            assert database.run("latest").id == run.id
