"""A task is refused where a run would not do what it says."""

from typing import Any

import pytest

from contract import task
from contract.task import TaskSpec
from privacy import accounting, central, events
from server import tasks
from server.mechanisms import CentralMechanism

TASK: dict[str, Any] = {
    "population": "test",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 20, "minimum_separation": 7},
    "privacy": {"mechanism": "gaussian", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5},
    "rounds": 8,
}
ANYBODY: dict[str, Any] = {"cohort": {"minimum_separation": 0}}


def changed(section: str, **values: Any) -> TaskSpec:
    """The task with other values in a section."""
    return task.parse_mapping({**TASK, section: {**TASK.get(section, {}), **values}})


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("cohort.minimum_separation", changed("privacy", sampling="poisson", sampling_rate=0.1)),
        (
            "privacy.sampling",
            task.replace(changed("privacy", sampling="poisson", sampling_rate=0.1, mechanism="tree"), **ANYBODY),
        ),
        ("privacy.sampling_rate", task.replace(changed("privacy", sampling="poisson"), **ANYBODY)),
        ("privacy.sampling_rate", changed("privacy", sampling_rate=0.1)),
        ("privacy.adaptive_clip", changed("privacy", mechanism="tree", adaptive_clip={})),
        ("privacy.adaptive_clip", changed("privacy", mechanism="banded", adaptive_clip={})),
        ("privacy.adaptive_zeroing", changed("privacy", mechanism="blt", adaptive_zeroing={})),
        ("privacy.adaptive_clip", changed("privacy", mechanism="none", noise_multiplier=None, adaptive_clip={})),
        ("aggregation.scale", task.replace(changed("privacy", mechanism="ddg"), aggregation={"secure": True, "scale": "auto"})),
        ("aggregation.scale", changed("aggregation", scale="auto", bits=12)),
        ("privacy.bands", changed("privacy", bands=2)),
        ("privacy.bands", changed("privacy", mechanism="banded", bands=9)),
        ("privacy.buffers", changed("privacy", buffers=2)),
        ("data.cache.longest_days", changed("data", cache={"longest_days": 7})),
        (
            "aggregation.group_size",
            task.replace(
                changed("privacy", mechanism="ddg"), aggregation={"secure": True, "minimum_survivors": 5, "group_size": 7}
            ),
        ),
    ],
)
def test_what_a_run_would_pass_over_is_refused(key: str, spec: TaskSpec) -> None:
    assert [problem.path for problem in tasks.problems(spec)] == [key]


def test_bands_of_the_task_are_the_strategys() -> None:
    prepared = tasks.prepare(changed("privacy", mechanism="banded", bands=2))
    assert isinstance(prepared.mechanism, CentralMechanism)
    assert prepared.mechanism.event(8)["bands"] == 2


def test_a_target_is_met_by_the_run_and_not_only_by_its_calibration() -> None:
    spec = changed("privacy", mechanism="blt", buffers=1, noise_multiplier=None, epsilon=3.0)
    tried = list[int]()
    plan_of = central.plan

    def planned(**values: Any) -> central.CentralPlan:
        tried.append(values["dimension"])
        return plan_of(**values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(central, "plan", planned)
        prepared = tasks.prepare(spec)
    assert set(tried) == {prepared.model.num_parameters}
    assert accounting.price(events.from_json(prepared.mechanism.event(8)), 1e-5).epsilon <= 3.0
