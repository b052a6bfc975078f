"""A cohort whose roster no message carries is refused when the task is made, with the group size that passes."""

import pytest

from contract.task import TaskFormError, parse_mapping
from server import tasks

TASK = {
    "population": "p",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 20_000},
    "rounds": 2,
    "privacy": {"mechanism": "none"},
}


def test_cohort_beyond_a_message_is_told_to_go_in_groups():
    with pytest.raises(TaskFormError) as caught:
        tasks.prepare(parse_mapping({**TASK, "aggregation": {"secure": True}}))
    (problem,) = caught.value.problems
    assert problem.path == "aggregation"
    assert "above the 1048576 of a message" in problem.message
    assert problem.cure.startswith("Set aggregation.group_size to 15")
    prepared = tasks.prepare(parse_mapping({**TASK, "aggregation": {"secure": True, "group_size": 10_000}}))
    assert prepared.spec.groups == 2
    assert prepared.mechanism.secagg.roster_size == 10_000
