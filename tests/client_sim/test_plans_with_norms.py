"""Plans whose norms follow quantiles: a device checks them as it checks the clip, and nothing leaves that the plan does not name."""

import hashlib
from typing import Any

import numpy as np
import pytest

from client_sim.egress import CheckedPlan, DevicePolicy, Refusal, check_plan
from contract import plan
from contract.entropy import system_entropy
from contract.ids import AggregationId, Digest, SessionId
from contract.messages import Resource, TaskAssignment
from privacy import grid
from privacy.norm_tracking import RoundNorms

GRID = grid.plan(dimension=3, clip_norm=1.0)
NORMS = RoundNorms(fixed_norm=1.0, clip_norm=0.25, clip_bits=True, quantile=4.0, zero_beyond=8.0)
OUTPUTS = {"delta": 3, "clip_bits": 1, "zeroing_bits": 1}


def checked(
    norms: dict[str, Any] | None = None, outputs: dict[str, int] = OUTPUTS, policy: DevicePolicy | None = None, **encoding: Any
) -> CheckedPlan | Refusal:
    model = np.zeros(3, "<f4").tobytes()
    digest = Digest(hashlib.sha256(model).hexdigest())
    body = plan.Plan(
        task={}, run="r", round_index=9, leaf=4, model_digest=digest,
        encoding={"kind": "tracked-grid", "grid": GRID.to_json(), "norms": {**NORMS.to_json(), **(norms or {})}, **encoding},
        outputs=tuple(plan.Output(name=name, length=length, aggregated=True) for name, length in outputs.items()),
    )  # fmt: skip
    assignment = TaskAssignment(
        session_id=SessionId("s"), aggregation_id=AggregationId("a"), authorization_token=b"token", plan=plan.encode(body),
        model=Resource("model", len(model), digest),
    )  # fmt: skip
    return check_plan(assignment, run="r", leaf=4, policy=policy or DevicePolicy())


def test_a_plan_with_norms_is_worked_for() -> None:
    found = checked()
    assert isinstance(found, CheckedPlan)
    vector = found.encoder.encode(np.array([0.3, 0.4, 0.0], np.float32), system_entropy)
    assert vector.shape == (5,)
    assert vector[3:].tolist() == [-1, 1]
    assert GRID.accepts(vector[:3])
    np.testing.assert_allclose(GRID.decode(vector[:3].astype(np.int64)) * 0.25, [0.15, 0.2, 0.0], atol=0.01)


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "1e-400"])
@pytest.mark.parametrize("name", ["clip_norm", "quantile", "zero_beyond", "fixed_norm"])
def test_norms_that_are_not_positive_and_finite_are_not_understood(name: str, value: str) -> None:
    assert checked({name: value}) is Refusal.NOT_UNDERSTOOD


def test_a_clip_above_the_devices_own_bound_is_refused_though_the_encoders_is_not() -> None:
    policy = DevicePolicy(largest_clip_norm=1.5)
    assert isinstance(checked(policy=policy), CheckedPlan)
    assert checked({"clip_norm": "2"}, policy=policy) is Refusal.BELOW_OWN_FLOOR


@pytest.mark.parametrize(
    "norms",
    [{"fixed_norm": "2"}, {"clip_bits": False, "clip_norm": "1", "quantile": None, "zero_beyond": None}, {"extra": "1"}],
)
def test_norms_that_do_not_belong_to_the_encoder_are_not_understood(norms: dict[str, Any]) -> None:
    assert checked(norms) is Refusal.NOT_UNDERSTOOD


def test_a_plan_that_does_not_name_its_bits_is_refused() -> None:
    assert checked(outputs={"delta": 5}) is Refusal.UNKNOWN_OUTPUT
    assert checked(outputs={**OUTPUTS, "clip_bits": 2}) is Refusal.WRONG_LENGTH
    assert checked(extra="1") is Refusal.NOT_UNDERSTOOD
