"""Lower bounds and estimates of epsilon: published values, a formula of our own, validity by simulation, comparison with the ledger."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from contract import randomness
from privacy import zcdp
from privacy.audit import one_run, random_updates, verdict
from privacy.audit.verdict import Certainty, Finding, Scope, Verdict
from privacy.events import GaussianEvent, TreeEvent, UnboundedEvent


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "epsilon"),
    [(1000, 1000, 1000, 5.8091), (1000, 100, 100, 3.4930), (1000, 1000, 600, 0.29747)],
)
def test_bounds_are_the_published_ones(canaries: int, guesses: int, correct: int, epsilon: float) -> None:
    found = one_run.epsilon_below(canaries=canaries, guesses=guesses, correct=correct, delta=0.0, level=0.05)
    assert found == pytest.approx(epsilon, rel=2e-4)


@pytest.mark.parametrize(("guesses", "correct"), [(50, 45), (200, 150), (10, 10)])
def test_pure_bound_solves_the_binomial_tail_equation(guesses: int, correct: int) -> None:
    found = one_run.epsilon_below(canaries=500, guesses=guesses, correct=correct, delta=0.0, level=0.01)
    assert binom.sf(correct - 1, guesses, 1 / (1 + math.exp(-found))) == pytest.approx(0.01, rel=1e-4)


def test_delta_and_confidence_cost_epsilon() -> None:
    def at(delta: float, level: float) -> float:
        return one_run.epsilon_below(canaries=1000, guesses=500, correct=450, delta=delta, level=level)

    assert at(0.0, 0.05) > at(1e-4, 0.05) > at(1e-4, 1e-4)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="guesses"):
        one_run.epsilon_below(canaries=10, guesses=5, correct=6, delta=0.0, level=0.05)
    assert one_run.epsilon_below(canaries=10, guesses=5, correct=0, delta=0.0, level=0.05) == 0.0


def test_attack_on_a_gaussian_mechanism_stays_below_its_epsilon() -> None:
    """60 attacks at level 0.05 on mu = 1: 3 false alarms expected at most; more than 11 has probability below 1e-4."""
    truth = zcdp.epsilon_exact(0.5, 1e-5)
    bounds: list[float] = []
    for repetition in range(60):
        included = one_run.coins(500, seed=repetition)
        noise = randomness.stream(repetition, "mechanism").normal(size=500)
        bounds.append(one_run.attack(included + noise, included, delta=1e-5, level=0.05).epsilon)
    assert sum(bound > truth for bound in bounds) <= 11
    assert np.median(bounds) > 0.2


def test_attack_without_noise_is_as_good_as_the_number_of_canaries_allows() -> None:
    included = one_run.coins(1000, seed=0)
    found = one_run.attack(included.astype(np.float64), included, delta=1e-6, level=0.05)
    assert found.correct == found.guesses == 900
    assert found.epsilon > 5


def test_coins_are_fair_and_not_fixed_in_number() -> None:
    counts = [int(one_run.coins(100, seed=seed).sum()) for seed in range(50)]
    assert len(set(counts)) > 5
    assert np.mean(counts) == pytest.approx(50, abs=3)


def test_epsilon_of_equal_deviations_is_the_exact_gaussian_one() -> None:
    for mu in (0.3, 1.0, 4.0):
        found = random_updates.epsilon_of_normals(mu * 2.5, 2.5, 0.0, 2.5, 1e-6)
        assert found == pytest.approx(zcdp.epsilon_exact(mu**2 / 2, 1e-6), rel=1e-6)


def test_epsilon_of_unequal_deviations_meets_its_delta_by_integration() -> None:
    m, s, t, delta = 0.7, 1.3, 1.0, 1e-3
    epsilon = random_updates.epsilon_of_normals(m, s, 0.0, t, delta)
    x = np.linspace(-60, 60, 2_000_001)
    p, q = norm.pdf(x, m, s), norm.pdf(x, 0, t)
    both = [np.maximum(a - math.exp(epsilon) * b, 0).sum() * (x[1] - x[0]) for a, b in ((p, q), (q, p))]
    assert max(both) == pytest.approx(delta, rel=1e-3)


def test_random_directions_estimate_the_epsilon_of_a_gaussian_mechanism() -> None:
    dimension, canaries, z = 8_000, 120, 1.0
    noise = randomness.stream(9, "noise").standard_normal(dimension).astype(np.float32) * z
    sent = [random_updates.direction(dimension, "in", i, seed=0) for i in range(canaries)]
    unsent = [random_updates.direction(dimension, "out", i, seed=0) for i in range(canaries)]
    released = np.sum(sent, axis=0) + noise
    found = random_updates.estimate(np.stack(sent) @ released, np.stack(unsent) @ released, delta=1e-5)
    assert found.low < zcdp.epsilon_exact(0.5 / z**2, 1e-5) < found.high


def test_scopes_must_agree_before_anything_is_compared() -> None:
    event = GaussianEvent(noise_multiplier=2.0, releases=1)
    claims = [verdict.claim(event, Scope(delta=1e-5))]
    finding = Finding(measure="one run", certainty=Certainty.BOUND, scope=Scope(delta=1e-6), level=1e-5, epsilon=1.0)
    with pytest.raises(ValueError, match="nothing is claimed"):
        verdict.judge(claims, [finding])


def test_a_canary_of_several_devices_meets_the_group_bound() -> None:
    event = TreeEvent(noise_multiplier=7.0, leaves=2000, minimum_separation=313, max_participations=6)
    alone, four = (verdict.claim(event, Scope(delta=1e-10, devices=m)).epsilon for m in (1, 4))
    assert four == pytest.approx(zcdp.epsilon_exact(16 * 0.806122, 1e-10), rel=1e-3)
    assert four > 4 * alone / 2


def test_bounds_fail_estimates_warn_and_nothing_is_above_no_guarantee() -> None:
    scope = Scope(delta=1e-5)
    claims = [verdict.claim(GaussianEvent(noise_multiplier=2.0, releases=1), scope)]
    bound = Finding(measure="bound", certainty=Certainty.BOUND, scope=scope, level=5e-5, epsilon=50.0)
    guess = Finding(measure="estimate", certainty=Certainty.ESTIMATE, scope=scope, level=0.05, epsilon=50.0)
    assert [one.verdict for one in verdict.judge(claims, [bound, guess])] == [Verdict.FAILED, Verdict.WARNED]
    assert verdict.overall(verdict.judge(claims, [guess])) is Verdict.WARNED
    nothing = [verdict.claim(UnboundedEvent(reason="no noise"), scope)]
    assert verdict.overall(verdict.judge(nothing, [bound, guess])) is Verdict.PASSED


def test_levels_must_fit_the_family() -> None:
    scope = Scope(delta=1e-5)
    claims = [verdict.claim(GaussianEvent(noise_multiplier=2.0, releases=1), scope)]
    finding = Finding(measure="bound", certainty=Certainty.BOUND, scope=scope, level=0.05, epsilon=0.0)
    with pytest.raises(ValueError, match="add up"):
        verdict.judge(claims, [finding])
