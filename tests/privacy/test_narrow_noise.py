"""Noise that is narrow in integer units: never cheaper than the masses of the sum itself say, and refused where no theorem speaks.

The oracle convolves logarithms of masses, so that nothing is lost in the tails, and shares no code with `privacy`.
"""

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import gammaln, logsumexp

from contract import task
from privacy import accounting, ddg, distributed_curves, distributed_plans, skellam
from privacy.distributed import DistributedPlan, NarrowNoiseError
from privacy.events import DistributedEvent, from_json
from server import tasks

REACH = 40


def log_convolved(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Logarithms of masses on -REACH .. REACH of a sum of two."""
    size = 2 * REACH + 1
    wide = np.full(3 * size, -np.inf)
    wide[size : 2 * size] = other
    return np.array([logsumexp(one + wide[size + REACH + x - np.arange(-REACH, REACH + 1)]) for x in range(-REACH, REACH + 1)])


def log_masses(mechanism: str, sigma: float, count: int) -> np.ndarray:
    x = np.arange(-REACH, REACH + 1, dtype=np.float64)
    if mechanism == "skellam":
        mean = count * sigma**2 / 2
        upwards = np.where(x >= 0, x * math.log(mean) - mean - gammaln(np.maximum(x, 0) + 1), -np.inf)
        return log_convolved(upwards, upwards[::-1])
    one = -(x**2) / (2 * sigma**2)
    one -= logsumexp(one)
    total = one
    for _ in range(count - 1):
        total = log_convolved(total, one)
    return total


def exact(alpha: int, shift: int, logs: np.ndarray) -> float:
    """D_alpha of the law moved by `shift` from itself, over the places that both keep well inside the window."""
    inside = slice(REACH - 20, REACH + 21)
    moved = np.roll(logs, shift)
    return float(logsumexp(alpha * moved[inside] + (1 - alpha) * logs[inside])) / (alpha - 1)


def event(mechanism: str, sigma: float, count: int, squared: int, dimension: int = 1) -> DistributedEvent:
    return DistributedEvent(
        mechanism=mechanism,
        dimension=dimension,
        squared_norm=squared,
        local_sigma=sigma,
        contributors=(count,),
        participations=1,
    )


@pytest.mark.parametrize("mechanism", ["ddg", "skellam"])
@pytest.mark.parametrize("sigma", [0.1, 0.15, 0.3, 0.4999, 0.5, 0.55, 0.7, 1.0])
@pytest.mark.parametrize("count", [2, 9])
def test_no_price_is_below_what_the_masses_say(mechanism: str, sigma: float, count: int) -> None:
    logs = log_masses(mechanism, sigma, count)
    for shift in (1, 2):
        asked = event(mechanism, sigma, count, shift**2)
        curve = distributed_curves.rdp(asked)
        counted_on = distributed_curves.published_rho(asked)
        for alpha in (2, 3, 6):
            truth = exact(alpha, shift, logs)
            assert truth <= curve(alpha) * (1 + 1e-6)
            assert truth <= alpha * counted_on * (1 + 1e-6)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.4999])
def test_where_no_theorem_speaks_and_no_masses_are_computed_nothing_is_promised(sigma: float) -> None:
    too_wide_to_convolve = event("ddg", sigma, 5_000_000, 1, dimension=1 << 20)
    assert not accounting.price(too_wide_to_convolve, 1e-6).bounded
    assert math.isinf(distributed_curves.published_rho(event("ddg", sigma, 2, 1)))


def test_one_discrete_gaussian_alone_has_a_price_at_every_deviation() -> None:
    assert distributed_curves.published_rho(event("ddg", 0.1, 1, 1)) == pytest.approx(50.0)


def test_tau_of_more_devices_than_are_added_one_by_one_is_no_less() -> None:
    some = [distributed_curves.tau(count, 0.8) for count in (1 << 16, (1 << 16) + 1, (1 << 16) + 2, 1 << 20, 1 << 40)]
    assert some == sorted(some)
    whole = np.arange(1, 1 << 20, dtype=np.float64)
    assert some[3] >= 10 * math.fsum(np.exp(-2 * np.pi**2 * 0.64 * whole / (whole + 1)).tolist()) * (1 - 1e-12)


@pytest.mark.parametrize(("kind", "least"), [("ddg", 0.5), ("skellam", 2.0**-10)])
def test_a_plan_whose_noise_is_too_narrow_for_a_price_is_refused(kind: str, least: float) -> None:
    made = {"ddg": ddg, "skellam": skellam}[kind].plan(dimension=8, clip_norm=1.0, noise_multiplier=1.0, devices=10, bits=16)
    body = made.to_json()
    assert DistributedPlan.from_json({**body, "local_sigma": repr(least)}).local_sigma == least
    assert DistributedPlan.from_json({**body, "local_sigma": "0"}).guaranteed_multiplier == 0.0
    for sigma in (least * (1 - 1e-9), 1e-9, 5e-324):
        with pytest.raises(ValueError, match="narrower"):
            DistributedPlan.from_json({**body, "local_sigma": repr(sigma)})


@pytest.mark.parametrize("bits", [8, 9, 10, None])
@pytest.mark.parametrize("multiplier", [0.001, 0.01, 0.05, 0.3, 1.0])
def test_the_planner_never_makes_noise_without_a_price(bits: int | None, multiplier: float) -> None:
    def made() -> DistributedPlan:
        return distributed_plans.plan(
            mechanism="ddg", dimension=512, clip_norm=1.0, noise_multiplier=multiplier, devices=60, bits=bits
        )

    if bits is not None and (multiplier <= 0.05 or (bits, multiplier) == (8, 0.3)):
        with pytest.raises(NarrowNoiseError, match="bits"):
            made()
    else:
        assert made().local_sigma >= 0.5
        assert made().guaranteed_multiplier > 0


TASK: dict[str, Any] = {
    "population": "p", "model": {"name": "mlp"}, "cohort": {"report_goal": 60, "minimum_reports": 60}, "rounds": 2,
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "delta": 1e-5},
    "aggregation": {"secure": True, "bits": 12, "minimum_survivors": 50},
}  # fmt: skip


def test_a_task_file_with_too_few_bits_for_its_noise_is_told_so() -> None:
    spec = task.parse_mapping({**TASK, "privacy": {**TASK["privacy"], "noise_multiplier": 0.0005}})
    with pytest.raises(task.TaskFormError, match="narrower than"):
        tasks.prepare(spec)


def test_noise_that_a_target_asks_for_is_sought_among_noise_that_has_a_price() -> None:
    spec = task.parse_mapping({**TASK, "privacy": {**TASK["privacy"], "epsilon": 8.0}})
    mechanism = tasks.prepare(spec).mechanism
    assert accounting.price(from_json(mechanism.event(2)), 1e-5).epsilon <= 8.0
