"""Distributed noise against TensorFlow Federated's factory: same scale, bias, variance and wrapping; its differences, with figures.

False alarms: 1e-5 for each test of a mean or a variance.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from contract.entropy import system_entropy
from contract.randomness import stream
from privacy import distributed_plans
from privacy.distributed import DistributedPlan
from secagg import packing
from server.distributed_mechanism import lanes
from tutti.engines import tff_plans
from tutti.engines.process import EngineProcess

pytestmark = pytest.mark.tff
FALSE_ALARM = 1e-5
CLIENTS, DIMENSION, REPEATS = 5, 100, 40
SEED = bytes(range(32))


def our_plan(mechanism: str, *, bits: int, dimension: int = DIMENSION, noise: float = 1.0) -> DistributedPlan:
    return distributed_plans.plan(
        mechanism=mechanism,
        dimension=dimension,
        clip_norm=0.5,
        noise_multiplier=noise,
        devices=CLIENTS,
        bits=bits,
        largest_block=1 << 30,
    )


def asked(mechanism: str, *, bits: int, noise: float = 1.0, **more: Any) -> dict[str, Any]:
    facts = {"clip_norm": 0.5, "noise_multiplier": noise, "clients": CLIENTS, "bits": bits, "beta": math.exp(-0.5)}
    return {**facts, "mechanism": mechanism, **more}


def summed(plan: DistributedPlan, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """A sum through our encoder and the lanes of secure aggregation."""
    total = np.sum([plan.encode(vector, system_entropy, SEED).astype(np.int64) for vector in vectors], axis=0)
    chosen = lanes([("delta", plan)])
    wrapped = packing.unpack(chosen, packing.pack(chosen, {"delta": total}))["delta"]
    return plan.decode(wrapped, len(vectors), SEED)


def clipped(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors * np.minimum(1.0, 0.5 / norms)).astype(np.float64)


@pytest.mark.parametrize("mechanism", ["ddg", "skellam"])
def test_sums_have_the_same_bias_and_variance(engine: EngineProcess, mechanism: str) -> None:
    vectors = stream(1, "vectors").normal(size=(CLIENTS, DIMENSION)).astype(np.float32) * 0.1  # norm 1: all are clipped
    truth = clipped(vectors).sum(axis=0)
    plan = our_plan(mechanism, bits=16)
    facts, arrays = engine.call(
        "distributed_sums", {"aggregation": asked(mechanism, bits=16), "repeats": REPEATS}, {"vectors": vectors}
    )
    measured = facts["measured"]
    assert math.isclose(measured["scale_factor"], plan.scale, rel_tol=1e-5)
    assert measured["padded_dim"] == plan.padded_dimension
    assert math.isclose(measured["scaled_local_stddev"], plan.local_sigma, rel_tol=1e-5)
    ours = np.array([summed(plan, vectors) for _ in range(REPEATS)])
    sigma = {"ours": plan.local_sigma, "theirs": tff_plans.drawn_sigma(plan)}
    for name, sums in (("ours", ours), ("theirs", arrays["sums"].astype(np.float64))):
        errors = sums - truth
        deviation = math.sqrt(CLIENTS * (sigma[name] ** 2 + 0.25)) / plan.scale  # rounding adds at most a quarter
        along = errors @ truth / np.linalg.norm(truth)
        assert abs(along.mean()) <= stats.norm.isf(FALSE_ALARM / 2) * deviation / math.sqrt(REPEATS), name
        spread = float(np.sum(errors**2)) / deviation**2
        low, high = stats.chi2.ppf(FALSE_ALARM / 2, errors.size), stats.chi2.isf(FALSE_ALARM / 2, errors.size)
        assert low <= spread <= high, name
    ratio = float(np.var(ours - truth) / np.var(arrays["sums"] - truth)) * (sigma["theirs"] / sigma["ours"]) ** 2
    within = stats.f.isf(FALSE_ALARM / 2, ours.size - 1, ours.size - 1)
    assert 1 / within <= ratio <= within


@pytest.mark.parametrize(("share", "left"), [(0.8, -0.2), (1.3, 0.3), (0.4, 0.4)])
def test_a_sum_beyond_its_lane_comes_back_at_the_other_end_alike(engine: EngineProcess, share: float, left: float) -> None:
    # Equal updates along one axis: each rotated coordinate of the sum is plus or minus `share` of 2^bits, and wraps to `left` of it.
    dimension, bits = 16, 14
    deviations = 1 / (2 * share)
    facts = asked("ddg", bits=bits, noise=0.0, modclip_probability=2 * float(stats.norm.sf(deviations)))
    vectors = np.zeros((CLIENTS, dimension), np.float32)
    vectors[:, 0] = 0.5
    answer, arrays = engine.call("distributed_sums", {"aggregation": facts, "repeats": 1}, {"vectors": vectors})
    plan = dataclasses.replace(
        our_plan("ddg", bits=bits, dimension=dimension, noise=0.0), scale=answer["measured"]["scale_factor"]
    )
    expected = np.zeros(dimension)
    expected[0] = CLIENTS * 0.5 * left / share
    rounding = 2 * CLIENTS * math.sqrt(dimension) / plan.scale  # a coordinate's rounding is less than 1 a client
    np.testing.assert_allclose(arrays["sums"][0], expected, atol=rounding)
    np.testing.assert_allclose(summed(plan, vectors), expected, atol=rounding)


def test_the_norm_after_rounding_is_bounded_alike(engine: EngineProcess) -> None:
    generator = stream(3, "norms")
    for _ in range(20):
        norm, scale = float(generator.uniform(0.01, 2.0)), float(generator.uniform(10, 10_000))
        dimension, beta = 1 << int(generator.integers(4, 21)), float(generator.choice([0.0, math.exp(-0.5)]))
        theirs = engine.call("inflated_norm", {"norm": norm, "scale": scale, "beta": beta, "dimension": dimension})[0]["norm"]
        plan = dataclasses.replace(our_plan("ddg", bits=20, dimension=dimension), clip_norm=norm, scale=scale, beta=beta)
        # Ours is the root of a whole number, rounded down: less by under one unit in the square.
        assert math.isclose(plan.inflated_norm / scale, theirs, rel_tol=1e-4 + 1 / plan.squared_norm)


def test_what_tff_pays_for_whole_deviations_and_its_leeway() -> None:
    plan = our_plan("ddg", bits=10)
    assert tff_plans.drawn_sigma(plan) == math.ceil(plan.local_sigma)
    assert tff_plans.squared_norm(plan) >= plan.squared_norm
