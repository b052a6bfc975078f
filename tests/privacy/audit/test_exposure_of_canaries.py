"""Exposure against the numbers of the papers, and the fitted law against an integral of its density."""

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import skewnorm

from contract import randomness
from privacy.audit import exposure, skew_normal


def test_references_1_to_16_give_the_exposures_of_the_specification() -> None:
    perplexities = np.array([0.1, 3.5, 20.0])
    bits = exposure.sampled_bits(-perplexities, -np.arange(1.0, 17.0))
    np.testing.assert_allclose(bits, [4.0, 2.0, np.log2(16 / 17)])


def test_rank_1_is_censored_and_nothing_else() -> None:
    found, _ = exposure.exposures(np.array([9.0, 1.5]), np.linspace(-2, 2, 16))
    assert [one.censored for one in found] == [True, False]
    assert found[0].bits == 4.0


def test_ties_count_against_the_canary() -> None:
    assert exposure.ranks(np.array([1.0]), np.array([1.0, 1.0, 0.0])).tolist() == [3]


def test_exposure_of_unseen_canaries_has_mean_1_44_and_99th_percentile_6_64() -> None:
    generator = randomness.stream(5, "null")
    bits = exposure.sampled_bits(generator.normal(size=20_000), generator.normal(size=200_000))
    assert bits.mean() == pytest.approx(exposure.null_mean_bits(), abs=0.06)
    assert np.quantile(bits, 0.99) == pytest.approx(exposure.null_quantile_bits(0.99), abs=0.35)


def test_null_p_value_is_uniform_over_the_ranks() -> None:
    assert sum(exposure.null_p_value(rank, 9) <= 0.3 for rank in range(1, 11)) == 3


@pytest.mark.parametrize("alpha", [-4.0, -0.5, 0.0, 1.0, 6.0])
def test_log_survival_is_the_integral_of_the_density(alpha: float) -> None:
    law = skew_normal.SkewNormal(xi=-3.0, omega=2.0, alpha=alpha)
    for x in (-6.0, -3.0, 0.0, 3.0):
        tail, _ = integrate.quad(
            lambda v: skewnorm.pdf(v, alpha, loc=-3.0, scale=2.0), x, np.inf, epsabs=0, epsrel=1e-10, limit=500
        )
        assert float(law.log_survival(np.array([x]))[0]) == pytest.approx(np.log(tail), abs=1e-7)


def test_log_survival_does_not_underflow_and_falls() -> None:
    law = skew_normal.SkewNormal(xi=0.0, omega=1.0, alpha=-3.0)
    tail = law.log_survival(np.array([1.0, 10.0, 60.0]))
    assert np.all(np.isfinite(tail))
    assert np.all(np.diff(tail) < 0)


def test_fit_recovers_a_skew_normal() -> None:
    scores = skewnorm.rvs(-3.0, loc=-40.0, scale=8.0, size=20_000, random_state=randomness.stream(1, "law"))
    law = skew_normal.fit(scores)
    assert law.alpha == pytest.approx(-3.0, rel=0.15)
    assert law.omega == pytest.approx(8.0, rel=0.05)
    assert law.distance < 0.012


def test_extrapolation_agrees_with_sampling_where_both_are_valid() -> None:
    generator = randomness.stream(2, "law")
    scores = skewnorm.rvs(-2.0, size=100_000, random_state=generator)
    canaries = np.quantile(scores, [0.5, 0.9, 0.99, 0.999])
    bits = exposure.extrapolated_bits(canaries, skew_normal.fit(scores))
    np.testing.assert_allclose(bits, exposure.sampled_bits(canaries, scores), atol=0.25)


@pytest.mark.parametrize(
    ("scores", "references"), [(np.zeros(1), np.zeros(0)), (np.array([np.nan]), np.zeros(3)), (np.zeros(1), np.array([np.nan]))]
)
def test_nothing_to_rank_against_is_refused(scores: np.ndarray, references: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"reference|not a number"):
        exposure.ranks(scores, references)


@pytest.mark.parametrize("references", [np.zeros(7), np.ones(100)])
def test_no_law_is_fitted_to_nothing(references: np.ndarray) -> None:
    with pytest.raises(ValueError, match="references"):
        skew_normal.fit(references)


def test_a_law_that_does_not_fit_is_not_extrapolated() -> None:
    generator = randomness.stream(6, "two heaps")
    references = np.concatenate([generator.normal(-1, 1e-3, 200), generator.normal(-20, 1e-3, 200)])
    found, law = exposure.exposures(np.array([5.0]), references)
    assert not exposure.fits(law, 400)
    assert found[0].extrapolated_bits == found[0].bits
