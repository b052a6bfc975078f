"""Distributed plans: the sum is the clipped sum plus noise of the right variance; norms, lanes and claims hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contract.randomness import stream
from privacy import accounting, ddg, distributed_plans, overflow, rotation, rounding, skellam, zcdp
from privacy.distributed import DistributedPlan
from privacy.events import DistributedEvent, from_json, to_json

SEED = bytes(range(32))


def entropy_of(device: int):
    return lambda count: (device.to_bytes(4, "big") * 8)[:count]


def updates(count: int, dimension: int, norm: float) -> np.ndarray:
    raw = stream(count, "updates", dimension).normal(size=(count, dimension))
    return (norm * raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@given(dimension=st.integers(1, 300), largest=st.sampled_from([1, 8, 64, 512]))
@settings(max_examples=40, deadline=None)
def test_rotation_keeps_norms_and_is_undone(dimension: int, largest: int):
    turn = rotation.plan(dimension, largest_block=largest)
    x = stream(dimension, "x").normal(size=dimension)
    turned = turn.apply(x, SEED)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(x), rel=1e-12)
    assert np.allclose(turn.undo(turned, SEED), x, atol=1e-12)


def test_hadamard_is_the_matrix_of_sylvester():
    matrix = np.ones((1, 1))
    for _ in range(9):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    assert np.allclose(rotation.hadamard(np.eye(512)), matrix / math.sqrt(512), atol=1e-14)


def test_rotation_flattens_a_vector_that_sits_in_one_place():
    turn = rotation.plan(1 << 14)
    x = np.zeros(1 << 14, np.float32)
    x[77] = 1
    assert np.abs(turn.apply(x, SEED)).max() < 0.01


@pytest.mark.parametrize("make", [ddg.plan, skellam.plan], ids=["ddg", "skellam"])
@pytest.mark.parametrize(
    ("bits", "devices", "dimension", "survivors"),
    [(12, 20, 3000, 20), (16, 20, 3000, 15), (20, 5, 4096, 4), (30, 7, 1000, 7), (None, 20, 2500, 12)],
)
def test_sum_is_the_clipped_sum_plus_noise_of_the_right_variance(make, bits, devices, dimension, survivors):
    """Dropouts included. Mean and variance of the error over all coordinates within 6 standard errors."""
    floor = math.ceil(0.6 * devices)
    plan: DistributedPlan = make(
        dimension=dimension, clip_norm=0.5, noise_multiplier=2.0, devices=devices, minimum_survivors=floor, bits=bits
    )
    given = updates(devices, dimension, 2.0)[:survivors]
    total = sum(plan.encode(x, entropy_of(i), SEED).astype(np.int64) for i, x in enumerate(given))
    error = plan.decode(total, survivors, SEED) - (given / 4).sum(axis=0)
    rounding_variance = survivors / 4 / plan.scale**2
    noise = plan.sum_variance(survivors)
    assert noise == pytest.approx(survivors * (2.0 * 0.5) ** 2 / floor)
    assert abs(error.mean()) <= 6 * math.sqrt((noise + rounding_variance) / dimension)
    spread = 6 * math.sqrt(2 / dimension)
    assert noise * (1 - spread) <= error.var() <= (noise + rounding_variance) * (1 + spread)


@pytest.mark.parametrize("make", [ddg.plan, skellam.plan], ids=["ddg", "skellam"])
def test_without_noise_the_sum_is_exact_up_to_rounding(make):
    plan = make(dimension=700, clip_norm=1.0, noise_multiplier=0.0, devices=8, bits=24)
    given = updates(8, 700, 0.9)
    total = sum(plan.encode(x, entropy_of(i), SEED).astype(np.int64) for i, x in enumerate(given))
    assert np.abs(plan.decode(total, 8, SEED) - given.sum(axis=0)).max() < 8 / plan.scale
    assert not accounting.price(plan.event(8), 1e-6).bounded


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40),
    bits=st.integers(8, 24),
    beta=st.sampled_from([0.0, math.exp(-0.5), 0.1]),
)
@settings(max_examples=60, deadline=None)
def test_the_norm_before_noise_never_exceeds_its_bound(values: list[float], bits: int, beta: float):
    plan = ddg.plan(dimension=len(values), clip_norm=1.0, noise_multiplier=0.0, devices=3, bits=bits, beta=beta)
    coded = plan.encode(np.array(values, np.float32), entropy_of(1), SEED)
    assert rounding.squared_norm(coded) <= plan.squared_norm
    assert np.abs(coded).max() <= plan.largest_value


def test_overflow_is_bounded_and_near_what_is_seen():
    """12 bits, worst-case signal: all devices hold the same update. The cliff: at 9 bits nearly everything overflows."""
    plan = ddg.plan(dimension=1 << 14, clip_norm=1.0, noise_multiplier=1.0, devices=40, bits=12)
    x = updates(1, 1 << 14, 1.0)[0]
    total = sum(plan.encode(x, entropy_of(i), SEED).astype(np.int64) for i in range(40))
    seen = np.mean((total < -(1 << 11)) | (total >= 1 << 11))
    assert seen <= plan.overflow_probability < 0.01
    variance = (40 * plan.scale) ** 2 / (1 << 14) + 10 + 40 * plan.local_sigma**2
    assert 2 * stats.norm.sf((1 << 11) / math.sqrt(variance)) == pytest.approx(1e-4, rel=0.05)
    cliff = [
        overflow.coordinate(
            mechanism="ddg", bits=bits, devices=40, sum_norm=40 * plan.scale, block=1 << 14, local_sigma=plan.local_sigma
        )
        for bits in (9, 10, 11, 12, 13, 14)
    ]
    assert cliff == sorted(cliff, reverse=True)
    assert cliff[0] == 1.0
    assert cliff[-1] < 1e-20


def test_low_bits_are_a_cliff_in_epsilon_at_equal_noise():
    """Rounding inflates the norm when the lane is narrow: epsilon at 12, 14, 16, 18 bits with 100 devices and 2^20 coordinates."""
    epsilons = [
        accounting.price(
            ddg.plan(
                dimension=1 << 20, clip_norm=1.0, noise_multiplier=1.0, devices=100, bits=bits, largest_block=1 << 30
            ).event(100),
            1e-5,
        ).epsilon
        for bits in (10, 12, 14, 16, 18)
    ]
    gaussian = 4.7527
    assert [round(epsilon / gaussian, 2) for epsilon in epsilons[2:]] == [1.03, 1.0, 1.0]
    assert epsilons[1] / gaussian > 1.4
    assert epsilons[0] / gaussian > 4


def test_at_the_size_of_the_published_chart_12_bits_fall_off_a_cliff():
    """100 devices, 2^22 coordinates: 16 and 18 bits need the Gaussian's noise, 14 a little more, and 12 meet 20 but never 10.

    The published chart (Stack Overflow, many rounds, sampling) has the same shape in accuracy. Noise takes room in the lane, so that
    more of it makes the scale coarser and the inflated norm grow with it: epsilon has a floor that no noise goes below.
    """

    def epsilon(noise_multiplier: float, bits: int) -> float:
        plan = ddg.plan(
            dimension=1 << 22, clip_norm=1.0, noise_multiplier=noise_multiplier, devices=100, bits=bits, largest_block=1 << 30
        )
        return accounting.price(plan.event(100), 1e-6).epsilon

    for target, gaussian in ((20.0, 0.323), (10.0, 0.570), (5.0, 1.039)):
        assert zcdp.epsilon_generic(1 / (2 * gaussian**2), 1e-6) == pytest.approx(target, rel=2e-3)
        assert all(epsilon(1.03 * gaussian, bits) <= target for bits in (16, 18))
        assert epsilon((1.07 if target >= 10 else 1.2) * gaussian, 14) <= target
    assert epsilon(0.45, 12) <= 20.0
    floors = [epsilon(noise, 12) for noise in (2.0, 4.0, 16.0, 64.0)]
    assert floors == sorted(floors, reverse=True)
    assert min(floors) > 11.0


def test_exact_lanes_cannot_overflow_and_the_narrowest_lane_hardly_does():
    wide = ddg.plan(dimension=100, clip_norm=1.0, noise_multiplier=1.0, devices=4)
    assert wide.overflow_probability * wide.padded_dimension <= 1e-6
    assert wide.bits == distributed_plans.narrowest_lane(wide)
    huge = ddg.plan(dimension=100, clip_norm=1.0, noise_multiplier=0.0, devices=4)
    roomy = DistributedPlan(**{**{f: getattr(huge, f) for f in huge.__dataclass_fields__}, "bits": 32})
    assert roomy.exact
    assert roomy.overflow_probability == 0


def test_local_noise_is_calibrated_for_the_honest_floor():
    plan = ddg.plan(
        dimension=64, clip_norm=2.0, noise_multiplier=3.0, devices=100, minimum_survivors=80, corrupt_fraction=0.1, bits=16
    )
    assert plan.corrupt == 10
    assert plan.local_sigma / plan.scale == pytest.approx(3.0 * 2.0 / math.sqrt(70))
    curious, colluding = (accounting.price(plan.event(80, corrupt), 1e-6).epsilon for corrupt in (0, plan.corrupt))
    assert curious < colluding


def test_dearest_releases_are_charged_as_often_as_the_schedule_allows():
    plan = ddg.plan(
        dimension=64, clip_norm=1.0, noise_multiplier=8.0, devices=100, minimum_survivors=50, bits=20, minimum_separation=2
    )
    event = plan.event([90, 60, 100, 70, 80])
    assert isinstance(event, DistributedEvent)
    assert event.contributors == (60, 70)
    assert from_json(to_json(event)) == event
    assert DistributedPlan.from_json(plan.to_json()) == plan


def test_skellam_and_discrete_gaussian_cost_the_same_where_noise_is_wide():
    rates = [
        accounting.price(
            make(dimension=1 << 16, clip_norm=1.0, noise_multiplier=1.0, devices=50, bits=18).event(50), 1e-6
        ).epsilon
        for make in (ddg.plan, skellam.plan)
    ]
    assert rates[0] == pytest.approx(rates[1], rel=1e-4)


def test_equal_entropy_repeats_and_other_entropy_does_not():
    plan = ddg.plan(dimension=10, clip_norm=1.0, noise_multiplier=1.0, devices=4, bits=16)
    x = np.ones(10, np.float32)
    assert np.array_equal(plan.encode(x, entropy_of(3), SEED), plan.encode(x, entropy_of(3), SEED))
    assert not np.array_equal(plan.encode(x, entropy_of(3), SEED), plan.encode(x, entropy_of(4), SEED))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"bits": 7}, "bits"), ({"bits": 8, "devices": 200}, "bits"), ({"clip_norm": 0.0}, "clip_norm"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"), ({"minimum_survivors": 11}, "minimum_survivors"),
        ({"minimum_survivors": 1, "corrupt_fraction": 0.1}, "minimum_survivors"), ({"corrupt_fraction": 1.0}, "corrupt_fraction"),
        ({"mechanism": "magic"}, "mechanism"), ({"dimension": 0}, "dimension"), ({"beta": 1.0}, "beta"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(changes: dict[str, object], name: str):
    arguments = {"mechanism": "ddg", "dimension": 9, "clip_norm": 1.0, "noise_multiplier": 1.0, "devices": 10, "bits": 16}
    with pytest.raises(ValueError, match=name):
        _ = distributed_plans.plan(**{**arguments, **changes}).squared_norm  # type: ignore[arg-type]


def test_sums_of_too_few_are_not_decoded():
    plan = ddg.plan(dimension=9, clip_norm=1.0, noise_multiplier=1.0, devices=10, minimum_survivors=8, bits=16)
    with pytest.raises(ValueError, match="survivors"):
        plan.decode(np.zeros(16, np.int64), 7, SEED)
    with pytest.raises(ValueError, match="total"):
        plan.decode(np.zeros(9, np.int64), 8, SEED)
    for bad in (np.zeros(8, np.float32), np.full(9, np.nan, np.float32)):
        with pytest.raises(ValueError, match="vector"):
            plan.encode(bad, entropy_of(1), SEED)
