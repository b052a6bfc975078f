"""The egress gate of a device: what it asks of a plan before it works for it, and of a message before it leaves."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client_sim.egress import DevicePolicy, Refusal, check_plan
from contract import plan
from contract.ids import AggregationId, Digest, SessionId
from contract.messages import (
    Resource,
    TaskAssignment,
)
from privacy import ddg, grid
from privacy.distributed import DistributedPlan
from secagg import Vector, VectorKind, choose, parameter_json

SESSION = SessionId("s1")
POLICY = DevicePolicy()


def assignment_of(dimension: int, **changes: Any) -> TaskAssignment:
    model = np.arange(dimension, dtype="<f4").tobytes()
    digest = Digest(hashlib.sha256(model).hexdigest())
    body: dict[str, Any] = {
        "task": {}, "run": "r", "round_index": 9, "leaf": 4, "model_digest": digest,
        "encoding": grid.plan(dimension=dimension, clip_norm=1.0).to_json(),
        "outputs": (plan.Output(name="delta", length=dimension, aggregated=True),),
    } | changes  # fmt: skip
    return TaskAssignment(
        session_id=SESSION,
        aggregation_id=AggregationId("a"),
        authorization_token=b"token",
        plan=plan.encode(plan.Plan(**body)),
        model=Resource("model", len(model), digest),
    )


SMALL = assignment_of(3)


class TestEgress:
    def check(self, assignment: TaskAssignment, policy: DevicePolicy = POLICY) -> object:
        return check_plan(assignment, run="r", leaf=4, policy=policy)

    def test_a_plan_with_an_output_that_is_not_aggregated_is_refused(self) -> None:
        outputs = (plan.Output(name="delta", length=3, aggregated=False),)
        refused = assignment_of(3, outputs=outputs)
        assert self.check(refused) is Refusal.NOT_AGGREGATED

    @pytest.mark.parametrize(
        ("changes", "refusal"),
        [
            ({"outputs": ()}, Refusal.UNKNOWN_OUTPUT),
            ({"outputs": (plan.Output(name="typed text", length=3, aggregated=True),)}, Refusal.UNKNOWN_OUTPUT),
            ({"outputs": (plan.Output(name="delta", length=4, aggregated=True),)}, Refusal.WRONG_LENGTH),
            ({"encoding": {"kind": "raw"}}, Refusal.NOT_UNDERSTOOD),
            ({"encoding": grid.plan(dimension=9, clip_norm=1.0).to_json()}, Refusal.WRONG_LENGTH),
            ({"model_digest": "0" * 64}, Refusal.WRONG_MODEL),
            ({"leaf": 5}, Refusal.WRONG_RUN),
            ({"run": "other"}, Refusal.WRONG_RUN),
        ],
    )
    def test_a_plan_that_says_other_than_it_should_is_refused(self, changes: dict[str, Any], refusal: Refusal) -> None:
        assert self.check(assignment_of(3, **changes)) is refusal

    def test_a_clip_norm_above_the_devices_own_bound_is_refused(self) -> None:
        assert self.check(SMALL, DevicePolicy(largest_clip_norm=0.5)) is Refusal.BELOW_OWN_FLOOR
        assert self.check(SMALL, DevicePolicy(most_bytes=8)) is Refusal.BELOW_OWN_FLOOR

    def test_noise_that_is_less_than_promised_is_refused(self) -> None:
        honest = ddg.plan(
            dimension=3, clip_norm=1.0, noise_multiplier=2.0, devices=10, bits=20, minimum_survivors=8, corrupt_fraction=0.1
        )
        length = honest.padded_dimension
        outputs = (plan.Output(name="delta", length=length, aggregated=True),)

        packed = Vector(name="delta", length=length, lane_bits=20, kind=VectorKind.MODULAR, largest=honest.largest_value)
        summed = choose(
            roster_size=10, minimum_survivors=8, corrupt_fraction=0.1, drop_fraction=0.1, vectors=(packed,), minimum_roster=10
        )

        def assigned(chosen: DistributedPlan) -> TaskAssignment:
            vectors = [{"name": "delta", "plan": chosen.to_json()}]
            secagg = {"parameters": parameter_json.to_json(summed)}
            encoding = {"kind": "distributed-vectors", "vectors": vectors, "metric_names": [], "secagg": secagg}
            return replace(assignment_of(3, encoding=encoding, outputs=outputs), secure=True)

        assert not isinstance(self.check(assigned(honest)), Refusal)
        in_the_clear = replace(assigned(honest), secure=False)
        assert self.check(in_the_clear) is Refusal.NOT_AGGREGATED
        assert self.check(assigned(honest), DevicePolicy(least_noise_multiplier=2.5)) is Refusal.BELOW_OWN_FLOOR
        # The plan says 2 in units of the clip norm; rounding makes an update longer than that, so the device gets less than 2.
        assert self.check(assigned(honest), DevicePolicy(least_noise_multiplier=2.0)) is Refusal.BELOW_OWN_FLOOR
        assert not isinstance(self.check(assigned(honest), DevicePolicy(least_noise_multiplier=1.9)), Refusal)
        cheats = (
            {"local_sigma": 0.99 * honest.local_sigma},
            {"minimum_survivors": 7},
            {"corrupt": 2},
            {"noise_multiplier": 2.1},
        )
        for cheat in (*cheats, {"minimum_survivors": 1}):
            assert self.check(assigned(replace(honest, **cheat))) is Refusal.TOO_LITTLE_NOISE
        broken = honest.to_json() | {"rotation": {"dimension": 3, "blocks": 1 << 40, "block": 4}}
        assert self.check(assignment_of(3, encoding=broken, outputs=outputs)) is Refusal.WRONG_LENGTH
        assert (
            self.check(assignment_of(3, encoding=honest.to_json() | {"rotation": 3}, outputs=outputs)) is Refusal.NOT_UNDERSTOOD
        )

    def test_bytes_that_are_no_plan_are_refused(self) -> None:
        for junk in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000):
            broken = TaskAssignment(SESSION, AggregationId("a"), b"", junk, SMALL.model)
            assert self.check(broken) is Refusal.NOT_UNDERSTOOD
