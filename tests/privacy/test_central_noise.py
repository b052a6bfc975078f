"""Central plans and their noise: variances of every prefix, replay, restarts, prices, and Honaker as a function of noised sums."""

import numpy as np
import pytest

from contract.randomness import stream
from privacy import accounting, central, events
from privacy.noise import WEIGHT_BITS, TreeNoise

KEY = bytes(range(32))
PRODUCTION = {
    "mechanism": "tree", "clip_norm": 0.3, "noise_multiplier": 7.0, "rounds": 2000, "minimum_separation": 313, "max_participations": 6,
}  # fmt: skip


def prefixes(plan: central.CentralPlan, leaves: int) -> np.ndarray:
    noise = plan.stream(KEY)
    return np.cumsum([noise.next() for _ in range(leaves)], axis=0)


def popcount_levels(leaves: int) -> list[int]:
    return [level for level in range(leaves.bit_length()) if leaves >> level & 1]


@pytest.mark.parametrize("honaker", [False, True])
def test_variance_of_every_prefix(honaker: bool):
    """20,000 coordinates: the sample variance of each of 21 prefixes within 5.5 standard errors (false alarm about 10^-6)."""
    plan = central.plan(mechanism="tree", dimension=20_000, clip_norm=1.0, noise_multiplier=3.0, rounds=21, honaker=honaker)
    for leaves, noise in enumerate(prefixes(plan, 21), start=1):
        weight = sum(1 / (2 - 2.0**-level) if honaker else 1.0 for level in popcount_levels(leaves))
        assert noise.var() / plan.sigma**2 == pytest.approx(weight, rel=5.5 * np.sqrt(2 / 20_000))


def test_restarted_trees_keep_the_noise_of_the_trees_before():
    plan = central.plan(mechanism="tree", dimension=20_000, clip_norm=1.0, noise_multiplier=3.0, rounds=8, restart_every=4)
    got = prefixes(plan, 8)
    assert got[7].var() / plan.sigma**2 == pytest.approx(2 / (2 - 2.0**-2), rel=0.055)
    assert abs(np.corrcoef(got[3], got[7] - got[3])[0, 1]) < 0.04


