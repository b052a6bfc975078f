"""Four faults put into the central mechanism on purpose, each caught by a measure whose power is stated; the sound one passes.

The fault is in the noise that is added or in the sum that it is added to; the measure sees releases alone. Level: 1e-4 over all four.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy import central
from privacy.audit import conformance, random_updates, verdict
from privacy.central import CentralPlan
from privacy.noise import NoiseStream

LEVEL = verdict.level_of_each(4)
DIMENSION, ROUNDS, CLIP, MULTIPLIER = 2_000, 8, 1.0, 2.0


def _plan(noise_multiplier: float = MULTIPLIER, separation: int = 3) -> CentralPlan:
    return central.plan(
        mechanism="gaussian",
        dimension=DIMENSION,
        clip_norm=CLIP,
        noise_multiplier=noise_multiplier,
        rounds=ROUNDS,
        minimum_separation=separation,
    )


def _releases(stream: NoiseStream, sums: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Each round's noised sum in grid steps, float64, shape (ROUNDS, d); of zero updates unless given."""
    known = np.zeros((ROUNDS, DIMENSION), np.int64) if sums is None else sums
    # Independent noise: the running total of sums and noises is released, so that each round's part is a difference.
    return np.stack([known[leaf] + stream.next() for leaf in range(ROUNDS)]).astype(np.float64)


def _canary(plan: CentralPlan, times_clip: float = 1.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One canary device's update in grid steps and its direction; beyond the clip if `times_clip` says so."""
    unit = random_updates.direction(DIMENSION, "canary", seed=1)
    steps = np.sqrt(plan.grid.norm_bound_squared) * times_clip * unit
    return np.rint(steps).astype(np.int64), unit.astype(np.float64)


def test_the_sound_mechanism_passes_all_four_measures() -> None:
    plan = _plan()
    vector, unit = _canary(plan)
    bound = float(np.sqrt(plan.grid.norm_bound_squared))
    sums = np.zeros((ROUNDS, DIMENSION), np.int64)
    sums[[0, 4]] = vector
    silent = _releases(plan.stream(b"\x01" * 32))
    heard = _releases(plan.stream(b"\x02" * 32), sums)
    assert conformance.noise_scale_p_value(silent, sigma=plan.sigma) > LEVEL
    assert conformance.noise_reuse_p_value(silent[0], silent[1]) > LEVEL
    assert conformance.sensitivity_p_value(float(heard[0] @ unit), bound=bound, sigma=plan.sigma) > LEVEL
    total = float(heard.sum(axis=0) @ unit)
    assert conformance.sensitivity_p_value(total, bound=2 * bound, sigma=plan.sigma * np.sqrt(ROUNDS)) > LEVEL


def test_noise_of_half_the_claimed_scale_is_caught_by_its_variance_on_zero_updates() -> None:
    claimed, added = _plan(), _plan(noise_multiplier=MULTIPLIER / 2)
    noise = _releases(added.stream(b"\x03" * 32))
    assert conformance.noise_scale_p_value(noise, sigma=claimed.sigma) < LEVEL
    assert conformance.noise_scale_power(draws=noise.size, ratio=0.5, level=LEVEL) > 1 - 1e-9
    assert conformance.noise_scale_power(draws=noise.size, ratio=0.95, level=LEVEL) > 0.999


def test_skipped_clipping_of_one_device_is_caught_along_its_direction() -> None:
    plan = _plan()
    vector, unit = _canary(plan, times_clip=20.0)
    sums = np.zeros((ROUNDS, DIMENSION), np.int64)
    sums[0] = vector
    released = _releases(plan.stream(b"\x04" * 32), sums)
    bound = float(np.sqrt(plan.grid.norm_bound_squared))
    assert conformance.sensitivity_p_value(float(released[0] @ unit), bound=bound, sigma=plan.sigma) < LEVEL
    assert conformance.sensitivity_power(excess=19 * bound, sigma=plan.sigma, level=LEVEL) > 0.999
    assert not plan.grid.accepts(vector.astype(np.int32))  # and the server itself refuses it


def test_ignored_separation_is_caught_by_the_total_over_all_rounds() -> None:
    """A canary in all 8 rounds where the separation allows 2: an excess of 6 clips against noise of z sqrt(8) clips."""
    plan = _plan(noise_multiplier=0.2)
    vector, unit = _canary(plan)
    bound = float(np.sqrt(plan.grid.norm_bound_squared))
    released = _releases(plan.stream(b"\x05" * 32), np.broadcast_to(vector, (ROUNDS, DIMENSION)))
    deviation = plan.sigma * np.sqrt(ROUNDS)
    assert conformance.sensitivity_p_value(float(released.sum(axis=0) @ unit), bound=2 * bound, sigma=deviation) < LEVEL
    assert conformance.sensitivity_power(excess=6 * bound, sigma=deviation, level=LEVEL) > 0.999


def test_noise_used_twice_is_caught_by_its_correlation() -> None:
    plan = _plan()
    again = _releases(plan.stream(b"\x06" * 32))
    assert conformance.noise_reuse_p_value(again[0], _releases(plan.stream(b"\x06" * 32))[0]) < LEVEL
    # Even where the second use is hidden under as much fresh noise (correlation 0.71) ...
    assert conformance.noise_reuse_p_value(again[0], again[0] + again[1]) < LEVEL
    # ... and down to a correlation of 0.15.
    assert conformance.noise_reuse_power(draws=DIMENSION, share=0.15, level=LEVEL) > 0.98


@pytest.mark.parametrize("ratio", [0.9, 0.95])
def test_stated_power_of_the_variance_test_is_its_rejection_rate(ratio: float) -> None:
    """400 repetitions: the rate is within 0.11 of the power but for a chance below 1e-4."""
    from contract import randomness

    generator = randomness.stream(7, "power")
    draws, level = 300, 0.01
    rejected = np.mean(
        [conformance.noise_scale_p_value(generator.normal(0, ratio, draws), sigma=1.0) <= level for _ in range(400)]
    )
    assert rejected == pytest.approx(conformance.noise_scale_power(draws=draws, ratio=ratio, level=level), abs=0.11)


def test_reuse_and_sensitivity_tests_keep_their_level() -> None:
    """400 repetitions at level 0.05: 20 expected; above 38 has probability below 1e-4."""
    from contract import randomness

    generator = randomness.stream(8, "level")
    pairs = [generator.normal(size=(2, 50)) for _ in range(400)]
    assert sum(conformance.noise_reuse_p_value(first, second) <= 0.05 for first, second in pairs) <= 38
    seen = generator.normal(1.0, 2.0, 400)
    assert sum(conformance.sensitivity_p_value(float(x), bound=1.0, sigma=2.0) <= 0.05 for x in seen) <= 38


def test_nothing_to_test_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma"):
        conformance.noise_scale_p_value(np.zeros(3), sigma=0.0)
    with pytest.raises(ValueError, match="vectors"):
        conformance.noise_reuse_p_value(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="sigma"):
        conformance.sensitivity_p_value(1.0, bound=1.0, sigma=0.0)
