"""zCDP conversions: the published values, a numeric oracle, and their order."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from privacy import zcdp
from privacy.report.tiers import tier


@pytest.mark.parametrize(
    ("rho", "delta", "generic", "exact"),
    [(79 / 98, 1e-10, "8.8985", "8.526"), (87 / 98, 1e-10, "9.389", "8.998"), (0.81, 1e-10, "8.922", "8.549")],
)
def test_published_epsilons(rho: float, delta: float, generic: str, exact: str):
    assert f"{zcdp.epsilon_generic(rho, delta):.{len(generic) - 2}f}" == generic
    assert f"{zcdp.epsilon_exact(rho, delta):.{len(exact) - 2}f}" == exact


def test_loose_bound_of_2016_and_the_banded_case():
    assert f"{zcdp.epsilon_loose(0.81, 1e-10):.3f}" == "9.447"
    assert f"{zcdp.epsilon_exact(0.15068403, 1e-10):.4f}" == "3.4240"


@pytest.mark.parametrize(
    ("rho", "epsilon", "name"), [(0.014355, "0.994", "strong"), (1.8603, "13.69", "weak")], ids=["strongest", "weakest"]
)
def test_range_of_the_published_fleet_is_that_of_the_exact_conversion(rho: float, epsilon: str, name: str):
    """30+ models between epsilon 0.994 and 13.69 at 1e-10. Their rho is inferred; a round 1.86 gives the printed 13.69."""
    assert f"{zcdp.epsilon_exact(rho, 1e-10):.{len(epsilon.split('.')[1])}f}" == epsilon
    assert tier(float(epsilon)).startswith(name)
    assert f"{zcdp.epsilon_exact(1.86, 1e-10):.2f}" == "13.69"


@pytest.mark.parametrize(
    ("epsilon", "exact", "generic"), [(1.0, "0.014522", "0.013243"), (10.0, "1.0717", "0.99389")], ids=["tier 1", "tier 2"]
)
def test_tier_edges(epsilon: float, exact: str, generic: str):
    for text, conversion in ((exact, zcdp.epsilon_exact), (generic, zcdp.epsilon_generic)):
        found = zcdp.rho_for(epsilon, 1e-10, conversion)
        assert f"{found:.{len(text) - 2}f}" == text
        assert conversion(found, 1e-10) <= epsilon < conversion(found * (1 + 1e-9), 1e-10)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 0.2), (1.0, 1.0), (1.5, 0.0), (2.0, 3.0)])
def test_exact_delta_equals_the_integral_of_the_hockey_stick(mu: float, epsilon: float):
    def excess(x: float) -> float:
        return max(0.0, stats.norm.pdf(x - mu) - math.exp(epsilon) * stats.norm.pdf(x))

    total, _ = integrate.quad(excess, -10, 14, limit=400, points=[epsilon / mu + mu / 2])
    assert math.exp(zcdp.log_delta_exact(mu**2 / 2, epsilon)) == pytest.approx(total, rel=1e-7)


@given(rho=st.floats(1e-5, 30), log_delta=st.floats(-30, -1))
@settings(max_examples=60, deadline=None)
def test_exact_is_at_most_generic_is_at_most_loose(rho: float, log_delta: float):
    delta = math.exp(log_delta)
    exact, generic = zcdp.epsilon_exact(rho, delta), zcdp.epsilon_generic(rho, delta)
    assert exact <= generic * (1 + 1e-9) + 1e-12
    assert generic <= zcdp.epsilon_loose(rho, delta) * (1 + 1e-9)
    grid = min(zcdp.rdp_bound(a * rho, a, delta) for a in (1 + 10 ** (x / 200) for x in range(-600, 1400)))
    assert generic == pytest.approx(max(0.0, grid), rel=2e-4, abs=1e-9)


def test_distance_of_the_sampler_raises_epsilon_and_eats_delta():
    def at(delta: float) -> float:
        return zcdp.epsilon_exact(0.5, delta)

    plain, distant = zcdp.with_distance(at, 1e-6, 0.0), zcdp.with_distance(at, 1e-6, 1e-9)
    assert distant > plain == at(1e-6)
    assert math.exp(zcdp.log_delta_exact(0.5, distant)) + 1e-9 * (1 + math.exp(distant)) <= 1e-6 * (1 + 1e-9)
    assert zcdp.with_distance(at, 1e-6, 1e-7) == math.inf


@pytest.mark.parametrize(("rho", "delta"), [(-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_values_that_no_guarantee_has_are_refused(rho: float, delta: float):
    for conversion in (zcdp.epsilon_exact, zcdp.epsilon_generic, zcdp.epsilon_loose):
        with pytest.raises(ValueError, match="must"):
            conversion(rho, delta)
