"""Norms that follow quantiles: a scaled update under a fixed clip is a clipped update, and only noised bits move an estimate."""

import dataclasses
import math

import numpy as np
import pytest

from contract import task
from contract.entropy import system_entropy
from contract.randomness import stream
from privacy import accounting, grid, norm_tracking, poisson
from privacy.adaptive_clip import QuantileState
from privacy.events import GaussianEvent, Law, from_json
from privacy.norm_tracking import NormTracking, RoundNorms
from server import tasks
from server.distributed_mechanism import DistributedMechanism
from server.mechanisms import CentralMechanism


def tracking(**changes: object) -> NormTracking:
    values = {
        "fixed_norm": 1.0,
        "clip": QuantileState(estimate=1.0, target_quantile=0.5, learning_rate=0.2),
        "zeroing": QuantileState(estimate=10.0, target_quantile=0.98, learning_rate=1.0),
        "bit_noises": (5.0, 4.0),
        "starts": (1.0, 10.0),
    }
    return NormTracking(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("clip_norm", [1e-6, 0.3, 1.0, 7.0, 1e6])
@pytest.mark.parametrize("norm", [0.0, 1e-3, 0.3, 5.0, 1e30])
def test_scaling_before_the_fixed_clip_is_clipping_to_the_rounds_norm(clip_norm: float, norm: float) -> None:
    direction = stream(1, "norms").normal(size=50)
    delta = (direction / np.linalg.norm(direction) * norm).astype(np.float32)
    prepared, _ = RoundNorms(fixed_norm=1.0, clip_norm=clip_norm, clip_bits=True).prepared(delta)
    encoded = np.minimum(1.0, 1.0 / max(float(np.linalg.norm(prepared.astype(np.float64))), 1e-300)) * prepared
    clipped = delta.astype(np.float64) * (min(1.0, clip_norm / norm) if norm else 1.0)
    np.testing.assert_allclose(encoded * clip_norm, clipped, rtol=2e-6, atol=1e-30)
    assert np.linalg.norm(prepared.astype(np.float64)) <= 1.0 + 1e-6


def test_what_enters_the_sum_has_the_fixed_bound_whatever_the_rounds_norms_say() -> None:
    public = grid.plan(dimension=30, clip_norm=1.0)
    generator = stream(2, "norms")
    for _ in range(50):
        norms = RoundNorms(fixed_norm=1.0, clip_norm=float(np.exp(generator.normal(0, 8))), clip_bits=True)
        prepared, bits = norms.prepared((generator.normal(size=30) * np.exp(generator.normal(0, 8))).astype(np.float32))
        assert public.accepts(public.encode(prepared, system_entropy))
        assert norm_tracking.bits_are_sound(np.array(list(bits.values()), np.int32))


def test_an_update_beyond_the_threshold_counts_as_zero_and_its_bits_say_so() -> None:
    norms = tracking().round_norms()
    assert norms.zero_beyond == 20.0
    delta = np.array([21.0, 0.0], np.float32)
    prepared, bits = norms.prepared(delta)
    assert not prepared.any()
    assert bits == {"clip_bits": -1, "zeroing_bits": -1}
    kept, bits = norms.prepared(np.array([0.6, 0.0], np.float32))
    assert kept[0] == np.float32(0.6)
    assert bits == {"clip_bits": 1, "zeroing_bits": 1}


def test_under_a_tree_norms_move_with_a_new_tree_and_by_all_bits_since() -> None:
    state = tracking(every=4)
    for leaf in range(3):
        state = state.after({"clip_bits": 8.0, "zeroing_bits": 6.0}, devices=10, leaf=leaf)
        assert state.clip_norm == 1.0
        assert tracking(every=4).restored(state.values) == state
    # The last leaf was used up without a release: the norms stay for another tree, and the bits are about them still.
    for leaf in range(4, 8):
        state = state.after({"clip_bits": 8.0, "zeroing_bits": 6.0}, devices=10, leaf=leaf)
    assert state.clip_norm == pytest.approx(math.exp(-0.2 * (0.9 - 0.5)))
    assert state.values["bit_devices"] == 0.0
    assert tracking(every=4).restored(state.values) == state


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_norm_that_is_not_positive_and_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        RoundNorms(fixed_norm=1.0, clip_norm=value, clip_bits=True)
    text = {**RoundNorms(fixed_norm=1.0, clip_norm=0.5, clip_bits=True).to_json(), "clip_norm": str(value)}
    with pytest.raises(ValueError, match="clip_norm"):
        RoundNorms.from_json(text)


def test_estimates_find_their_quantiles_through_the_noise_and_come_back_from_the_record() -> None:
    generator = stream(3, "norms")
    state, fixed = tracking(), np.exp(generator.normal(0.5, 0.7, size=4000))
    for _ in range(300):
        norms = state.round_norms()
        bits = [norms.bits(norm) for norm in generator.choice(fixed, 200).tolist()]
        noised = {
            name: sum(bit[name] for bit in bits) + generator.normal(0, 2 * noise)
            for name, noise in zip(state.names, state.bit_noises, strict=True)
        }
        state = state.after(noised, devices=200)
    assert np.mean(fixed <= state.clip_norm) == pytest.approx(0.5, abs=0.1)
    assert np.mean(fixed <= state.values["zeroing_quantile"]) > 0.93
    assert tracking().restored(state.values) == state


def test_no_noise_drives_an_estimate_to_zero_or_to_infinity() -> None:
    low = high = tracking()
    for _ in range(100):
        low = low.after(dict.fromkeys(low.names, 1e300), devices=1)
        high = high.after(dict.fromkeys(high.names, -1e300), devices=1)
    for state in (low, high):
        assert all(0 < value < math.inf for value in state.values.values())
        state.round_norms()


def test_update_and_bits_together_cost_what_the_update_alone_would_have() -> None:
    state = tracking()
    share = state.vector_noise_multiplier(1.0)
    assert share == pytest.approx((1 - 0.01 - 1 / 64) ** -0.5)
    release = GaussianEvent(noise_multiplier=share, releases=7, law=Law.ROUNDED_GAUSSIAN, draws=7 * 50, distance_log2=-115)
    event = state.event(release, dimension=50)
    assert event.release.draws == 7 * 52
    assert accounting.price(event, 1e-6).rho == pytest.approx(7 / 2)


@pytest.mark.parametrize("goal", [40, 400])
def test_bits_and_counts_are_priced_at_their_distance_from_no_contribution_at_all(goal: int) -> None:
    """Zero-out: all that the neighbour contributes is zero. One release of the real mechanism, its own noise, its longest contribution."""
    spec = task.parse_mapping(
        {
            "name": "t", "population": "p", "model": {"name": "mlp"}, "rounds": 1, "cohort": {"report_goal": goal},
            "privacy": {
                "mechanism": "gaussian", "clip_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-6, "adaptive_clip": {},
                "adaptive_zeroing": {},
            },
        }
    )  # fmt: skip
    mechanism = tasks.prepare(spec).mechanism
    assert isinstance(mechanism, CentralMechanism)
    assert mechanism.tracking is not None
    halves = [abs(bit) for norm in (0.0, 1e9) for bit in mechanism.tracking.round_norms().bits(norm).values()]
    assert set(halves) == {1}
    update = mechanism.plan.grid.norm_bound_squared / (mechanism.plan.sigma / 2**mechanism.plan.fraction_bits) ** 2
    bits = sum((max(halves) / (2 * noise)) ** 2 for noise in mechanism.tracking.bit_noises)
    rho = accounting.price(from_json(mechanism.event(1)), 1e-6).rho
    assert rho is not None
    assert (update + bits) / 2 <= rho * (1 + 1e-12)
    assert rho == pytest.approx((update + bits) / 2, rel=1e-3)  # sigma is a whole number of steps


def test_a_secure_sum_prices_each_vector_at_its_distance_from_zeros() -> None:
    spec = task.parse_mapping(
        {
            "name": "t", "population": "p", "model": {"name": "mlp"}, "rounds": 1,
            "cohort": {"report_goal": 20}, "aggregation": {"secure": True, "ideal": True, "minimum_survivors": 16},
            "privacy": {
                "mechanism": "ddg", "clip_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-6, "adaptive_clip": {}, "metrics": {},
            },
        }
    )  # fmt: skip
    mechanism = tasks.prepare(spec).mechanism
    assert isinstance(mechanism, DistributedMechanism)
    priced = [part["squared_norm"] for part in mechanism.event(1)["parts"]]  # type: ignore[index, union-attr, call-overload]
    assert priced == [chosen.squared_norm for _, chosen in mechanism.vectors]
    assert [name for name, _ in mechanism.vectors] == ["delta", "metrics", "clip_bits"]
    for name, chosen in mechanism.vectors:
        longest = np.full(chosen.dimension, 1e6 if name != "clip_bits" else -1.0, np.float32)
        silent = dataclasses.replace(chosen, local_sigma=0.0, noise_multiplier=0.0)
        for sent in (longest, -longest):
            encoded = silent.encode(sent, system_entropy, bytes(32)).astype(np.int64)
            assert int(encoded @ encoded) <= chosen.squared_norm


def test_sampled_bits_and_update_are_priced_as_one_sampled_gaussian() -> None:
    state = tracking()
    sampled = GaussianEvent(
        noise_multiplier=state.vector_noise_multiplier(1.0),
        releases=5,
        sampling_rate=0.1,
        adjacency=accounting.Adjacency.ADD_OR_REMOVE,
    )
    alone = GaussianEvent(noise_multiplier=1.0, releases=5, sampling_rate=0.1, adjacency=accounting.Adjacency.ADD_OR_REMOVE)
    found, expected = accounting.price(state.event(sampled, dimension=50), 1e-6), accounting.price(alone, 1e-6)
    assert found.epsilon == pytest.approx(expected.epsilon, rel=1e-9)
    assert found.epsilons["exact"] is None


def test_coins_are_independent_of_each_other_and_of_the_leaf() -> None:
    key, size, rate = bytes(range(32)), 20_000, 0.07
    coins = np.array([poisson.joins(key, leaf=leaf, size=size, rate=rate) for leaf in range(40)])
    # 40 counts, each binomial: the chance that any is off by 5 deviations is below 4e-5.
    counts = coins.sum(axis=1)
    assert (np.abs(counts - rate * size) < 5 * math.sqrt(size * rate * (1 - rate))).all()
    together = (coins[:-1] & coins[1:]).sum()
    assert abs(together - 39 * size * rate**2) < 5 * math.sqrt(39 * size * rate**2)
    assert (coins[3] == poisson.joins(key, leaf=3, size=size, rate=rate)).all()
    with pytest.raises(ValueError, match="rate"):
        poisson.joins(key, leaf=0, size=3, rate=0.0)
