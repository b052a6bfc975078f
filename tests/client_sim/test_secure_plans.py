"""A device holds the noise that a plan asks of it against the sums that the same plan would unmask."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from client_sim.secure_work import secure_context
from contract import task
from contract.collusion import whole_devices
from privacy import distributed_plans
from server import tasks

TASK: dict[str, Any] = {
    "name": "secure",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "over_selection": 1.4, "minimum_reports": 18, "max_participations": 2},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}},
    "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 16, "corrupt_fraction": 0.05, "drop_fraction": 0.1},
    "rounds": 2,
}


@pytest.fixture(scope="module")
def honest() -> bytes:
    """A secure plan as the server makes it."""
    prepared = tasks.prepare(task.parse_mapping(dict(TASK)))
    return prepared.mechanism.plan_bytes(
        spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32
    )


def changed(plan: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    body = json.loads(plan)
    change(body["encoding"])
    return json.dumps(body).encode()


def test_a_plan_as_the_server_makes_it_is_taken(honest: bytes) -> None:
    assert secure_context(honest).parameters.minimum_survivors == 16


@pytest.mark.parametrize(
    "lie",
    [
        lambda encoding: encoding["secagg"]["parameters"].update(minimum_survivors=3),
        lambda encoding: encoding["secagg"]["parameters"].update(minimum_survivors=15),
        lambda encoding: encoding["secagg"]["parameters"].update(corrupt_fraction="0.1"),
        lambda encoding: encoding["vectors"][0]["plan"].update(minimum_survivors=20),
        lambda encoding: encoding["vectors"][0]["plan"].update(corrupt=0),
        lambda encoding: encoding["vectors"][1]["plan"].update(minimum_survivors=17),
    ],
)
def test_sums_of_fewer_devices_than_the_noise_is_made_for_are_refused(
    honest: bytes, lie: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(ValueError, match=r"the noise of (delta|metrics) is made for"):
        secure_context(changed(honest, lie))


@pytest.mark.parametrize("fraction", [0.07, 0.29])
def test_noise_and_aggregation_count_the_same_corrupt_devices(fraction: float) -> None:
    planned = distributed_plans.plan(
        mechanism="ddg",
        dimension=8,
        clip_norm=1.0,
        noise_multiplier=1.0,
        devices=100,
        minimum_survivors=90,
        corrupt_fraction=fraction,
        bits=16,
        minimum_separation=0,
        max_participations=1,
    )
    assert planned.corrupt == whole_devices(fraction, 100)
