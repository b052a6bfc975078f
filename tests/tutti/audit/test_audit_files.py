"""Audit files: their form, their arms, and a plain task as an audit."""

from pathlib import Path

import pytest

from contract import task
from contract.task import TaskFormError
from tutti.audit import specification

TASK = {
    "population": "p",
    "model": {"name": "next_word_small"},
    "cohort": {"report_goal": 4},
    "privacy": {"mechanism": "tree", "clip_norm": 0.3, "noise_multiplier": 2.0, "delta": 1e-5, "restart_every": 8},
    "rounds": 2,
}


def test_control_is_the_task_without_noise_but_with_its_clip() -> None:
    spec = specification.of_task(task.parse_mapping(TASK))
    control, treatment = (spec.arm(arm) for arm in spec.arms)
    assert (control.privacy.mechanism, control.privacy.clip_norm, control.privacy.restart_every) == ("none", 0.3, None)
    assert treatment.privacy == spec.task.privacy
    assert control.name != treatment.name


def test_a_change_is_merged_and_a_change_of_mechanism_replaces_what_belongs_to_the_old_one() -> None:
    ddg = {"mechanism": "ddg", "clip_norm": 0.1, "noise_multiplier": 0.5, "delta": 1e-5}
    arms = [
        {"name": "a", "change": {"privacy": {"noise_multiplier": 0.5}}},
        {"name": "b", "change": {"privacy": ddg, "aggregation": {"secure": True, "ideal": True}}},
    ]
    spec = specification.parse_mapping({"name": "x", "task": {"name": "t", **TASK}, "treatments": arms})
    merged, replaced = (spec.arm(arm) for arm in spec.treatments)
    assert (merged.privacy.noise_multiplier, merged.privacy.restart_every) == (0.5, 8)
    assert (replaced.privacy.mechanism, replaced.privacy.restart_every, replaced.aggregation.ideal) == ("ddg", None, True)


def test_noise_multipliers_of_the_command_line_are_treatments() -> None:
    spec = specification.with_noise(specification.of_task(task.parse_mapping(TASK)), [0.5, 2])
    assert [arm.name for arm in spec.arms] == ["control", "z0.5", "z2"]
    assert spec.arm(spec.treatments[1]).privacy.noise_multiplier == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"treatments": [{"name": "control"}]},
        {"treatments": [{"name": "a", "change": {"privacy": {"noise": 1}}}]},
        {"treatments": [{"name": "a", "change": {"privacy": {"mechanism": "magic"}}}]},
        {"references": 10},
        {"canary": {}},
    ],
)
def test_what_is_no_audit_is_refused_with_its_key(wrong: dict[str, object]) -> None:
    with pytest.raises(TaskFormError):
        specification.parse_mapping({"name": "x", "task": {"name": "t", **TASK}, **wrong})


def test_files_hold_an_audit_a_task_or_the_name_of_a_task(tmp_path: Path) -> None:
    import yaml

    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(TASK))
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump({"task": TASK, "references": 500}))
    (tmp_path / "beside.yaml").write_text(yaml.safe_dump({"task": "plain.yaml", "treatments": [{"name": "same"}]}))
    assert specification.read(tmp_path / "plain.yaml").treatments[0].name == "task"
    assert specification.read(tmp_path / "whole.yaml").references == 500
    assert specification.read(tmp_path / "beside.yaml").task.name == "plain"


def test_an_audit_survives_its_mapping() -> None:
    spec = specification.of_task(task.parse_mapping(TASK))
    assert specification.parse_mapping(specification.to_mapping(spec)) == spec
    assert specification.parse_mapping(specification.to_mapping(spec)).digest == spec.digest


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "deploy" / "tasks").glob("audit_*.yaml")), ids=lambda p: p.stem
)
def test_shipped_audits_can_be_read_and_seed_no_noise(path: Path) -> None:
    spec = specification.read(path)
    assert spec.treatments
    assert all(spec.arm(arm).rounds >= 1 for arm in spec.arms)
