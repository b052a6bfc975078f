"""Whole audits on a small task: they go on where they stopped, leave their record, and catch a server that forgets its noise."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from contract import task
from contract.errors import ErrorCode, TuttiError
from privacy.audit import Certainty, Verdict, overall
from privacy.central import CentralPlan
from privacy.noise import NoNoise
from tutti import audit, playing, runs, stores
from tutti.audit import arms, probes, probing, specification
from tutti.audit.probes import ProbeLoader
from tutti.cli import app

TASK: Mapping[str, Any] = {
    "name": "small",
    "population": "audit-test",
    "model": {"name": "next_word_small"},
    "data": {"source": "synthetic", "devices": 30},
    "cohort": {"report_goal": 10, "over_selection": 1.2},
    "deadlines": {"selection_s": 36000.0},
    "training": {"batch_size": 16, "max_examples": 16, "learning_rate": 0.5},
    "privacy": {"mechanism": "gaussian", "clip_norm": 0.3, "noise_multiplier": 4.0, "delta": 1e-5},
    "rounds": 1,
}
AUDIT: Mapping[str, Any] = {
    "name": "small",
    "task": TASK,
    "canaries": {"devices": [1, 2], "copies": [4], "per_cell": 2, "per_device": 16, "coins": 12, "coin_copies": 8},
    "references": 300,
    "treatments": [{"name": "z4"}],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    store = tmp_path_factory.mktemp("audit")
    return audit.run(audit.parse_mapping(AUDIT), store=str(store), workers=0), store


@pytest.mark.slow
def test_an_audit_measures_every_arm_and_leaves_its_files(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    assert [row["name"] for row in result["arms"]] == ["control", "z4"]
    assert result["verdict"] == "passed"
    for row in result["arms"]:
        assert row["grid"]["inserted"] == 4
        assert len(row["grid"]["canaries"]) == 8
        assert row["coins"]["devices"] == 1
    assert result["arms"][0]["coins"]["claimed"] is None
    assert result["arms"][1]["coins"]["claimed"] > result["arms"][1]["privacy"]["epsilon"]  # at a smaller delta
    assert all(Path(path).stat().st_size > 100 for path in result["files"].values())
    page = Path(result["files"]["page"]).read_text()
    assert page.count("<svg") == len([path for path in result["files"].values() if path.endswith(".svg")])
    assert json.loads(json.dumps(result)) == result


@pytest.mark.slow
def test_canaries_are_in_the_runs_entry_and_results_are_bound_to_the_models(finished: tuple[dict[str, Any], Path]) -> None:
    result, store = finished
    with stores.opened(str(store)) as (database, _):
        for row in result["arms"]:
            bodies = [json.loads(entry.body) for entry in database.entries(run=row["run"])]
            assert any("devices are an audit's" in line for line in bodies[0]["facts"]["not_covered"])
            (recorded,) = [body for body in bodies if body["kind"] == "audit-recorded"]
            assert recorded["model_digest"] == row["model_digest"]
            assert recorded["evidence"] == row["evidence"]
            assert recorded["measured"]["audit"] == result["audit"]


@pytest.mark.slow
def test_started_again_it_trains_nothing_and_records_nothing_twice(
    finished: tuple[dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, store = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an arm was trained again")

    monkeypatch.setattr(runs, "run", refuse)
    again = audit.run(audit.parse_mapping(AUDIT), store=str(store), workers=0)
    assert again["arms"] == result["arms"] or [row["grid"] for row in again["arms"]] == [row["grid"] for row in result["arms"]]
    assert again["cost"]["references_scored"] == 0
    with stores.opened(str(store)) as (database, _):
        assert sum(entry.kind == "audit-recorded" for entry in database.entries()) == 2


@pytest.mark.slow
def test_an_interrupted_arm_is_taken_up_and_not_begun_anew(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Stopping(playing.Silence):
        def round_ended(self, facts: Mapping[str, Any]) -> None:
            raise Stop

    spec = task.parse_mapping({**TASK, "rounds": 2})
    loader = ProbeLoader(canaries=40, dimension=256, seed=1)
    probing = probes.probing_task(spec, loader, rounds=2)
    with pytest.raises(Stop):
        arms.train("z4", probing, loader, seed=1, store=str(tmp_path), workers=0, progress=Stopping())
    arm = arms.train("z4", probing, loader, seed=1, store=str(tmp_path), workers=0)
    with stores.opened(str(tmp_path)) as (database, _):
        assert [run.id for run in database.runs()] == [arm.run]
        assert database.run(arm.run).next_leaf == 2


@pytest.mark.slow
def test_a_server_that_adds_no_noise_fails_by_its_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rounds at z 16 claim epsilon 0.6; a hundred right guesses of a hundred prove 2 at this level."""
    monkeypatch.setattr(
        CentralPlan, "stream", lambda self, key, first_leaf=0: NoNoise(dimension=self.grid.dimension, leaf=first_leaf)
    )
    quiet = {**TASK, "cohort": {"report_goal": 200, "over_selection": 1.4}, "rounds": 4}
    spec = audit.parse_mapping(
        {
            "name": "broken",
            "task": {**quiet, "privacy": {**TASK["privacy"], "noise_multiplier": 16.0}},
            "treatments": [{"name": "z16"}],
            "probes": {"canaries": 300, "dimension": 8192, "rounds": 4},
        }
    )
    probed = probing.probe(
        spec,
        spec.arm(spec.treatments[0]),
        "z16",
        store=str(tmp_path),
        directory=tmp_path / "probes",
        workers=0,
        rounds=lambda _: nullcontext(playing.Silence()),
    )
    judged = [one for one in probed.judgements(5e-5) if one.finding.certainty is Certainty.BOUND]
    assert overall(judged) is Verdict.FAILED
    assert all(0.4 < one.claimed < 1.0 < one.finding.epsilon for one in judged if one.finding.epsilon is not None)


