"""The TensorFlow Federated engine as far as it goes without TensorFlow Federated: what it refuses, what it costs, how it is made."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tutti
from contract import task
from contract.errors import ErrorCode, TuttiError
from contract.task import TaskFormError
from privacy import accounting
from privacy.events import AdaptiveClipEvent, DistributedEvent, Law, TreeEvent, UnboundedEvent
from tutti.engines import environment, frames, tff_plans

TASK: dict[str, Any] = {
    "name": "small",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 200},
    "cohort": {"report_goal": 8, "over_selection": 1.5, "minimum_reports": 6, "minimum_separation": 1},
    "rounds": 3,
}
NOISE = {"clip_norm": 0.5, "noise_multiplier": 2.0, "delta": 1e-5}
SECURE = {"secure": True, "bits": 10, "minimum_survivors": 5, "corrupt_fraction": 0.2}


def plan_of(**changes: Any) -> tff_plans.TffPlan:
    spec = task.parse_mapping({**TASK, **changes})
    return tff_plans.plan(spec, dimension=100, weighted=False, noise_seed=1)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"privacy": {"mechanism": "blt", **NOISE}}, "privacy.mechanism"),
        ({"model": {"name": "my_model:make"}}, "model.name"),
        ({"server": {"optimizer": "adagrad", "learning_rate": 0.1}}, "server.optimizer"),
        ({"privacy": {"mechanism": "ddg", **NOISE}, "aggregation": {**SECURE, "bits": 24}}, "aggregation.bits"),
        ({"privacy": {"mechanism": "tree", "adaptive_clip": {}, **NOISE}}, "privacy.restart_every"),
    ],
)
def test_what_tff_cannot_do_is_refused_by_name(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    with pytest.raises(TaskFormError) as error:
        tutti.run({**TASK, **change}, store=str(tmp_path), engine="tff")
    assert path in [problem.path for problem in error.value.problems]


def test_weights_and_noise_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(TaskFormError, match="weighs by examples"):
        tutti.run({**TASK, "privacy": {"mechanism": "tree", **NOISE}}, store=str(tmp_path), engine="tff-weighted")


def test_without_an_environment_the_command_that_makes_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(environment.DIRECTORY_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(TuttiError, match="uv sync --frozen --project") as error:
        environment.interpreter()
    assert error.value.code is ErrorCode.ENGINE_MISSING


def test_an_environment_whose_installation_fails_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setenv(environment.DIRECTORY_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(environment.shutil, "which", lambda _: "/bin/false")
    with pytest.raises(TuttiError, match="could not be made") as error:
        environment.interpreter(told.append)
    assert error.value.code is ErrorCode.ENGINE_MISSING
    assert "first use only" in told[0]


def test_a_tree_costs_on_tff_what_it_costs_on_ours_but_its_noise_is_floating_point() -> None:
    event = plan_of(privacy={"mechanism": "tree", "restart_every": 2, **NOISE}).event([8, 8, 8])
    assert isinstance(event, TreeEvent)
    assert (event.leaves, event.restart_every, event.law) == (3, 2, Law.FLOATING_POINT)


def test_bits_and_vectors_cost_together_what_the_task_says() -> None:
    privacy = {"mechanism": "gaussian", "adaptive_clip": {"bit_noise_multiplier": 4.0}, **NOISE}
    event = plan_of(privacy=privacy).event([8, 8])
    assert isinstance(event, AdaptiveClipEvent)
    plain = plan_of(privacy={"mechanism": "gaussian", **NOISE}).event([8, 8])
    rhos = [accounting.price(each, 1e-5).rho or 0.0 for each in (event, plain)]
    assert math.isclose(*rhos, rel_tol=1e-9)


def test_honest_survivors_at_the_floor_still_add_up_to_the_noise_that_was_asked_for() -> None:
    plan = plan_of(privacy={"mechanism": "skellam", **NOISE}, aggregation=SECURE)
    found = plan.distributed
    assert found is not None
    honest = 5 - found.corrupt
    assert found.corrupt == 1
    assert math.isclose(math.sqrt(honest) * found.local_sigma / found.scale, 2.0 * 0.5, rel_tol=1e-9)
    event = plan.event([6, 5], corrupt=1)
    assert isinstance(event, DistributedEvent)
    assert min(event.contributors) == 4


def test_no_noise_promises_nothing() -> None:
    assert isinstance(plan_of().event([8]), UnboundedEvent)
    assert not plan_of(aggregation={"secure": True, "minimum_survivors": 5}).private


def test_messages_that_are_cut_short_are_read_as_an_end() -> None:
    stream = io.BytesIO()
    frames.write(stream, {"op": "x"}, {"a": np.arange(10)})
    whole = stream.getvalue()
    assert frames.read(io.BytesIO(b"")) is None
    assert frames.read(io.BytesIO(whole[:-1])) is None
    assert frames.read(io.BytesIO(whole[:5])) is None
    found = frames.read(io.BytesIO(whole))
    assert found is not None
    assert found[1]["a"].tolist() == list(range(10))


def test_an_array_that_is_too_large_is_not_waited_for() -> None:
    with pytest.raises(ValueError, match="larger than"):
        frames.read(io.BytesIO(b'{"arrays": [["a", "<f8", [1000000000000]]]}\n'))
