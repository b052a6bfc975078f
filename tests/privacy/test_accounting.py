"""Composition, sampling, selection, groups, adaptive clipping, small sums: each against an oracle that shares no code."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.randomness import stream
from privacy import (
    accounting,
    adaptive_clip,
    calibration,
    convolution,
    distributed_curves,
    group,
    sampled,
    scale_tuning,
    selection,
    zcdp,
)
from privacy.adaptive_clip import QuantileState
from privacy.ddg import plan as ddg_plan
from privacy.events import (
    AdaptiveClipEvent,
    Adjacency,
    BandedEvent,
    BltEvent,
    DistributedEvent,
    GaussianEvent,
    Law,
    SelectionEvent,
    TreeEvent,
    UnboundedEvent,
    Unit,
    from_json,
    to_json,
)

POISSON = GaussianEvent(noise_multiplier=1.1, releases=6000, sampling_rate=0.0025, adjacency=Adjacency.ADD_OR_REMOVE)


def small_sum(**changes: object) -> DistributedEvent:
    fields = {
        "mechanism": "ddg",
        "dimension": 4,
        "squared_norm": 9,
        "local_sigma": 0.7,
        "contributors": (20,),
        "participations": 1,
    }
    return DistributedEvent(**{**fields, **changes})  # type: ignore[arg-type]


def test_lines_add_their_rho_and_stay_gaussian():
    tree = TreeEvent(noise_multiplier=7.0, leaves=100, minimum_separation=10)
    bits = GaussianEvent(noise_multiplier=3.0, releases=5)
    together = accounting.price([tree, bits], 1e-6)
    alone = [accounting.price(event, 1e-6).rho for event in (tree, bits)]
    assert together.rho == pytest.approx(sum(alone))
    assert together.epsilons["exact"] == pytest.approx(zcdp.epsilon_exact(sum(alone), 1e-6))


def test_a_line_beside_a_curve_takes_the_generic_conversion_only():
    found = accounting.price([GaussianEvent(noise_multiplier=3.0, releases=5), small_sum(squared_norm=1)], 1e-6)
    assert found.rho is None
    assert found.epsilons["exact"] is None
    assert found.conversion == "generic"


def test_different_units_or_relations_are_never_added():
    tree = TreeEvent(noise_multiplier=1.0, leaves=1)
    for other in (UnboundedEvent(reason="x", unit=Unit.EXAMPLE), POISSON):
        with pytest.raises(ValueError, match="different units or relations"):
            accounting.price([tree, other], 1e-6)


def test_poisson_is_priced_under_add_or_remove_only():
    with pytest.raises(ValueError, match="add-or-remove"):
        GaussianEvent(noise_multiplier=1.0, releases=1, sampling_rate=0.5)


@pytest.mark.parametrize(
    "event",
    [
        GaussianEvent(noise_multiplier=1.0, releases=6, minimum_separation=1),
        TreeEvent(noise_multiplier=1.0, leaves=4, minimum_separation=1),
        BandedEvent(noise_multiplier=1.0, leaves=6, bands=2, minimum_separation=1),
        BltEvent(noise_multiplier=1.0, leaves=6, buf_decay=(0.5,), output_scale=(0.5,), numerical_inflation=0.01),
    ],
    ids=lambda event: event.kind,
)
def test_replacement_is_two_zero_out_steps(event: TreeEvent | GaussianEvent | BandedEvent | BltEvent):
    replaced = dataclasses.replace(event, adjacency=Adjacency.REPLACE)
    half = dataclasses.replace(event, noise_multiplier=event.noise_multiplier / 2)
    assert accounting.price(replaced, 1e-6).rho == pytest.approx(accounting.price(half, 1e-6).rho)
    assert accounting.price(replaced, 1e-6).epsilon == pytest.approx(accounting.price(half, 1e-6).epsilon)
    if isinstance(event, TreeEvent | GaussianEvent):
        bits = AdaptiveClipEvent(
            release=replaced, vector_noise_multiplier=2**0.5, bit_noise_multiplier=2**-0.5, adjacency=Adjacency.REPLACE
        )
        assert accounting.price(bits, 1e-6).rho == pytest.approx(accounting.price(replaced, 1e-6).rho)


@given(
    columns=st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=4, max_size=4),
    first=st.sets(st.integers(0, 3)), second=st.sets(st.integers(0, 3)), signs=st.lists(st.sampled_from([-1, 1]), min_size=8, max_size=8),
)  # fmt: skip
def test_two_participation_patterns_are_nowhere_farther_apart_than_two_steps(
    columns: list[list[int]], first: set[int], second: set[int], signs: list[int]
):
    matrix = np.array(columns, np.float64)
    one = matrix @ [signs[index] if index in first else 0 for index in range(4)]
    other = matrix @ [signs[4 + index] if index in second else 0 for index in range(4)]
    steps = [float(np.linalg.norm(one)), float(np.linalg.norm(other))]
    assert float(np.linalg.norm(one - other)) ** 2 <= 4 * max(steps) ** 2 + 1e-9


@pytest.mark.parametrize("adjacency", [Adjacency.REPLACE, Adjacency.ADD_OR_REMOVE])
def test_noise_from_devices_has_no_price_where_a_device_may_be_missing(adjacency: Adjacency):
    event = DistributedEvent(
        mechanism="skellam",
        dimension=8,
        squared_norm=100,
        local_sigma=10.0,
        contributors=(16,),
        participations=1,
        adjacency=adjacency,
    )
    with pytest.raises(ValueError, match="zero-out"):
        accounting.price(event, 1e-6)


def test_nothing_has_no_price():
    with pytest.raises(ValueError, match="nothing"):
        accounting.price([], 1e-6)


@pytest.mark.slow
def test_dp_sgd_statement_with_one_and_two_examples_a_user():
    rdp = pytest.importorskip("dp_accounting.rdp")
    dp_event = pytest.importorskip("dp_accounting.dp_event")
    plain = rdp.RdpAccountant()
    plain.compose(dp_event.GaussianDpEvent(1.1), 15)
    assert f"{plain.get_epsilon(1e-5):.3f}" == "21.901"  # at that library's fixed orders
    ours = accounting.price(GaussianEvent(noise_multiplier=1.1, releases=15), 1e-5)
    assert 21.9 < ours.epsilons["generic"] <= plain.get_epsilon(1e-5)
    assert f"{accounting.price(POISSON, 1e-5).epsilon:.3f}" == "0.997"
    assert f"{group.approximate(plain.get_epsilon, 1e-5, size=2):.3f}" == "83.575"
    assert f"{group.price(POISSON, 1e-5, size=2).epsilon:.3f}" == "2.228"
    assert group.price(GaussianEvent(noise_multiplier=1.1, releases=15), 1e-5, size=2).epsilon < 57


def test_pld_is_tighter_than_renyi():
    event = GaussianEvent(noise_multiplier=1.0, releases=50, sampling_rate=0.01, adjacency=Adjacency.ADD_OR_REMOVE)
    found = accounting.price(event, 1e-6, pld=True)
    assert found.conversion == "pld"
    assert found.epsilons["pld"] < found.epsilons["generic"]
    assert sampled.epsilon_pld([event, event], 1e-6) > found.epsilon


def test_a_sampling_rate_of_one_is_no_sampling():
    whole = GaussianEvent(noise_multiplier=2.0, releases=3, sampling_rate=1.0, adjacency=Adjacency.ADD_OR_REMOVE)
    plain = GaussianEvent(noise_multiplier=2.0, releases=3)
    assert accounting.price(whole, 1e-6).epsilon == pytest.approx(accounting.price(plain, 1e-6).epsilons["generic"], rel=5e-3)


def test_selection_agrees_with_dp_accounting():
    module = pytest.importorskip("dp_accounting.rdp.rdp_privacy_accountant")
    orders = np.array([4.0, 8.0, 16.0, 32.0, 64.0])
    for shape, stop in ((1.0, 0.1), (0.0, 0.05), (2.0, 0.2)):
        mean = selection.mean_trials(shape=shape, stop_probability=stop)
        dense = np.concatenate([orders, 1 + np.geomspace(0.05, 1000, 400)])
        dense.sort()
        theirs = dict(zip(dense, module._compute_rdp_repeat_and_select(dense, 0.1 * dense, mean, shape), strict=True))
        ours = selection.rdp(lambda alpha: 0.1 * alpha, shape=shape, stop_probability=stop)
        for order in orders[1:]:
            assert ours(float(order)) == pytest.approx(theirs[order], rel=2e-3)


def test_random_stopping_costs_more_than_one_trial_and_less_than_three():
    trial = GaussianEvent(noise_multiplier=5.0, releases=4)
    one = accounting.price(trial, 1e-6).epsilon
    search = accounting.price(SelectionEvent(trial=trial, shape=1.0, stop_probability=0.1), 1e-6)
    assert one < search.epsilon < 3 * one
    event = SelectionEvent(trial=trial, shape=1.0, stop_probability=0.1)
    assert from_json(to_json(event)) == event


def test_trials_have_the_geometric_law():
    generator = stream(1, "trials")
    counts = [selection.draw_trials(lambda n: generator.bytes(n), stop_probability=0.25) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(4, abs=6 * math.sqrt(12 / 4000))


def test_groups_multiply_rho_by_the_square():
    event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    assert f"{group.price(event, 1e-10, size=2).rho:.5f}" == "3.22449"
    assert group.price(event, 1e-10, size=1) == accounting.price(event, 1e-10)
    wide = small_sum(squared_norm=100, local_sigma=5.0)
    assert (
        group.price(wide, 1e-6, size=2).epsilon == accounting.price(small_sum(squared_norm=400, local_sigma=5.0), 1e-6).epsilon
    )


@pytest.mark.parametrize("kind", [TreeEvent, GaussianEvent])
def test_floating_point_noise_never_has_the_exact_conversion(kind: type):
    length = {"leaves": 4} if kind is TreeEvent else {"releases": 4}
    floating, rounded = (kind(noise_multiplier=3.0, law=law, **length) for law in (Law.FLOATING_POINT, Law.ROUNDED_GAUSSIAN))
    mixed = accounting.price([floating, rounded], 1e-6)
    found = accounting.price(floating, 1e-6)
    assert found.epsilons["exact"] is None
    assert found.conversion == "generic"
    assert mixed.epsilons["exact"] is None
    assert accounting.price(rounded, 1e-6).epsilon < found.epsilon
    wrapped = adaptive_clip.combined(floating, vector_multiplier=3.0, bit_noises=[5.0])
    assert accounting.price(wrapped, 1e-6).epsilons["exact"] is None


def test_adaptive_clipping_splits_the_noise_and_costs_the_same():
    multiplier = adaptive_clip.vector_noise_multiplier(1.0, [100 / 20])
    assert f"{multiplier:.7f}" == "1.0050378"
    tree = TreeEvent(noise_multiplier=1.0, leaves=8, restart_every=4, minimum_separation=1)
    event = adaptive_clip.combined(tree, vector_multiplier=multiplier, bit_noises=[5.0], changes_at=[0, 4])
    assert accounting.price(event, 1e-6).rho == pytest.approx(accounting.price(tree, 1e-6).rho)
    assert from_json(to_json(event)) == event
    two = adaptive_clip.vector_noise_multiplier(1.0, [5.0, 4.0])
    both = adaptive_clip.combined(tree, vector_multiplier=two, bit_noises=[5.0, 4.0])
    assert accounting.price(both, 1e-6).rho == pytest.approx(accounting.price(tree, 1e-6).rho)


def test_bits_that_cost_too_much_and_clips_inside_a_tree_are_refused():
    with pytest.raises(ValueError, match="raise their noise"):
        adaptive_clip.vector_noise_multiplier(10.0, [5.0])
    tree = TreeEvent(noise_multiplier=1.0, leaves=8, restart_every=4)
    with pytest.raises(ValueError, match="restart"):
        adaptive_clip.combined(tree, vector_multiplier=1.0, bit_noises=[5.0], changes_at=[3])


def test_the_estimate_finds_the_quantile_under_noise():
    generator = stream(2, "norms")
    for quantile in (0.5, 0.98):
        state = QuantileState(estimate=0.1, target_quantile=quantile, learning_rate=0.2)
        for _ in range(300):
            norms = generator.lognormal(0.0, 0.5, 400)
            bits = sum(adaptive_clip.bit(norm, state) for norm in norms)
            state = adaptive_clip.update(state, noised_sum=bits + generator.normal(0, 2 * 20), devices=400)
        below = np.mean(stream(3, "fresh").lognormal(0.0, 0.5, 100_000) <= state.estimate)
        assert below == pytest.approx(quantile, abs=0.05)


def test_published_tau():
    found = [distributed_curves.tau(100, sigma) for sigma in (0.3, 0.5, 0.7, 1.0, 1.5)]
    assert [f"{value:.{digits}}" for value, digits in zip(found, ("5", "4", "5", "4", "3"), strict=True)] == [
        "182.2", "9.701", "0.19141", "0.0005478", "2.27e-09",
    ]  # fmt: skip
    assert f"{found[0]:.2f}" == "182.20"


def test_continuous_gaussian_at_whole_orders():
    bound = min(zcdp.rdp_bound(alpha / 2, alpha, 1e-5) for alpha in range(2, 257))
    assert f"{bound:.4f}" == "4.7527"


def test_the_sum_of_narrow_noises_is_nearly_gaussian_and_its_convolution_says_so():
    ratio = convolution.rdp(2, squared_norm=1, local_sigma=0.7, contributors=100) * 0.7**2 * 100
    assert f"{ratio:.4f}" == "1.0024"
    exact, published = (
        accounting.price(small_sum(dimension=64, squared_norm=25, contributors=(100,)), 1e-5).epsilon,
        zcdp_of_published(dimension=64, squared_norm=25, contributors=100),
    )
    assert exact < published / 2


def zcdp_of_published(*, dimension: int, squared_norm: int, contributors: int) -> float:
    return min(
        zcdp.rdp_bound(
            distributed_curves.discrete_gaussian(
                alpha, squared_norm=squared_norm, dimension=dimension, local_sigma=0.7, contributors=contributors
            ),
            alpha,
            1e-5,
        )
        for alpha in range(2, 257)
    )


def exact_masses(mechanism: str, sigma: float, count: int, reach: int) -> np.ndarray:
    """Masses of the sum by plain polynomial powers."""
    x = np.arange(-reach, reach + 1)
    if mechanism == "ddg":
        one = np.exp(-(x**2) / (2 * sigma**2))
        one /= one.sum()
        total = np.array([1.0])
        for _ in range(count):
            total = np.convolve(total, one)
        return total
    from scipy.special import ive

    wide = np.arange(-reach * count, reach * count + 1)
    return ive(np.abs(wide), count * sigma**2)


@pytest.mark.parametrize("mechanism", ["ddg", "skellam"])
@pytest.mark.parametrize(("sigma", "count"), [(0.7, 6), (1.2, 3), (2.0, 4)])
def test_small_sums_cost_at_most_what_is_charged(mechanism: str, sigma: float, count: int):
    """Every integer change of squared norm up to 9 in three coordinates, enumerated: its true divergence is below the curve."""
    masses = exact_masses(mechanism, sigma, count, 40)
    logs = np.log(np.maximum(masses, 1e-300))
    event = small_sum(mechanism=mechanism, dimension=3, squared_norm=9, local_sigma=sigma, contributors=(count,))
    curve = distributed_curves.rdp(event)

    def one(alpha: int, shift: int) -> float:
        if shift == 0:
            return 0.0
        use = slice(60, len(masses) - 60)
        moved = np.roll(logs, shift)
        keep = (logs[use] > -600) & (moved[use] > -600)
        return math.log(np.exp(alpha * moved[use] + (1 - alpha) * logs[use])[keep].sum()) / (alpha - 1)

    for alpha in (2, 3, 5):
        shifts = {shift: one(alpha, shift) for shift in range(4)}
        worst = max(
            sum(shifts[abs(v)] for v in change)
            for change in itertools.product(range(-3, 4), repeat=3)
            if 0 < sum(v * v for v in change) <= 9
        )
        assert worst <= curve(alpha) * (1 + 1e-9)


@given(alpha=st.floats(1.01, 30), sigma=st.floats(0.5, 5))
@settings(max_examples=50, deadline=None)
def test_curves_between_whole_orders_never_fall_below_their_chord(alpha: float, sigma: float):
    curve = distributed_curves.rdp(small_sum(mechanism="skellam", local_sigma=sigma))
    low = max(2, math.floor(alpha))
    assert curve(float(low)) <= curve(low + 0.5) + 1e-12 <= curve(low + 1.0) + 2e-12
    assert curve(alpha) >= 0


def test_rounds_that_a_budget_allows():
    def event(rounds: int) -> TreeEvent:
        return TreeEvent(noise_multiplier=7.0, leaves=rounds, minimum_separation=313)

    allowed = calibration.rounds(event, epsilon=8.0, delta=1e-10, most=5000)
    assert accounting.price(event(allowed), 1e-10).epsilon <= 8 < accounting.price(event(allowed + 1), 1e-10).epsilon
    assert calibration.rounds(event, epsilon=0.01, delta=1e-10, most=5000) == 0
    with pytest.raises(ValueError, match="no noise multiplier"):
        calibration.noise_multiplier(lambda z: UnboundedEvent(reason="x"), epsilon=1.0, delta=1e-6)


def test_scale_follows_released_sums_and_leaves_the_price_alone():
    plan = ddg_plan(dimension=4096, clip_norm=1.0, noise_multiplier=0.5, devices=200, bits=12)
    raw = stream(4, "sum").normal(size=4096)
    released = 10 * raw / np.linalg.norm(raw) + stream(5, "noise").normal(0, plan.sum_variance(200) ** 0.5, 4096)
    finer = scale_tuning.retuned(plan, plan, released, survivors=200)
    assert finer.scale / plan.scale > 1.3
    assert finer.local_sigma / finer.scale < plan.local_sigma / plan.scale
    assert finer.local_sigma / finer.inflated_norm == pytest.approx(plan.local_sigma / plan.inflated_norm)
    assert accounting.price(finer.event(200), 1e-6).epsilon <= accounting.price(plan.event(200), 1e-6).epsilon
    assert 10 < finer.sum_norm < 200
    assert 10 <= scale_tuning.sum_norm_estimate(released, noise_variance=plan.sum_variance(200)) < 80