def test_a_failed_audit_ends_with_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"measure": "z8: probes, final model", "epsilon": 2.2, "claimed": 0.93}
    result = {"arms": [], "verdict": "failed", "failed": [broken], "family_level": 1e-4, "files": {}}
    monkeypatch.setattr(audit, "run", lambda *_, **__: result)
    file = tmp_path / "audit.yaml"
    file.write_text(json.dumps(AUDIT))
    ran = CliRunner().invoke(app, ["audit", str(file), "--store", str(tmp_path / "store"), "--json"])
    assert json.loads(ran.stdout)["verdict"] == "failed"
    assert isinstance(ran.exception, TuttiError)
    assert ran.exception.code is ErrorCode.AUDIT_FAILED
    assert "2.200 above 0.930" in ran.exception.detail


@pytest.mark.slow
def test_a_stored_model_is_scored_from_its_file(finished: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    from safetensors import numpy as safetensors

    result, store = finished
    spec = audit.parse_mapping(AUDIT)
    row = result["arms"][1]
    with stores.opened(str(store)) as (database, _):
        stored = database.model(row["run"])
    model = arms.prepared(spec.task, ProbeLoader(canaries=1, dimension=256, seed=0))
    path = tmp_path / "model.safetensors"
    safetensors.save_file(dict(model.unravel(stored.parameters)), path)
    scored = audit.score_model(spec, path, Path(result["files"]["canaries"]))
    assert scored["model_digest"] == row["model_digest"]
    assert [one["rank"] for one in scored["grid"]["canaries"]] == [one["rank"] for one in row["grid"]["canaries"]]


def test_probes_are_clipped_directions_and_zeros() -> None:
    loader = ProbeLoader(canaries=20, dimension=256, seed=3)
    model = probes.build(256)
    from trainer import LocalTrainer

    trainer = LocalTrainer(model=model, batch_size=1, learning_rate=1.0)
    sent: list[NDArray[np.float32]] = []
    for index in range(20):
        delta, _ = trainer.train(model.init(0), model.featurize(loader.examples(index)), 0)
        sent.append(delta / probes.LENGTH)
    expected = loader.directions() * loader.included[:, None]
    np.testing.assert_allclose(np.stack(sent), expected, atol=1e-6)


def test_probing_task_keeps_the_mechanism_and_fits_its_population() -> None:
    spec = task.parse_mapping(
        {**TASK, "cohort": {"report_goal": 5000, "minimum_separation": 3, "max_participations": 2}, "rounds": 50}
    )
    probing = probes.probing_task(spec, ProbeLoader(canaries=400, dimension=256, seed=0), rounds=4)
    assert probing.privacy == spec.privacy
    assert probing.cohort.minimum_separation == 3
    assert 2 <= probing.cohort.report_goal * 4 <= 400
    assert specification.of_task(probing).arms[0].name == "control"
