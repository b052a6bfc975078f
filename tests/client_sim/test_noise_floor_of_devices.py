"""A device holds a plan's noise to what our own accountant would ask for it, whatever deviation the plan states."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client_sim.egress import CheckedPlan, DevicePolicy, Refusal, check_plan, noise_suffices, true_noise_multiplier
from contract import task
from contract.ids import AggregationId, Digest, SessionId
from contract.messages import Resource, TaskAssignment
from privacy import accounting, distributed_plans, zcdp
from privacy.distributed import DistributedPlan
from server import tasks

TASK: dict[str, Any] = {
    "name": "floors",
    "population": "p",
    "model": {"name": "mlp"},
    "cohort": {"report_goal": 100, "minimum_reports": 100},
    "rounds": 2,
    "privacy": {
        "mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5,
        "metrics": {"clip_norm": 1.0, "noise_multiplier": 1.0}, "adaptive_clip": {},
    },
    "aggregation": {"secure": True, "bits": 20, "minimum_survivors": 90},
}  # fmt: skip


def told(mechanism: str = "ddg") -> dict[str, Any]:
    mapping = {**TASK, "privacy": {**TASK["privacy"], "mechanism": mechanism}}
    prepared = tasks.prepare(task.parse_mapping(mapping))
    text = prepared.mechanism.plan_bytes(
        spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint=""
    )
    return json.loads(text)


def answer(body: dict[str, Any], policy: DevicePolicy) -> CheckedPlan | Refusal:
    length = 4 * body["encoding"]["vectors"][0]["plan"]["rotation"]["dimension"]
    assignment = TaskAssignment(
        session_id=SessionId("s"), aggregation_id=AggregationId("a"), authorization_token=b"", plan=json.dumps(body).encode(),
        model=Resource("model", length, Digest("d")), secure=True,
    )  # fmt: skip
    return check_plan(assignment, run="r", leaf=0, policy=policy)


def narrow(given: dict[str, Any], *, honest: int) -> Iterator[dict[str, Any]]:
    """Plans whose stated deviation meets every promise on paper, though their noise is nearly always 0."""
    for sigma in np.arange(0.12, 0.5, 0.04):
        for scale in np.geomspace(0.2, 20, 60):
            stated = sigma * math.sqrt(honest) / (scale * float(given["clip_norm"])) * 0.999
            yield {
                **given,
                "local_sigma": repr(float(sigma)),
                "scale": repr(float(scale)),
                "noise_multiplier": repr(float(stated)),
            }


@pytest.mark.parametrize("vector", [0, 1, 2])
def test_noise_that_is_nearly_always_zero_is_refused_in_every_vector(vector: int) -> None:
    body = told()
    assert [each["name"] for each in body["encoding"]["vectors"]] == ["delta", "metrics", "clip_bits"]
    assert isinstance(answer(body, DevicePolicy(least_noise_multiplier=0.5)), CheckedPlan)
    for lie in narrow(body["encoding"]["vectors"][vector]["plan"], honest=85):
        body["encoding"]["vectors"][vector]["plan"] = lie
        assert isinstance(answer(body, DevicePolicy()), Refusal)
        assert isinstance(answer(body, DevicePolicy(least_noise_multiplier=0.5)), Refusal)


@pytest.mark.parametrize("mechanism", ["ddg", "skellam"])
def test_a_floor_is_held_against_the_price_of_one_release(mechanism: str) -> None:
    """Every plan that passes a floor costs at most what a Gaussian of that multiplier costs, rounding and tau included."""
    policy = DevicePolicy(least_noise_multiplier=0.5)
    body = told(mechanism)
    given = body["encoding"]["vectors"][1]["plan"]
    passed = 0
    for sigma in (0.51, 0.7, 1.0, 3.0):
        for scale in np.geomspace(0.3, 60, 12):
            stated = sigma * math.sqrt(85) / scale * 0.999
            lie = {**given, "local_sigma": repr(sigma), "scale": repr(float(scale)), "noise_multiplier": repr(float(stated))}
            body["encoding"]["vectors"][1]["plan"] = lie
            if isinstance(answer(body, policy), Refusal):
                continue
            passed += 1
            event = replace(DistributedPlan.from_json(lie).event((90,), 5), draws=0)
            assert accounting.price(event, 1e-5).epsilon <= zcdp.epsilon_generic(1 / (2 * 0.5**2), 1e-5) * (1 + 1e-6)
    assert passed


@pytest.mark.parametrize("mechanism", ["ddg", "skellam"])
@pytest.mark.parametrize("bits", [10, 12, 16, None])
def test_plans_as_the_planner_makes_them_pass_a_floor_a_little_below_their_promise(mechanism: str, bits: int | None) -> None:
    made = distributed_plans.plan(
        mechanism=mechanism, dimension=64, clip_norm=1.0, noise_multiplier=1.0, devices=40, minimum_survivors=32,
        corrupt_fraction=0.05, bits=bits,
    )  # fmt: skip
    on_paper = made.local_sigma * math.sqrt(30) / made.inflated_norm
    assert 0.97 * on_paper <= true_noise_multiplier(made) <= on_paper * (1 + 1e-9)
    assert noise_suffices(made)


@pytest.mark.parametrize(
    "change",
    [{"minimum_survivors": 5}, {"corrupt": 90}, {"local_sigma": "0"}, {"local_sigma": "0.3"}, {"local_sigma": "1e-300"}],
)
def test_a_plan_without_an_honest_price_is_refused_at_every_floor(change: dict[str, Any]) -> None:
    body = told()
    body["encoding"]["vectors"][0]["plan"].update(change)
    for floor in (0.0, 1e-9, 1.0):
        assert isinstance(answer(body, DevicePolicy(least_noise_multiplier=floor)), Refusal)