@pytest.mark.parametrize("multiplier", [2.0, 150_000.0, 600_000.0], ids=["narrow", "wide estimates", "wide draws"])
def test_honaker_is_a_function_of_noised_integer_sums(multiplier: float):
    """Estimating from the noised sums of the nodes gives what adding the stream's noise to the true prefix gives."""
    plan = central.plan(mechanism="tree", dimension=6, clip_norm=1.0, noise_multiplier=multiplier, rounds=11)
    sums = stream(5, "sums").integers(-1000, 1000, (11, 6))
    drawn = TreeNoise(dimension=6, sampler=plan._sampler(), key=KEY, honaker=True, restart_every=None)

    def estimate(first: int, level: int) -> np.ndarray:
        last = first + (1 << level) - 1
        noised = sums[first : last + 1].sum(axis=0) + drawn._draw(last, level).astype(np.int64)
        if level == 0:
            return noised
        weight = round((1 << WEIGHT_BITS) / (2 - 2.0**-level))
        below = estimate(first, level - 1) + estimate(first + (1 << (level - 1)), level - 1)
        return (weight * noised + ((1 << WEIGHT_BITS) - weight) * below + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS

    released = np.cumsum(sums, axis=0) + prefixes(plan, 11)
    for leaves in range(1, 12):
        start, total = 0, np.zeros(6, np.int64)
        for level in reversed(popcount_levels(leaves)):
            total, start = total + estimate(start, level), start + (1 << level)
        assert np.array_equal(released[leaves - 1], total)


@pytest.mark.parametrize("changes", [{}, {"honaker": False}, {"restart_every": 5}, {"mechanism": "gaussian"}], ids=str)
def test_a_resumed_run_repeats_the_noise(changes: dict[str, object]):
    plan = central.plan(
        **{"mechanism": "tree", "dimension": 9, "clip_norm": 1.0, "noise_multiplier": 1.0, "rounds": 16, **changes}
    )  # type: ignore[arg-type]
    whole = plan.stream(KEY)
    noise = [whole.next() for _ in range(16)]
    for first in range(16):
        resumed = plan.stream(KEY, first_leaf=first)
        assert resumed.leaf == first
        assert all(np.array_equal(resumed.next(), noise[leaf]) for leaf in range(first, 16))


def test_another_key_gives_other_noise_and_the_key_is_not_shown():
    plan = central.plan(mechanism="gaussian", dimension=9, clip_norm=1.0, noise_multiplier=1.0, rounds=2)
    first, second = plan.stream(KEY), plan.stream(KEY[::-1])
    assert KEY.hex() not in repr(first)
    assert repr(KEY)[2:-1] not in repr(first)
    assert not np.array_equal(first.next(), second.next())


def test_production_plan_costs_what_was_published():
    plan = central.plan(dimension=1_412_250, **PRODUCTION)  # type: ignore[arg-type]
    price = accounting.price(plan.event(2000), 1e-10)
    assert f"{price.rho:.6f}" == "0.806122"
    assert f"{price.epsilons['generic']:.4f}" == "8.8985"
    assert f"{price.epsilons['exact']:.3f}" == "8.526"
    assert price.conversion == "exact"
    assert plan.sigma >= 7 * plan.grid.norm_bound_squared**0.5 > plan.sigma - 1


def test_each_round_costs_at_least_what_the_rounds_before_cost():
    plan = central.plan(mechanism="tree", dimension=4, clip_norm=1.0, noise_multiplier=1.0, rounds=40, minimum_separation=5)
    rhos = [accounting.price(plan.event(leaves), 1e-6).rho or 0.0 for leaves in range(41)]
    assert rhos[0] == 0
    assert rhos == sorted(rhos)


def test_without_noise_there_is_no_guarantee_and_no_noise():
    for mechanism, multiplier in (("none", None), ("tree", 0.0)):
        plan = central.plan(mechanism=mechanism, dimension=3, clip_norm=1.0, noise_multiplier=multiplier, rounds=2)
        assert not accounting.price(plan.event(1), 1e-6).bounded
        assert plan.stream(KEY).next().tolist() == [0, 0, 0]


def test_calibration_meets_the_target_and_hardly_more():
    def event(multiplier: float) -> events.Event:
        return central.plan(dimension=8, **{**PRODUCTION, "noise_multiplier": multiplier}).event(2000)  # type: ignore[arg-type]

    multiplier = central.calibrate(event, epsilon=8.0, delta=1e-10)
    assert 7.999 < accounting.price(event(multiplier), 1e-10).epsilon <= 8.0


def test_events_survive_json():
    for event in (central.plan(dimension=8, **PRODUCTION).event(7), events.UnboundedEvent(reason="x")):  # type: ignore[arg-type]
        assert events.from_json(events.to_json(event)) == event
    with pytest.raises(ValueError, match="unknown kind"):
        events.from_json({"kind": "magic"})
    with pytest.raises(ValueError, match="has no"):
        events.from_json({"kind": "unbounded", "reason": "x", "surprise": 1})
    with pytest.raises(ValueError, match="incomplete"):
        events.from_json({"kind": "tree", "leaves": 3})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mechanism": "magic"}, "mechanism"), ({"noise_multiplier": -1.0}, "noise_multiplier"), ({"rounds": 0}, "rounds"),
        ({"clip_norm": None}, "clip_norm"), ({"restart_every": 0}, "restart_every"), ({"minimum_separation": -1}, "minimum_separation"),
        ({"sampling_rate": 0.5}, "sampling_rate"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(changes: dict[str, object], name: str):
    with pytest.raises(ValueError, match=name):
        central.plan(**{"dimension": 4, **PRODUCTION, **changes})  # type: ignore[arg-type]


def test_more_leaves_than_planned_are_not_priced():
    plan = central.plan(mechanism="tree", dimension=2, clip_norm=1.0, noise_multiplier=1.0, rounds=3)
    with pytest.raises(ValueError, match="leaves"):
        plan.event(4)
